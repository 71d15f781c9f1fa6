"""Every YAML file of k8s/ against the schemas of its kinds, and what an overlay makes of them against each other.

And itself: a key that is misspelt, whichever it is, has to be found. Exit codes: 0 all is well; 1 not so.
"""

import argparse
import copy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import kinds
import references
import yaml
from documents import keys, parse

K8S = Path(__file__).resolve().parent.parent
ROOT = K8S.parent
OVERLAYS = ("overlays/trial", "overlays/external-redis", "overlays/sentinel", "overlays/cluster")


class Checker:
    """Collects what is wrong with texts of files. Kinds of the Prometheus operator are looked at all together, at the end."""

    def __init__(self, options):
        self.options = options
        self.custom = []

    def wrong(self, name, text, versions=kinds.VERSIONS):
        """What is wrong with a file, but for the custom kinds in it, which are kept under its name."""
        try:
            documents = parse(text)
        except yaml.YAMLError as error:
            return [f"{name}: {error}"]
        found = []
        for document in documents:
            if kinds.is_custom(document):
                self.custom.append((name, document))
                continue
            patch = name.endswith(kinds.PATCH)
            found += [f"{name}: {complaint}" for complaint in kinds.complaints(document, patch, versions)]
        return found

    def wrong_custom(self):
        """What is wrong with what was kept: pairs of the name and a list."""
        answers = kinds.custom_complaints([each for _, each in self.custom], self.options.node, self.options.modules)
        return [(name, [f"{name}: {each}" for each in found]) for (name, _), found in zip(self.custom, answers)]


def files():
    """All YAML files, by their names from k8s/."""
    return {str(path.relative_to(K8S)): path.read_text() for path in sorted(K8S.rglob("*.yaml"))}


