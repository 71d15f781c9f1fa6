"""Reads YAML files as Kubernetes does, and knows which keys of a document are names that a schema fixes."""

import yaml


class Loader(yaml.SafeLoader):
    """Without what Kubernetes would read in another way than a person: a key that stands twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def parse(text):
    """All documents of a text. Raises `yaml.YAMLError`."""
    return [document for document in yaml.load_all(text, Loader=Loader) if document is not None]


# Below these keys names are anybody's own; whether they fit together is looked at by `references`.
FREE = {"annotations", "labels", "pairs", "matchLabels", "stringData", "data", "requests", "limits"}


def keys(text):
    """Where each key stands that a schema fixes: pairs of its name and the position right behind it."""
    found = {}
    for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
        kind = next((value.value for key, value in document.value if key.value == "kind"), None)
        _walk(document, found, kind)
    return sorted((position, name) for position, name in found.items())


def _walk(node, found, kind):
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _walk(item, found, kind)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        # What an alias repeats stands in one place.
        found[key.end_mark.index] = key.value
        # A Service's selector is labels, everybody else's has keys of its own; and kustomize's labels are a list with keys.
        is_free = key.value in FREE and isinstance(value, yaml.MappingNode)
        if is_free or (key.value == "selector" and kind == "Service"):
            continue
        _walk(value, found, kind)
