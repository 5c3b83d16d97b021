"""From the knee of one replica to replicas for a rate."""

import json
import math
import subprocess
from pathlib import Path

import pytest
import yaml

from load_tests.capacity.replicas import Capacity, kept_share, plan, plan_scale
from load_tests.capacity.report import components

ONE = Capacity(cores=2, rate=100, cores_at_knee=1.8, latencies_ms=[(50, 20), (70, 40), (120, 90)])

HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: valence}
spec:
  minReplicas: 1
  maxReplicas: 2
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: 1}}
"""
SCALED = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: valence}
spec:
  minReplicaCount: 1
  maxReplicaCount: 2
  fallback: {failureThreshold: 4, replicas: 1}
  triggers:
    - type: prometheus
      metadata: {threshold: "1", query: up}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: valence}
spec:
  template:
    spec:
      containers:
        - {name: server, image: valence, resources: {limits: {memory: 1Gi}}}
"""


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


def test_components(tmp_path: Path) -> None:
    """The components change the autoscaler and the Deployment of an overlay."""
    need = plan(1000, ONE, 3)
    scale = plan_scale(plan(100, ONE, 3), need, ONE, 3)
    for name, data in components(ONE, need, scale).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = {}
    for name, resource in (("hpa", HPA), ("keda", SCALED)):
        overlay = tmp_path / f"overlay-{name}"
        overlay.mkdir()
        (overlay / "resources.yaml").write_text(f"{resource}---\n{DEPLOYMENT}")
        kustomization = {"resources": ["resources.yaml"], "components": [f"../{name}"]}
        (overlay / "kustomization.yaml").write_text(json.dumps(kustomization))
        command = ["kubectl", "kustomize", str(overlay)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found |= {each["kind"]: each["spec"] for each in yaml.safe_load_all(done.stdout)}
    hpa, scaled = found["HorizontalPodAutoscaler"], found["ScaledObject"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 23)
    target = hpa["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert target == scale.utilization
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 23)
    assert scaled["fallback"]["replicas"] == 15
    threshold = f"{scale.in_flight:.3g}"
    assert scaled["triggers"][0]["metadata"] == {"threshold": threshold, "query": "up"}
    resources = found["Deployment"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "2"}, "limits": {"cpu": "2", "memory": "1Gi"}}
