"""From the knee of one replica to replicas for a rate."""

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from load_tests.capacity.replicas import Capacity, kept_share, plan, plan_scale
from load_tests.capacity.report import components
from load_tests.capacity.shipped import HIGHEST, LOWEST, NODES, REPLICA, plan_shipped
from tests.rendered import K8S, Object, composed, pods, render, rendered

ONE = Capacity(cores=2, rate=100, cores_at_knee=1.8, latencies_ms=[(50, 20), (70, 40), (120, 90)])


@pytest.mark.parametrize(
    ("rate", "nodes", "replicas", "lost"),
    [
        (100, 2, 2, 1),
        (200, 2, 4, 2),
        (200, 3, 3, 1),
        (201, 3, 5, 2),  # of 4, the fullest node has 2
        (1000, 3, 15, 5),
        (1000, 11, 11, 1),
        (1, 3, 2, 1),
    ],
)
def test_replicas(rate: float, nodes: int, replicas: int, lost: int) -> None:
    """What is left when the fullest node is lost carries the rate; one replica fewer would not."""
    need = plan(rate, ONE, nodes)
    assert (need.replicas, need.lost) == (replicas, lost)


@pytest.mark.parametrize(
    ("least", "most", "nodes", "share"),
    [
        (3, 3, 3, 2 / 3),
        (2, 3, 3, 1 / 2),  # of 2 one is left
        (3, 12, 3, 1 / 2),  # 4: two nodes have one, the third has 2
        (5, 12, 3, 4 / 7),
        (15, 23, 3, 10 / 16),
        (13, 14, 3, 8 / 13),
        (2, 100, 2, 1 / 3),  # 3: a node has 2
        (12, 24, 11, 10 / 12),
        (2, 2, 100, 1 / 2),
        (20, 30, 100, 19 / 20),  # one of the fewest
    ],
)
def test_kept_share(least: int, most: int, nodes: int, share: float) -> None:
    """The worst number of replicas between the bounds decides what the loss of a node leaves."""
    assert kept_share(least, most, nodes) == pytest.approx(share)


@pytest.mark.parametrize(
    ("lowest", "highest", "nodes", "bounds", "utilization"),
    [
        (200, 200, 3, (3, 5), 40),  # a half of 90 %, and a tenth less
        (1000, 1000, 3, (15, 23), 51),
        (250, 1000, 3, (5, 23), 46),
        (1000, 1000, 11, (11, 17), 68),
        (1, 1, 3, (2, 3), 40),
    ],
)
def test_scale(
    lowest: float, highest: float, nodes: int, bounds: tuple[int, int], utilization: int
) -> None:
    """With any number of replicas that may be chosen, each is below the knee after a loss.

    An autoscaler leaves the load of a replica at a tenth above the target.
    """
    scale = plan_scale(plan(lowest, ONE, nodes), plan(highest, ONE, nodes), ONE, nodes)
    assert (scale.least, scale.most) == bounds
    assert scale.utilization == utilization
    for count in range(scale.least, scale.most + 1):
        left = count - math.ceil(count / nodes)
        assert 1.1 * utilization * count / left <= 90  # 1.8 of 2 cores
    rate = 100 * kept_share(*bounds, nodes) / 1.1
    assert scale.in_flight == pytest.approx(ONE.in_flight(rate))


def test_in_flight() -> None:
    """Rate times latency, which is between those of the measured rates, and constant beyond."""
    assert [ONE.in_flight(rate) for rate in (10, 50, 60, 70, 240)] == pytest.approx(
        [0.2, 1, 1.8, 2.8, 21.6]
    )


def test_processor_time_may_be_unknown() -> None:
    """Without the processor time of the service there is no target for it, and no patch."""
    unknown = Capacity(cores=2, rate=100, cores_at_knee=None, latencies_ms=[(50, 20)])
    need = plan(1000, unknown, 3)
    scale = plan_scale(need, need, unknown, 3)
    assert scale.utilization is None
    assert b"averageUtilization" not in components(unknown, need, scale)["hpa/kustomization.yaml"]


AUTOSCALERS = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[..., list[Object]]:
    """Renders prod with `hpa` or `keda`, and on top of it a component that a run has written."""

    def render_overlay(autoscaler: str, written: str, *what: Any) -> list[Object]:
        to_k8s = os.path.relpath(K8S, (tmp_path / "prod").resolve())
        prod = (K8S / "overlays" / "prod" / "kustomization.yaml").read_text(encoding="utf-8")
        prod = re.sub("components/hpa .*", f"components/{autoscaler}", prod)  # as in the documents
        patch = (K8S / "overlays" / "prod" / "deployment.yaml").read_bytes()
        mine = {"resources": ["../prod"], "components": [f"../{written}"]}
        files = {
            "prod/kustomization.yaml": prod.replace(" ../../", f" {to_k8s}/").encode(),
            "prod/deployment.yaml": patch,
            "mine/kustomization.yaml": json.dumps(mine).encode(),
            **components(*what),
        }
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return render(tmp_path / "mine")

    return render_overlay


