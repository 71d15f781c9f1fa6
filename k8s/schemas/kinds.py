"""Holds a document against the schema of its kind, so that a key which nobody reads is an error."""

import functools
import json
import subprocess
from pathlib import Path

from kubernetes_validate import utils

# The oldest version that these files are for, and the newest whose schemas are known.
VERSIONS = ("1.27", "1.37")

CUSTOM = "monitoring.coreos.com/"
PATCH = ".patch.yaml"

# kustomize's own files: it has no schema to be had, and they use a part of it.
_GENERATOR = {"name": str, "files": [str]}
KUSTOMIZATION = {
    "apiVersion": str,
    "kind": str,
    "resources": [str],
    "components": [str],
    "labels": [{"pairs": dict}],
    "patches": [{"path": str}],
    "configMapGenerator": [_GENERATOR],
    "images": [{"name": str, "newName": str, "newTag": str}],
}
KUSTOMIZATIONS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}

_read = functools.lru_cache(maxsize=None)(utils.schema_contents)
utils.all_versions = functools.lru_cache(maxsize=None)(utils.all_versions)


@functools.lru_cache(maxsize=None)
def _read_for_patches(filename, version):
    """Nothing is required of a patch, and null, which takes something away, may stand for anything."""

    def loosen(schema):
        if isinstance(schema, list):
            return [loosen(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        # `required` and `properties` are names of properties too: those are no list, and no schema's own.
        loose = {key: loosen(value) for key, value in schema.items() if not (key == "required" and isinstance(value, list))}
        if schema.get("type") in ("object", ["object", "null"]) and isinstance(schema.get("properties"), dict):
            loose["properties"] = {
                key: {"anyOf": [{"type": "null"}, value]} for key, value in loose["properties"].items()
            }
        return loose

    return loosen(_read(filename, version))


def complaints(document, patch=False, versions=VERSIONS):
    """What is wrong with a document of Kubernetes' own kinds, or of kustomize's. A patch may leave out anything."""
    if not isinstance(document, dict):
        return ["it is no mapping"]
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key), str):
            return [f"{key} is missing"]
    if document["kind"] in KUSTOMIZATIONS:
        return list(_kustomization(document))
    utils.schema_contents = _read_for_patches if patch else _read
    found = []
    for version in versions:
        try:
            utils.validate(document, version, strict=True)
        except utils.ValidationError as error:
            found.append(f"{'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})")
        except utils.SchemaNotFoundError as error:
            found.append(error.message)
    return found


def _kustomization(document):
    wanted = KUSTOMIZATIONS[document["kind"]]
    if document["apiVersion"] != wanted:
        yield f"apiVersion is not {wanted}"
    yield from _shape(document, KUSTOMIZATION, "")


def _shape(value, shape, path):
    if isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{path} is no list"
            return
        for index, item in enumerate(value):
            yield from _shape(item, shape[0], f"{path}[{index}]")
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{path} is no mapping"
            return
        for key, item in value.items():
            if key not in shape:
                yield f"{path}: the key {key!r} is not one of {', '.join(shape)}"
                continue
            yield from _shape(item, shape[key], f"{path}.{key}")
    elif not isinstance(value, shape):
        yield f"{path} is no {shape.__name__}"


def is_custom(document):
    """Of a kind of the Prometheus operator."""
    return isinstance(document, dict) and str(document.get("apiVersion")).startswith(CUSTOM)


def custom_complaints(documents, node, modules):
    """The same for kinds of the Prometheus operator: a list for each of the documents."""
    program = Path(__file__).with_name("custom.mjs")
    ended = subprocess.run(
        [node, program, Path(modules).resolve()], input=json.dumps(documents), capture_output=True, text=True, timeout=60
    )
    if ended.returncode != 0:
        raise SystemExit(f"k8s/check: {program.name} failed:\n{ended.stderr}")
    return json.loads(ended.stdout)