def kustomize():
    """The command that puts an overlay together, where there is one."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def put_together(command, folder):
    """What `command` makes of an overlay."""
    ended = subprocess.run([*command, folder], capture_output=True, text=True, timeout=60)
    if ended.returncode != 0:
        raise SystemExit(f"k8s/check: {folder} cannot be put together:\n{ended.stderr}")
    return ended.stdout


def overlays(command, checker):
    """Each overlay, put together: as `Whole` by its name; and what is wrong with it."""
    wholes, found = {}, []
    for overlay in OVERLAYS:
        text = put_together(command, K8S / overlay)
        found += checker.wrong(f"{overlay} put together", text)
        wholes[overlay] = references.Whole(parse(text), parse((K8S / overlay / "secret.example.yaml").read_text()))
        found += [f"{overlay}: {each}" for each in references.complaints(wholes[overlay], ROOT)]
    if parse(put_together(command, K8S)) != wholes["overlays/trial"].all:
        found.append("kustomization.yaml: k8s is not overlays/trial")
    return wholes, found


def misspelt_and_not_found(checker, texts):
    """Every key of every file, misspelt in a copy of it: those that nobody would have noticed."""
    passed, custom = [], Checker(checker.options)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            for position, key in keys(text):
                count += 1
                copied = Path(folder) / Path(name).name
                copied.write_text(text[:position] + "x" + text[position:])
                where = f"{name}:{text.count(chr(10), 0, position) + 1}: {key}"
                before = len(custom.custom)
                one = Checker(checker.options)
                found = one.wrong(copied.name, copied.read_text(), kinds.VERSIONS[-1:])
                kept = [document for _, document in one.custom]
                # Of the file's custom documents only the one that was misspelt can have anything wrong: all are asked.
                custom.custom += [(where, document) for document in kept]
                if not found and len(custom.custom) == before:
                    passed.append(where)
                elif found:
                    del custom.custom[before:]
    told = {}
    for where, found in custom.wrong_custom():
        told[where] = told.get(where, False) or bool(found)
    passed += [where for where, was in told.items() if not was]
    return count, passed


# Of each check of references.py one way to break what it is about: an overlay, a kind, a name, and what is done to it.
BROKEN = [
    ("trial", "Deployment", "sse-gateway", lambda each: each["spec"]["selector"]["matchLabels"].update(a="b")),
    ("trial", "Deployment", "sse-gateway", lambda each: each["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=30)),
    ("trial", "Deployment", "sse-gateway", lambda each: _container(each)["env"].append({"name": "SSE_GATEWAY__RETRIES", "value": "1"})),
    ("trial", "Deployment", "sse-gateway", lambda each: _container(each)["livenessProbe"]["httpGet"].update(port="admin")),
    ("trial", "Deployment", "sse-publisher", lambda each: _container(each).update(image="sse-cluster")),
    ("trial", "Deployment", "sse-publisher", lambda each: _container(each)["resources"]["limits"].update(memry="1Gi")),
    ("trial", "Deployment", "sse-publisher", lambda each: each["spec"]["template"]["spec"]["volumes"][0]["configMap"].update(name="a")),
    ("trial", "StatefulSet", "sse-redis", lambda each: _container(each)["env"][0]["valueFrom"]["secretKeyRef"].update(key="a")),
    ("trial", "Service", "sse-publisher", lambda each: each["spec"]["ports"][0].update(targetPort="htttp")),
    ("trial", "PodDisruptionBudget", "sse-gateway", lambda each: each["spec"]["selector"]["matchLabels"].update(a="b")),
    ("trial", "NetworkPolicy", "sse-redis", lambda each: each["spec"]["ingress"][0]["ports"][0].update(port=6380)),
    ("trial", "NetworkPolicy", "sse-to-redis", lambda each: each["spec"]["podSelector"]["matchExpressions"][0].update(values=["a"])),
    ("external-redis", "HorizontalPodAutoscaler", "sse-gateway", lambda each: each["spec"]["scaleTargetRef"].update(name="a")),
    ("external-redis", "Deployment", "sse-gateway", lambda each: each["spec"].update(replicas=2)),
    ("external-redis", "Ingress", "sse", lambda each: each["metadata"]["annotations"].update({"nginx.ingress.kubernetes.io/proxy-bufering": "off"})),
    ("external-redis", "Ingress", "sse", lambda each: each["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="a")),
    ("external-redis", "ServiceMonitor", "sse", lambda each: each["spec"]["endpoints"][0].update(port="http")),
    ("external-redis", "ServiceMonitor", "sse", lambda each: each["spec"]["selector"]["matchLabels"].update(a="b")),
    ("sentinel", "Deployment", "sse-publisher", lambda each: _container(each)["env"][0]["valueFrom"]["secretKeyRef"].update(key="a")),
    ("cluster", "Deployment", "sse-gateway", lambda each: _container(each)["env"][0].update(name="SSE_GATEWAY__REDIS__PARTITION")),
]


def _container(workload):
    return workload["spec"]["template"]["spec"]["containers"][0]


def broken_and_not_found(wholes):
    """Those of `BROKEN` that nobody would have noticed."""
    for number, (overlay, kind, name, breaks) in enumerate(BROKEN):
        whole = copy.copy(wholes[f"overlays/{overlay}"])
        whole.all = copy.deepcopy(whole.all)
        breaks(next(each for each in whole.of(kind) if each["metadata"]["name"] == name))
        if not any(references.complaints(whole, ROOT)):
            yield f"{overlay}: {kind} {name}, broken by number {number} of BROKEN"


def main():
    """Flags, order and the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", required=True, help="the program")
    parser.add_argument("--modules", required=True, help="the folder node_modules")
    checker = Checker(parser.parse_args())

    texts = files()
    found = [complaint for name, text in texts.items() for complaint in checker.wrong(name, text)]
    command = kustomize()
    wholes = {}
    if command:
        wholes, more = overlays(command, checker)
        found += more
    else:
        print("overlays of k8s/ are not put together: no kustomize, no kubectl", file=sys.stderr)
    found += [complaint for _, complaints in checker.wrong_custom() for complaint in complaints]
    if not found:
        count, passed = misspelt_and_not_found(checker, texts)
        passed += broken_and_not_found(wholes) if wholes else []
        found = [f"nobody would have noticed a fault: {each}" for each in passed]
        if count < 300:
            found.append(f"only {count} keys were misspelt: are files missing?")
    for complaint in found:
        print(f"k8s/{complaint}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