def spec(objects: Sequence[Object], kind: str) -> Object:
    (only,) = (thing["spec"] for thing in objects if thing["kind"] == kind)
    return only


def test_components(overlay: Callable[..., list[Object]]) -> None:
    """The components change the autoscaler and the Deployment of an overlay."""
    larger = replace(ONE, cores=3, cores_at_knee=2.7)
    need = plan(1000, larger, 3)
    scale = plan_scale(plan(100, larger, 3), need, larger, 3)
    with_hpa = overlay("hpa", "hpa", larger, need, scale)
    with_keda = overlay("keda", "keda", larger, need, scale)
    hpa, scaled = spec(with_hpa, "HorizontalPodAutoscaler"), spec(with_keda, "ScaledObject")
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 23)
    target = hpa["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert target == scale.utilization
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 23)
    assert scaled["fallback"]["replicas"] == 15
    assert scaled["triggers"][0]["metadata"]["threshold"] == f"{scale.in_flight:.3g}"
    assert scaled["triggers"][1]["metadata"]["threshold"] == "0.05"
    for objects in (with_hpa, with_keda):
        (container,) = pods([each for each in objects if each["kind"] == "Deployment"])[0][
            "containers"
        ]
        assert container["resources"]["requests"] == {"cpu": "3", "memory": "512Mi"}
        assert container["resources"]["limits"] == {"cpu": "3", "memory": "1Gi"}


@pytest.mark.parametrize(("autoscaler", "written"), [("hpa", "keda"), ("keda", "hpa")])
def test_other_autoscaler_is_refused(
    autoscaler: str, written: str, overlay: Callable[..., list[Object]]
) -> None:
    """Targets for an autoscaler that the overlay does not have are an error of kustomize."""
    with pytest.raises(ValueError, match=f"{AUTOSCALERS[written]}.*valence"):
        overlay(autoscaler, written, REPLICA, *plan_shipped())


@pytest.mark.parametrize("autoscaler", AUTOSCALERS)
def test_what_is_shipped_follows_the_rule(
    autoscaler: str, overlay: Callable[..., list[Object]]
) -> None:
    """The bounds, targets and cores in k8s/ are those of a run that measures `REPLICA`."""
    objects = overlay(autoscaler, autoscaler, REPLICA, *plan_shipped())
    kind = AUTOSCALERS[autoscaler]
    assert spec(objects, kind) == spec(composed(autoscaler), kind)
    prod = spec(rendered(K8S / "overlays" / "prod"), "Deployment")["template"]["spec"]
    assert spec(objects, "Deployment")["template"]["spec"]["containers"] == prod["containers"]


def test_the_documents_have_what_is_shipped() -> None:
    """The guides name the bounds, the targets and the traffic that the components are made for."""
    need, scale = plan_shipped()
    bounds, in_flight = f"{scale.least} to {scale.most}", f"{scale.in_flight:.3g}"
    cluster, capacity = (
        " ".join((K8S.parent / "docs" / name).read_text(encoding="utf-8").split())
        for name in ("kubernetes.md", "capacity.md")
    )
    assert f"{bounds} pods, at {scale.utilization} % of the processor time" in cluster
    assert f"for {HIGHEST:,.0f} requests per second at the busiest hour and {LOWEST:.0f}" in cluster
    assert f"- {in_flight} requests in flight for each pod" in cluster
    assert f"Without Prometheus there are at least {need.replicas} pods" in cluster
    assert f"for {LOWEST:.0f} to {HIGHEST:,.0f} requests per second, on {NODES} nodes" in capacity
    targets = f"{scale.utilization} % of the CPU request or {in_flight} requests in flight"
    assert f"{bounds} replicas of {REPLICA.cores} cores, {targets}" in capacity


def test_kserve_has_the_targets_of_the_autoscaler() -> None:
    """KServe scales within the same bounds, to the same processor time."""
    predictor = spec(composed("kserve"), "InferenceService")["predictor"]
    _, scale = plan_shipped()
    found = [predictor[name] for name in ("minReplicas", "maxReplicas", "scaleTarget")]
    assert found == [scale.least, scale.most, scale.utilization]
