"""What a cluster would say of every folder of k8s/, without one: `make manifests`."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest

from app.main import create_app
from app.settings import Settings
from load_tests.simulation.alarm import WINDOW_S, Alarm
from load_tests.simulation.autoscaler import SYNC_S
from load_tests.simulation.plan import DOWN, UP
from tests.rendered import (
    COMPONENTS,
    K8S,
    MINORS,
    ROOT,
    Object,
    compose,
    composed,
    containers,
    not_restricted,
    pods,
    rendered,
    validate,
)

FOLDERS = sorted(
    str(path.parent.relative_to(K8S))
    for path in K8S.rglob("kustomization.yaml")
    if COMPONENTS not in path.parents
)
ALONE = sorted(
    str(path.parent.relative_to(COMPONENTS)) for path in COMPONENTS.rglob("kustomization.yaml")
)
"""The components, each on top of the base."""
CLUSTER_WIDE = {"Namespace", "PriorityClass"}
EVERYTHING = ("keda", "monitoring", "tracing", "ingress", "api-keys", "model-volume", "zones")
SETS = {
    **{folder: ((), folder) for folder in FOLDERS},
    **{f"base+{name}": ((name,), "base") for name in ALONE},
    "everything": (EVERYTHING, "base"),
    "prod as commented": (("monitoring", "ingress/gateway", "api-keys"), "overlays/prod"),
    "kserve with its claim": (("model-volume", "kserve"), "base"),
    "gpu with models": (("monitoring", "model-volume/oci"), "overlays/gpu"),
}


SEEN_IN_OTHERS = (
    *("base+ingress/controller", "base+ingress/gateway", "base+model-volume", "base+api-keys"),
    *("prod as commented", "gpu with models"),
)
"""`make manifests` has them too; the default suite has the same objects in other sets."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SEEN_IN_OTHERS else ())
        for name in SETS
    ]
)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """What a folder, or components on top of it, render to."""
    components, folder = SETS[request.param]
    return composed(*components, on=folder) if components else rendered(K8S / folder)


def test_schemas(objects: list[Object]) -> None:
    """Every object is valid in the three newest minors of Kubernetes, without unknown fields."""
    for thing in objects:
        validate(thing)


def test_restricted(objects: list[Object]) -> None:
    """Every pod is one that a namespace with the restricted profile takes."""
    assert [not_restricted(_with_pod_context(pod, objects)) for pod in pods(objects)] == [
        [] for _ in pods(objects)
    ]


def test_names_of_settings(objects: list[Object]) -> None:
    """Every VALENCE_ variable in manifests is a setting of the service, so typos are found."""
    known = {f"VALENCE_{name.upper()}" for name in Settings.model_fields}
    maps = [thing["data"] for thing in objects if thing["kind"] == "ConfigMap"]
    names = {name for data in maps for name in data}
    for pod in pods(objects):
        names |= {variable["name"] for c in containers(pod) for variable in c.get("env", [])}
    assert {name for name in names if name.startswith("VALENCE_")} - known == set()


def test_references(objects: list[Object]) -> None:
    """What a pod reads of ConfigMaps and claims, and runs as, is rendered beside it."""
    there = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    for pod in pods(objects):
        wanted = {
            ("ConfigMap", source["configMapRef"]["name"])
            for each in containers(pod)
            for source in each.get("envFrom", [])
        }
        if "serviceAccountName" in pod:
            wanted.add(("ServiceAccount", pod["serviceAccountName"]))
        if "priorityClassName" in pod:
            wanted.add(("PriorityClass", pod["priorityClassName"]))
        assert wanted <= there


