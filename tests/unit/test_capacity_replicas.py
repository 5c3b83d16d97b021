"""From the knee of one replica to replicas for a rate."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from load_tests.capacity.replicas import Capacity, plan
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


def test_target() -> None:
    """At the target, what is left after the loss of a node is at most at the knee."""
    need = plan(1000, ONE, 3)
    after_loss = 1.1 * (need.utilization or 0) / 100 * need.replicas / (need.replicas - need.lost)
    assert 0.97 * 0.9 <= after_loss <= 0.9  # 1.8 of 2 cores
    rate = 100 * 10 / 15 / 1.1  # of each, with all nodes
    assert need.in_flight == pytest.approx(rate * (20 + (rate - 50)) / 1e3)


def test_processor_time_may_be_unknown() -> None:
    """Without the processor time of the service there is no target for it, and no patch."""
    unknown = Capacity(cores=2, rate=100, cores_at_knee=None, latencies_ms=[(50, 20)])
    need = plan(1000, unknown, 3)
    assert need.utilization is None
    assert b"averageUtilization" not in components(unknown, need, need)["hpa/kustomization.yaml"]


def test_components(tmp_path: Path) -> None:
    """The components change the autoscaler and the Deployment of an overlay."""
    least, most = plan(100, ONE, 3), plan(1000, ONE, 3)
    for name, data in components(ONE, least, most).items():
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
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 15)
    target = hpa["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert target == min(least.utilization or 0, most.utilization or 0)
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 15)
    threshold = f"{min(least.in_flight, most.in_flight):.3g}"
    assert scaled["triggers"][0]["metadata"] == {"threshold": threshold, "query": "up"}
    resources = found["Deployment"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "2"}, "limits": {"cpu": "2", "memory": "1Gi"}}
