"""Whether what is put together fits together: names that no schema knows, and that Kubernetes takes as they are."""

import re
import tomllib

# Where each program's defaults stand; a test holds them to the code.
CONFIG = {"sse-gateway": "config/gateway.toml", "sse-publisher": "config/publisher.toml"}

# A misspelt annotation is one that the controller does not know, and says nothing of.
ANNOTATIONS = {
    "nginx.ingress.kubernetes.io/" + name
    for name in (
        "proxy-buffering",
        "proxy-connect-timeout",
        "proxy-http-version",
        "proxy-next-upstream",
        "proxy-next-upstream-tries",
        "proxy-read-timeout",
        "proxy-send-timeout",
    )
}


class Whole:
    """All documents of an overlay, put together, and Secrets that are made by hand, as their examples have them."""

    def __init__(self, documents, secrets):
        self.all = documents
        self.secrets = {secret["metadata"]["name"]: set(secret["stringData"]) for secret in secrets}

    def of(self, *kinds):
        """Documents of these kinds."""
        return [document for document in self.all if document["kind"] in kinds]

    def names(self, kind):
        """Names of all documents of a kind."""
        return {document["metadata"]["name"] for document in self.of(kind)}

    def workloads(self):
        """What has pods."""
        return self.of("Deployment", "StatefulSet")

    def selected(self, selector):
        """Workloads whose pods a selector is for. Of the expressions `In` alone."""
        return [workload for workload in self.workloads() if _selects(selector, _pod(workload)["metadata"]["labels"])]


def _pod(workload):
    return workload["spec"]["template"]


def _containers(workload):
    return _pod(workload)["spec"]["containers"]


def _ports(workloads):
    return [port for workload in workloads for each in _containers(workload) for port in each.get("ports", [])]


def _selects(selector, labels):
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def complaints(whole, root):
    """What does not fit, as text."""
    for document in whole.all:
        name = f"{document['kind']} {document['metadata']['name']}"
        for complaint in CHECKS.get(document["kind"], lambda *_: [])(document, whole, root):
            yield f"{name}: {complaint}"


def _workload(workload, whole, root):
    if not _selects(workload["spec"]["selector"], _pod(workload)["metadata"]["labels"]):
        yield "its selector is not for its own pods"
    pod = _pod(workload)["spec"]
    for spread in pod.get("topologySpreadConstraints", []):
        if workload not in whole.selected(spread["labelSelector"]):
            yield "a topology spread constraint is for other pods"
    for volume in pod.get("volumes", []):
        name = volume.get("configMap", {}).get("name")
        if name and name not in whole.names("ConfigMap"):
            yield f"there is no ConfigMap {name}"
    for container in _containers(workload):
        yield from _container(container, pod, whole, root)


def _container(container, pod, whole, root):
    # A test holds it to the code.
    settings = (root / "docs/configuration.md").read_text()
    for each in container.get("env", []):
        secret = each.get("valueFrom", {}).get("secretKeyRef")
        if secret and secret["key"] not in whole.secrets.get(secret["name"], ()):
            yield f"no secret.example.yaml has a Secret {secret['name']} with {secret['key']}"
        if each["name"].startswith("SSE_") and f"`{each['name']}`" not in settings:
            yield f"there is no setting {each['name']}"
    for each in container["resources"].values():
        if not set(each) <= {"cpu", "memory"}:
            yield f"there is no resource such as one of {', '.join(each)}"
    names = {port["name"] for port in container.get("ports", [])}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        if port is not None and port not in names:
            yield f"{probe} asks a port {port}, which the container has not"
    mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
    there = {volume["name"] for volume in pod.get("volumes", [])}
    if container["image"].startswith("sse-cluster"):
        yield "the overlay gives it no image"
    if container.get("command", [""])[0] in CONFIG:
        if mounted != there:
            yield f"volumes {there} are not those that it mounts, {mounted}"
        deadline = _drain_deadline(root / CONFIG[container["command"][0]])
        if pod.get("terminationGracePeriodSeconds", 30) <= deadline:
            yield f"terminationGracePeriodSeconds is not longer than drain.deadline, {deadline} s"


def _drain_deadline(path):
    """In seconds, as the file with all settings has it."""
    deadline = tomllib.loads(path.read_text())["drain"]["deadline"]
    match = re.fullmatch(r"(\d+)s", deadline)
    if not match:
        raise SystemExit(f"k8s/check: {path}: {deadline!r} is not in seconds")
    return int(match.group(1))


def _service(service, whole, _root):
    spec = service["spec"]
    workloads = whole.selected({"matchLabels": spec["selector"]})
    if not workloads:
        yield "it selects no pods"
    for port in spec["ports"]:
        if port["targetPort"] not in {each["name"] for each in _ports(workloads)}:
            yield f"its pods have no port {port['targetPort']}"


def _budget(budget, whole, _root):
    if not whole.selected(budget["spec"]["selector"]):
        yield "it selects no pods"


def _policy(policy, whole, _root):
    workloads = whole.selected(policy["spec"]["podSelector"])
    if not workloads:
        yield "it selects no pods"
    ports = {port["containerPort"] for port in _ports(workloads)}
    for rule in policy["spec"].get("ingress", []):
        for port in rule["ports"]:
            if port["port"] not in ports:
                yield f"its pods have no port {port['port']}"
    for rule in policy["spec"].get("egress", []):
        for to in rule.get("to", []):
            if "podSelector" in to and not whole.selected(to["podSelector"]):
                yield "it lets out to pods that are not there"


def _autoscaler(autoscaler, whole, _root):
    target = autoscaler["spec"]["scaleTargetRef"]
    found = [each for each in whole.of(target["kind"]) if each["metadata"]["name"] == target["name"]]
    if not found:
        yield "what it scales is not there"
    elif "replicas" in found[0]["spec"]:
        yield "what it scales says how many there are, which each `kubectl apply` would go back to"


def _ingress(ingress, whole, _root):
    for name in ingress["metadata"].get("annotations", {}):
        if name not in ANNOTATIONS:
            yield f"the annotation {name} is not one of those known here (k8s/schemas/references.py)"
    services = {service["metadata"]["name"]: service for service in whole.of("Service")}
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            ports = services.get(backend["name"], {"spec": {"ports": []}})["spec"]["ports"]
            if backend["port"]["name"] not in {port["name"] for port in ports}:
                yield f"there is no Service {backend['name']} with a port {backend['port']['name']}"


def _monitor(monitor, whole, _root):
    services = [
        each for each in whole.of("Service") if _selects(monitor["spec"]["selector"], each["metadata"].get("labels", {}))
    ]
    if not services:
        yield "it selects no Service"
    for endpoint in monitor["spec"]["endpoints"]:
        for service in services:
            if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                yield f"Service {service['metadata']['name']} has no port {endpoint['port']}"
    label = monitor["spec"]["jobLabel"]
    if not all(label in service["metadata"].get("labels", {}) for service in services):
        yield f"a Service has no label {label}"


CHECKS = {
    "Deployment": _workload,
    "StatefulSet": _workload,
    "Service": _service,
    "PodDisruptionBudget": _budget,
    "NetworkPolicy": _policy,
    "HorizontalPodAutoscaler": _autoscaler,
    "Ingress": _ingress,
    "ServiceMonitor": _monitor,
}
