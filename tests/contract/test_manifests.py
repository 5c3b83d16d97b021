"""What the manifests of k8s/ promise: times that nest, ports, rights, memory, names that agree.

`test_cluster.py` has what a cluster checks by itself.
"""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from app import __version__
from app.cli import _make_parser
from app.main import create_app
from app.settings import Settings
from tests.rendered import Object, pods, rendered

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(path for path in (ROOT / "k8s" / "overlays").iterdir() if path.is_dir())
FOLDERS = [ROOT / "k8s" / "base", *OVERLAYS]

SEVERAL_OF_A_KIND = {
    "master": "Job",
    "workers": "Job",
}
"""Files that are not named after the kind of their object."""

# Time to close the models and the event loop once every request is answered; a generous bound.
CLOSING_S = 5

# Memory of a worker with the bundled models after 16 concurrent bodies of 3.5 MB, and of the
# supervisor: docs/kubernetes.md.
WORKER_MIB, SUPERVISOR_MIB = 190, 48

PROBES = ("startup", "readiness", "liveness")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def objects(folder: Path) -> dict[str, Object]:
    return {thing["kind"]: thing for thing in rendered(folder)}


@pytest.fixture
def pod(objects: dict[str, Object]) -> Object:
    return objects["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Object) -> Object:
    (only,) = pod["containers"]
    return only


@pytest.fixture
def settings(objects: dict[str, Object], container: Object) -> dict[str, str]:
    """The environment of the container, with VALENCE_WORKERS as the cluster computes it."""
    (source,) = container["envFrom"]
    assert source["configMapRef"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    settings = dict(objects["ConfigMap"]["data"])
    for variable in container["env"]:
        if "value" in variable:
            settings[variable["name"]] = variable["value"]
        else:
            assert variable["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
            settings[variable["name"]] = container["resources"]["limits"]["cpu"]
    return settings


def test_a_folder_renders_to_one_object_of_each_kind(folder: Path) -> None:
    """Every overlay is the complete service: each kind exactly once, the namespace first."""
    kinds = [thing["kind"] for thing in rendered(folder)]
    assert kinds[0] == "Namespace"
    assert len(kinds) == len(set(kinds))
    assert set(kinds) >= {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


def test_one_object_per_file() -> None:
    """Each manifest holds one object and is named after its kind, so that a reader finds it."""
    for path in (ROOT / "k8s").rglob("*.yaml"):
        (thing,) = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if path.stem in SEVERAL_OF_A_KIND:
            assert thing["kind"] == SEVERAL_OF_A_KIND[path.stem]
        elif path.stem == "references":
            assert set(thing) == {"nameReference"}
        elif path.stem == "kustomization":
            assert thing["kind"] == ("Component" if "components" in path.parts else "Kustomization")
        else:
            assert path.stem == thing["kind"].lower()


def test_every_setting_is_one_of_the_service(settings: dict[str, str]) -> None:
    """Every VALENCE_ variable in the manifests is a field of Settings, so typos are found."""
    known = {f"VALENCE_{name.upper()}" for name in Settings.model_fields}
    assert set(settings) - known == set()


def test_the_service_accepts_the_settings(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every value is within the bounds that Settings checks at start."""
    monkeypatch.setenv("VALENCE_MODELS_DIR", str(tmp_path))  # set by the image
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    loaded = Settings()
    assert (loaded.host, str(loaded.port)) == ("0.0.0.0", settings["VALENCE_PORT"])


def test_times_nest(settings: dict[str, str], pod: Object) -> None:
    """A request fits into the drain timeout, and the whole drain into the pod's grace period."""
    request_s = float(settings["VALENCE_REQUEST_TIMEOUT_MS"]) / 1000
    delay_s = float(settings["VALENCE_DRAIN_DELAY_S"])
    graceful_s = float(settings["VALENCE_DRAIN_TIMEOUT_S"])
    assert request_s < graceful_s
    assert delay_s + graceful_s + CLOSING_S < pod["terminationGracePeriodSeconds"]


def test_a_stopping_pod_keeps_serving_while_endpoints_update(settings: dict[str, str]) -> None:
    """A pod serves for some seconds after SIGTERM, until load balancers have removed it."""
    assert float(settings["VALENCE_DRAIN_DELAY_S"]) >= 3


def test_probes_ask_for_the_routes_of_the_contract(container: Object, tmp_path: Path) -> None:
    """Startup and readiness probe /readyz, liveness /livez; the service has both routes."""
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in PROBES}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    routes = create_app(Settings(models_dir=tmp_path)).openapi()["paths"]
    assert set(paths.values()) <= set(routes)


def test_the_port_is_the_same_everywhere(
    objects: dict[str, Object], container: Object, settings: dict[str, str]
) -> None:
    """Probes, Service and NetworkPolicy use the port that the service listens on."""
    assert container["ports"] == [{"name": "http", "containerPort": int(settings["VALENCE_PORT"])}]
    assert {container[f"{name}Probe"]["httpGet"]["port"] for name in PROBES} == {"http"}
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == "http"


def test_service_links_are_off(pod: Object) -> None:
    """The cluster injects no variables: a Service named valence would set VALENCE_PORT."""
    assert pod["enableServiceLinks"] is False


def test_the_pod_has_no_rights(pod: Object, container: Object) -> None:
    """Non-root, read-only root, no capabilities, the default seccomp profile."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_has_no_token(objects: dict[str, Object], pod: Object) -> None:
    """No service-account token is mounted: the service never calls the cluster's API."""
    assert pod["automountServiceAccountToken"] is False
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]


def test_the_pod_runs_as_the_user_of_the_image(pod: Object) -> None:
    """The manifests run the container as the user of the Dockerfile."""
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)) == {user}


def test_the_cpu_limit_is_whole(container: Object) -> None:
    """The CPU limit is a whole number, because the cluster rounds it up for VALENCE_WORKERS."""
    assert int(container["resources"]["limits"]["cpu"]) >= 1
    assert {"cpu", "memory"} == set(container["resources"]["requests"])


def test_threads_match_the_cpu_limit(settings: dict[str, str], container: Object) -> None:
    """Workers times engine threads equals the cores of the CPU limit."""
    threads = int(settings["VALENCE_WORKERS"]) * int(settings["VALENCE_THREADS"])
    if "nvidia.com/gpu" in container["resources"]["limits"]:  # the GPU computes
        assert threads <= int(container["resources"]["limits"]["cpu"])
    else:
        assert threads == int(container["resources"]["limits"]["cpu"])


def test_every_worker_has_memory(settings: dict[str, str], container: Object) -> None:
    """The memory request covers all workers under load, and the limit twice that."""
    needed = int(settings["VALENCE_WORKERS"]) * WORKER_MIB + SUPERVISOR_MIB
    resources = container["resources"]
    assert needed <= _mebibytes(resources["requests"]["memory"])
    assert 2 * needed <= _mebibytes(resources["limits"]["memory"])


def test_selectors_find_the_pods(objects: dict[str, Object]) -> None:
    """Deployment, Service, PodDisruptionBudget and NetworkPolicy select the pods' labels."""
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_egress_is_closed(objects: dict[str, Object]) -> None:
    """Egress is closed, and ingress is open to named sources only."""
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert all(rule["from"] for rule in policy["ingress"])


def test_prod_runs_a_fixed_image() -> None:
    """The image of prod is a digest or the tag of this release, never a moving tag."""
    (deployment,) = (
        thing for thing in rendered(ROOT / "k8s/overlays/prod") if thing["kind"] == "Deployment"
    )
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert re.search(rf"(@sha256:[0-9a-f]{{64}}|:{re.escape(__version__)})$", image)


def _mebibytes(quantity: str) -> int:
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number * {"Mi": 1, "Gi": 1024}[unit]


def test_the_ray_job_calls_the_command() -> None:
    """The entry point of the RayJob is a call that `valence score` accepts, on its volume."""
    (job,) = rendered(ROOT / "k8s" / "batch")
    command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert command == "valence"
    options = _make_parser().parse_args(arguments)
    assert (options.engine, options.ray_address) == ("ray", "auto")
    assert {options.input.parts[1], options.output.parts[1]} == {"data"}


def test_pods_of_the_ray_job_are_alike() -> None:
    """Head and workers run one image with one volume: each reads what the head plans."""
    specs = pods(rendered(ROOT / "k8s" / "batch"))
    assert len({spec["containers"][0]["image"] for spec in specs}) == 1
    assert specs[0]["volumes"] == specs[1]["volumes"]