def test_named_ports(objects: list[Object]) -> None:
    """Every port that a Service or a policy names is one of the pods that it selects."""
    named = {}
    for thing in objects:
        spec = thing.get("spec", {})
        if "template" in spec or thing["kind"] == "ServingRuntime":
            labels = (
                spec["template"]["metadata"]["labels"] if "template" in spec else spec["labels"]
            )
            ports = [
                port["name"] for c in containers(pods([thing])[0]) for port in c.get("ports", [])
            ]
            named[thing["metadata"]["name"], thing["kind"]] = (labels, ports)
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            selector, wanted = spec["selector"], [port["targetPort"] for port in spec["ports"]]
        elif thing["kind"] == "NetworkPolicy":
            selector = spec["podSelector"]["matchLabels"]
            wanted = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
        else:
            continue
        selected = [ports for labels, ports in named.values() if selector.items() <= labels.items()]
        assert selected
        assert all(set(wanted) <= set(ports) for ports in selected)


def test_one_namespace(objects: list[Object]) -> None:
    """All objects are in one namespace, which is rendered with its labels, or must exist."""
    spaces = {o["metadata"].get("namespace") for o in objects if o["kind"] not in CLUSTER_WIDE}
    assert len(spaces) == 1
    for thing in objects:
        if thing["kind"] == "Namespace":
            assert thing["metadata"]["name"] in spaces
            labels = thing["metadata"]["labels"]
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_overlays_share_nothing() -> None:
    """What belongs to no namespace has another name in each overlay, so one can be deleted."""
    names = [
        (thing["kind"], thing["metadata"]["name"])
        for folder in sorted((K8S / "overlays").iterdir())
        for thing in rendered(folder)
        if thing["kind"] in CLUSTER_WIDE
    ]
    assert len(set(names)) == len(names)
    assert ("PriorityClass", "valence") in names


def test_no_replicas_beside_an_autoscaler(objects: list[Object]) -> None:
    """Where an autoscaler sets the number of pods, the manifest does not set it back."""
    scaled = any(o["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"} for o in objects)
    for thing in objects:
        if thing["kind"] == "Deployment":
            assert ("replicas" in thing["spec"]) is not scaled


def test_pods_with_a_gpu_go_to_its_nodes() -> None:
    """The tolerations of other components do not replace that of the nodes with GPUs."""
    (pod,) = pods([each for each in rendered(K8S / "overlays/gpu") if each["kind"] == "Deployment"])
    keys = [each["key"] for each in pod["tolerations"]]
    assert keys.count("nvidia.com/gpu") == 1
    assert "node.kubernetes.io/unreachable" in keys


def test_minors() -> None:
    """The minors are the newest three whose schemas there are."""
    known = {tuple(_numbers(each)[:2]) for each in kubernetes_validate.utils.all_versions()}
    assert [f"{major}.{minor}" for major, minor in sorted(known)[-3:]] == list(MINORS)


def test_two_autoscalers() -> None:
    """Two autoscalers for one Deployment would fight: kustomize refuses them."""
    with pytest.raises(ValueError, match="/spec/replicas"):
        compose("hpa", "keda")


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o["spec"].update(replica=3),
        lambda o: o["spec"]["template"]["spec"]["containers"][0].update(imagePolicy="Always"),
        lambda o: o["spec"].update(replicas="3"),
        lambda o: o["spec"].pop("selector"),
    ],
    ids=["unknown field", "unknown field of a container", "wrong type", "missing field"],
)
def test_faults_are_found(change: Any) -> None:
    """A fault of a Deployment is found, so a valid manifest says something."""
    faulty = copy.deepcopy(_one(rendered(K8S / "base"), "Deployment"))
    validate(faulty)
    change(faulty)
    with pytest.raises(jsonschema.ValidationError):
        validate(faulty)


CRD_FAULTS = [
    ("keda", "ScaledObject", ("spec", "minReplicas"), 1),
    ("keda", "ScaledObject", ("spec", "triggers", 0, "metadata", "threshold"), 16),
    ("keda", "ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig"), {"x": 1}),
    (
        *("keda", "ScaledObject"),
        *(("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleUpp"), {}),
    ),
    ("monitoring", "ServiceMonitor", ("spec", "endpoints", 0, "port"), 9000),
    ("monitoring", "PrometheusRule", ("spec", "groups", 0, "rules", 0, "alerts"), "x"),
    ("ingress", "HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "port"), "http"),
    ("ingress", "Gateway", ("spec", "gatewayClass"), "x"),
    ("kserve", "ServingRuntime", ("spec", "containers", 0, "ports", 0, "port"), 1),
    ("kserve", "ServingRuntime", ("spec", "modelFormats"), []),
    ("kserve", "InferenceService", ("spec", "predictor", "model", "storageURI"), "pvc://x"),
    ("kserve", "InferenceService", ("spec", "predictor", "securityContext", "x"), 1),
]


@pytest.mark.parametrize(("component", "kind", "path", "value"), CRD_FAULTS)
def test_faults_of_other_apis_are_found(
    component: str, kind: str, path: tuple[str | int, ...], value: object
) -> None:
    """So are those of objects that other APIs define, in the pods that they embed, too."""
    faulty = copy.deepcopy(_one(composed(component), kind))
    inner = faulty
    for key in path[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[path[-1]] = value  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError):
        validate(faulty)


CONTEXT = ("securityContext",)
OF_CONTAINER = ("containers", 0, "securityContext")


@pytest.mark.parametrize(
    ("path", "value", "refused"),
    [
        (("hostNetwork",), True, "hostNetwork"),
        (("volumes",), [{"name": "x", "hostPath": {"path": "/"}}], "volume hostPath"),
        ((*CONTEXT, "runAsNonRoot"), False, "server: runAsNonRoot"),
        ((*CONTEXT, "runAsUser"), 0, "server: runAsUser"),
        ((*CONTEXT, "seccompProfile"), {"type": "Unconfined"}, "server: seccompProfile"),
        ((*OF_CONTAINER, "privileged"), True, "server: privileged"),
        ((*OF_CONTAINER, "allowPrivilegeEscalation"), True, "server: allowPrivilegeEscalation"),
        ((*OF_CONTAINER, "capabilities"), {}, "server: capabilities.drop"),
        (
            (*OF_CONTAINER, "capabilities"),
            {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
            "server: capabilities.add",
        ),
        (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}], "server: hostPort"),
    ],
)
def test_what_restricted_refuses(path: tuple[str | int, ...], value: object, refused: str) -> None:
    """Each thing that the restricted profile refuses is named."""
    (pod,) = copy.deepcopy(pods(rendered(K8S / "base")))
    inner = pod
    for key in path[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[path[-1]] = value  # type: ignore[index]
    assert not_restricted(pod) == [refused]


# --- components


def test_targets_of_autoscalers() -> None:
    """KEDA and the plain autoscaler scale the same Deployment within the same bounds."""
    plain = _one(composed("hpa"), "HorizontalPodAutoscaler")["spec"]
    keda = _one(composed("keda"), "ScaledObject")["spec"]
    assert plain["scaleTargetRef"]["name"] == keda["scaleTargetRef"]["name"] == "valence"
    assert plain["minReplicas"] == keda["minReplicaCount"]
    assert plain["maxReplicas"] == keda["maxReplicaCount"]
    behavior = keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == plain["behavior"]
    down = behavior["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert [policy["type"] for policy in down["policies"]] == ["Pods"]


def test_simulated_as_shipped() -> None:
    """What is simulated as HPA and KEDA has the behaviour, windows and queries of k8s/."""
    behavior = _one(composed("hpa"), "HorizontalPodAutoscaler")["spec"]["behavior"]
    for direction, written in ((UP, behavior["scaleUp"]), (DOWN, behavior["scaleDown"])):
        assert written["stabilizationWindowSeconds"] == direction.stabilization_s
        assert written.get("selectPolicy", "Max") == "Max"
        assert {(p["type"], p["value"], p["periodSeconds"]) for p in written["policies"]} == {
            (policy.kind, policy.value, policy.period_s) for policy in direction.policies
        }
    spec = _one(composed("keda"), "ScaledObject")["spec"]
    assert spec["pollingInterval"] == SYNC_S
    alarm, window = Alarm(), f"{WINDOW_S / 60:g}m"
    of = '{namespace="valence"}'
    in_flight, queue_delay = spec["triggers"]
    assert in_flight["metricType"] == "AverageValue"
    assert in_flight["metadata"]["query"] == (
        f"sum(avg_over_time(valence_requests_in_flight{of}[{window}]))"
    )
    assert queue_delay["metricType"] == "Value"
    assert float(queue_delay["metadata"]["threshold"]) == alarm.target_s
    assert queue_delay["metadata"]["query"] == (
        f"(clamp_max(histogram_quantile({alarm.quantile:g}, sum by (le) "
        f"(rate(valence_queue_delay_seconds_bucket{of}[{window}]))) >= 0, {alarm.most_s:g}) "
        f"and sum(rate(valence_engine_busy_seconds_total{of}[{window}])) "
        f"/ sum(valence_engine_threads{of}) > {alarm.busy:g}) or vector(0)"
    )


QUEUES = {
    # Of 6 engine threads those with a batch; texts that waited 5 ms, and 250 ms; microseconds.
    "nothing is asked": (0, 0, 0, 0),
    "lists on idle pods": (0.6, 10, 90, 0),
    "load without a queue": (5.4, 100, 0, 4875),
    "load with a queue": (5.4, 10, 90, 100_000),
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_what_keda_sees_of_queues(tmp_path: Path) -> None:
    """Prometheus answers KEDA with the queue delay while engines are busy, and else with 0."""
    _, trigger = _one(composed("keda"), "ScaledObject")["spec"]["triggers"]
    cases = []
    for name, (busy, short, long, value) in QUEUES.items():
        of = 'namespace="valence"'
        series = {
            f"valence_engine_threads{{{of}}}": "6x8",
            f"valence_engine_busy_seconds_total{{{of}}}": f"0+{busy * 15:g}x8",
            f'valence_queue_delay_seconds_bucket{{{of}, le="0.0025"}}': "0x8",
            f'valence_queue_delay_seconds_bucket{{{of}, le="0.005"}}': f"0+{short}x8",
            f'valence_queue_delay_seconds_bucket{{{of}, le="0.1"}}': f"0+{short}x8",
            f'valence_queue_delay_seconds_bucket{{{of}, le="0.25"}}': f"0+{short + long}x8",
            f'valence_queue_delay_seconds_bucket{{{of}, le="+Inf"}}': f"0+{short + long}x8",
        }
        cases.append(
            {
                "name": name,
                "interval": "15s",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f"round(1e6 * ({trigger['metadata']['query']}))",
                        "eval_time": "2m",
                        "exp_samples": [{"labels": "{}", "value": value}],
                    }
                ],
            }
        )
    (tmp_path / "cases.yml").write_text(json.dumps({"tests": cases}))
    command = ["promtool", "test", "rules", str(tmp_path / "cases.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_processor_time_means_the_limit() -> None:
    """In prod a pod is promised its limit, of which the autoscaler's target is a share."""
    deployment = _one(rendered(K8S / "overlays" / "prod"), "Deployment")
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"]


def test_queries_of_keda_name_metrics_of_the_service() -> None:
    """KEDA asks for metrics that the service has."""
    names = (ROOT / "app" / "telemetry" / "metrics.py").read_text(encoding="utf-8")
    for trigger in _one(composed("keda"), "ScaledObject")["spec"]["triggers"]:
        for name in re.findall(r"valence_(\w+?)(?:_bucket)?\{", trigger["metadata"]["query"]):
            assert f'"{name}' in names or f"valence_{name}" in names


def test_port_for_metrics() -> None:
    """With `monitoring`, metrics have a port of their own that only Prometheus reaches."""
    objects = composed("monitoring")
    port = int(_settings(objects)["VALENCE_METRICS_PORT"])
    (container,) = pods(objects)[0]["containers"]
    assert {"name": "metrics", "containerPort": port} in container["ports"]
    ports = {each["name"]: each for each in _one(objects, "Service")["spec"]["ports"]}
    assert ports["metrics"]["targetPort"] == "metrics"
    assert ports["http"]["targetPort"] == "http"
    (endpoint,) = _one(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == "metrics"
    for rule in _one(objects, "NetworkPolicy")["spec"]["ingress"]:
        names = {each["port"] for each in rule["ports"]}
        assert len(names) == 1
        sources = json.dumps(rule["from"])
        assert ("monitoring" in sources) is (names == {"metrics"})


def test_way_of_spans() -> None:
    """With `tracing`, spans may go to the collector that is set, and nothing else may leave."""
    objects = composed("tracing")
    settings = _settings(objects)
    assert settings["VALENCE_TRACING"] == "otlp"
    endpoint = urlsplit(settings["OTEL_EXPORTER_OTLP_ENDPOINT"])
    namespace = (endpoint.hostname or "").split(".")[1]
    ways = {
        (source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for rule in _one(objects, "NetworkPolicy")["spec"]["egress"]
        for source in rule["to"]
        for port in rule["ports"]
    }
    assert ways == {(namespace, endpoint.port), ("kube-system", 53)}


def test_service_monitor_finds_the_service() -> None:
    """The ServiceMonitor selects labels of the Service."""
    objects = composed("monitoring")
    wanted = _one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= _one(objects, "Service")["metadata"]["labels"].items()


def test_published_routes(tmp_path: Path) -> None:
    """The same routes are published both ways: those of clients, and no others."""
    objects = composed("ingress")
    (rule,) = _one(objects, "Ingress")["spec"]["rules"]
    paths = {path["path"] for path in rule["http"]["paths"]}
    (route,) = _one(objects, "HTTPRoute")["spec"]["rules"]
    assert {match["path"]["value"] for match in route["matches"]} == paths
    assert paths == {"/predict", "/models", "/v1", "/v2"}
    routes = {route.path for route in create_app(Settings(models_dir=tmp_path)).routes}
    assert {"/livez", "/readyz", "/metrics", "/v2/health/live"} <= routes
    assert not {path for path in ("/livez", "/readyz", "/metrics", "/") if _under(path, paths)}
    health = {path for path in routes if "health" in path and _under(path, paths)}
    assert health == {"/v2/health/live", "/v2/health/ready"}  # clients of the protocol ask them


def _under(path: str, prefixes: set[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def test_limits_of_the_ingress() -> None:
    """The way in takes bodies as large as the service does, and waits longer than it."""
    objects = composed("ingress")
    notes = _one(objects, "Ingress")["metadata"]["annotations"]
    mebibytes = Settings.model_fields["max_body_bytes"].default // 2**20
    assert notes["nginx.ingress.kubernetes.io/proxy-body-size"] == f"{mebibytes}m"
    settings = _settings(objects)
    longest_s = int(settings["VALENCE_REQUEST_TIMEOUT_MS"]) / 1000
    (route,) = _one(objects, "HTTPRoute")["spec"]["rules"]
    for wait in (
        notes["nginx.ingress.kubernetes.io/proxy-read-timeout"],
        route["timeouts"]["request"],
    ):
        assert int(wait.removesuffix("s")) > longest_s
    assert _one(objects, "Ingress")["spec"]["tls"][0]["hosts"] == route_hosts(objects)


@pytest.mark.parametrize(
    ("component", "setting", "inside"),
    [
        ("api-keys", "VALENCE_API_KEYS_FILE", True),
        ("model-volume", "VALENCE_MODELS_DIR", False),
        ("model-volume/oci", "VALENCE_MODELS_DIR", False),
    ],
)
def test_mounted_where_the_setting_says(component: str, setting: str, inside: bool) -> None:
    """What a component mounts is where its setting looks, and cannot be written."""
    objects = composed(component)
    path = Path(_settings(objects)[setting])
    (container,) = pods(objects)[0]["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[str(path.parent if inside else path)]["readOnly"] is True


def test_kserve_runs_the_same_service() -> None:
    """KServe's pods have the settings, rights, labels and times of the Deployment's."""
    objects = composed("kserve")
    runtime = _one(objects, "ServingRuntime")["spec"]
    predictor = _one(objects, "InferenceService")["spec"]["predictor"]
    deployment = _one(rendered(K8S / "base"), "Deployment")["spec"]["template"]
    assert not {"Deployment", "Service"} & {thing["kind"] for thing in objects}
    assert runtime["labels"] == deployment["metadata"]["labels"]
    for field in ("terminationGracePeriodSeconds", "enableServiceLinks", "serviceAccountName"):
        assert predictor[field] == deployment["spec"][field]
    policy = _one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= runtime["labels"].items()
    assert runtime["protocolVersions"] == [predictor["model"]["protocolVersion"]] == ["v2"]
    formats = {each["name"] for each in runtime["supportedModelFormats"]}
    assert predictor["model"]["modelFormat"]["name"] in formats
    (container,) = runtime["containers"]
    settings = {each["name"]: each.get("value") for each in container["env"]}
    assert settings["VALENCE_MODELS_DIR"] == "/mnt/models"


def test_every_worker_of_a_load_test_is_awaited() -> None:
    """The master waits for as many workers as there are, at the port and name of its Service."""
    objects = {o["metadata"]["name"]: o for o in rendered(K8S / "load-test") if o["kind"] == "Job"}
    workers = objects["valence-load-workers"]["spec"]
    (master,) = pods([objects["valence-load-master"]])[0]["containers"]
    assert f"--expect-workers={workers['parallelism']}" in master["args"]
    assert workers["completions"] == workers["parallelism"]
    service = _one(rendered(K8S / "load-test"), "Service")
    (worker,) = pods([objects["valence-load-workers"]])[0]["containers"]
    assert f"--master-host={service['metadata']['name']}" in worker["args"]
    labels = objects["valence-load-master"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_a_load_test_may_have_a_key() -> None:
    """The master of a load test reads an API key from a Secret, which may be missing."""
    jobs = [thing for thing in rendered(K8S / "load-test") if thing["kind"] == "Job"]
    (job,) = (each for each in jobs if each["metadata"]["name"].endswith("master"))
    (master,) = pods([job])[0]["containers"]
    (variable,) = master["env"]
    assert variable["name"] == "LOAD_KEY"
    reference = variable["valueFrom"]["secretKeyRef"]
    assert reference["optional"] is True
    created = f"create secret generic {reference['name']} --from-literal={reference['key']}="
    assert created in _guide()


def test_a_claim_is_there_before_it_is_filled() -> None:
    """The guide applies an overlay, sets the image of the publisher, and then publishes."""
    publish = "create -k k8s/publish-models"
    blocks = re.findall(r"```sh\n(.*?)```", _guide(), re.DOTALL)
    steps = [block for block in blocks if publish in block]
    assert len(steps) == 2
    for block in steps:
        order = ("kubectl apply -k", "cd k8s/publish-models && kustomize edit set image", publish)
        places = [block.index(step) for step in order]
        assert places == sorted(places)


def test_documented() -> None:
    """docs/kubernetes.md has a section for every component."""
    text = _guide()
    names = sorted(path.name for path in COMPONENTS.iterdir() if path.is_dir())
    assert [name for name in names if f"`{name}`" not in text] == []


def _guide() -> str:
    return (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def route_hosts(objects: list[Object]) -> list[str]:
    hosts: list[str] = _one(objects, "HTTPRoute")["spec"]["hostnames"]
    return hosts


def _one(objects: list[Object], kind: str) -> Object:
    (only,) = (thing for thing in objects if thing["kind"] == kind)
    return only


def _settings(objects: list[Object]) -> dict[str, str]:
    """The ConfigMap of the service."""
    maps = (thing["data"] for thing in objects if thing["kind"] == "ConfigMap")
    (settings,) = (data for data in maps if "VALENCE_PORT" in data)
    return settings


def _with_pod_context(pod: Object, objects: list[Object]) -> Object:
    """A pod of KServe's runtime with what its InferenceService adds to it."""
    services = [thing for thing in objects if thing["kind"] == "InferenceService"]
    if "securityContext" in pod or not services:
        return pod
    return {**pod, "securityContext": services[0]["spec"]["predictor"]["securityContext"]}


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
