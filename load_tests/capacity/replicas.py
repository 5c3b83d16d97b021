"""From the knee of one replica to replicas for a rate, the autoscaler's targets, and patches.

A replica at the knee uses `cores_at_knee`. Utilization grows with the rate, and the rate of a
replica with the replicas that a lost node takes away: the target leaves room for both, at every
number of replicas that the autoscaler may choose.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

TOLERANCE: Final = 0.1
"""The HPA does nothing while a metric is within a tenth of its target (its documented default)."""
SPARE: Final = 1.5
"""The most replicas, divided by those for the busiest hour: room for spikes and lost nodes."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica does at its knee.

    Attributes:
        cores: The cores of the replica: its CPU request.
        rate: Requests per second that surely keep the limit.
        cores_at_knee: The processor time per second at that rate; None if not known.
        latencies_ms: Rates and the mean latencies at them, by increasing rate.
    """

    cores: int
    rate: float
    cores_at_knee: float | None
    latencies_ms: Sequence[tuple[float, float]]

    def in_flight(self, rate: float) -> float:
        """The mean number of requests in flight at a rate, by Little's law."""
        rates, latencies = zip(*self.latencies_ms, strict=True)
        return rate * interpolate(rate, rates, latencies) / 1e3


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas for a rate, with one node down.

    Attributes:
        rate: Requests per second.
        replicas: How many there must be while all nodes are up.
        lost: How many of them a node takes away.
    """

    rate: float
    replicas: int
    lost: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Between what an autoscaler chooses, and what it keeps.

    Attributes:
        least, most: The bounds of the number of replicas.
        utilization: The target, in percent of the CPU request; None if not known.
        in_flight: The target for the requests in flight on a replica.
    """

    least: int
    most: int
    utilization: int | None
    in_flight: float


def plan(rate: float, capacity: Capacity, nodes: int) -> Need:
    """The fewest replicas that carry a rate when the fullest node is lost.

    Args:
        rate: Requests per second.
        capacity: Of one replica.
        nodes: Over which replicas are spread evenly, at least 2.
    """
    replicas = max(2, math.ceil(rate / capacity.rate))
    while (replicas - _lost(replicas, nodes)) * capacity.rate < rate:
        replicas += 1
    return Need(rate=rate, replicas=replicas, lost=_lost(replicas, nodes))


def plan_scale(least: Need, most: Need, capacity: Capacity, nodes: int) -> Scale:
    """Bounds and targets for a day.

    Args:
        least: At the lowest rate of the day.
        most: At the highest.
        capacity: Of one replica.
        nodes: As in `plan`.
    """
    bounds = least.replicas, math.ceil(most.replicas * SPARE)
    share = kept_share(*bounds, nodes) / (1 + TOLERANCE)
    return Scale(*bounds, _utilization(capacity, share), capacity.in_flight(capacity.rate * share))


def kept_share(least: int, most: int, nodes: int) -> float:
    """The share of the replicas that is left when the fullest node is lost, in the worst case.

    At any number of replicas, an autoscaler lets the load of each come close to the target. Of 4 on
    3 nodes a half is left, of 3 it is two thirds: so the worst number of all decides.

    Args:
        least: The lower bound of the number of replicas, at least 2.
        most: The upper bound.
        nodes: As in `plan`.
    """
    return min((count - _lost(count, nodes)) / count for count in range(least, most + 1))


def _lost(replicas: int, nodes: int) -> int:
    """How many of the replicas the fullest node has."""
    return math.ceil(replicas / nodes)


def _utilization(capacity: Capacity, share: float) -> int | None:
    """A share of the utilization at the knee, in whole percent."""
    if capacity.cores_at_knee is None:
        return None
    return max(1, math.floor(100 * capacity.cores_at_knee / capacity.cores * share))


def interpolate(at: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Linear between the points, constant outside; `xs` are increasing."""
    right = min(max(bisect.bisect_right(xs, at), 1), len(xs) - 1)
    if right == 0 or at <= xs[0]:
        return ys[0]
    share = min(1.0, (at - xs[right - 1]) / (xs[right] - xs[right - 1]))
    return ys[right - 1] + (ys[right] - ys[right - 1]) * share


def hpa_patches(scale: Scale) -> list[dict[str, Any]]:
    """Patches of the HorizontalPodAutoscaler, as kustomize has them."""
    bounds = {"minReplicas": scale.least, "maxReplicas": scale.most}
    patches = [_merge("autoscaling/v2", "HorizontalPodAutoscaler", bounds)]
    if scale.utilization is not None:
        metric = "/spec/metrics/0/resource"
        operations: list[dict[str, Any]] = [
            {"op": "test", "path": f"{metric}/name", "value": "cpu"},
            {
                "op": "replace",
                "path": f"{metric}/target/averageUtilization",
                "value": scale.utilization,
            },
        ]
        patches.append(_change("HorizontalPodAutoscaler", operations))
    return patches


def keda_patches(scale: Scale, without_metrics: int) -> list[dict[str, Any]]:
    """Patches of the ScaledObject, as kustomize has them.

    Args:
        scale: Bounds and targets.
        without_metrics: The least number of replicas while Prometheus does not answer.
    """
    bounds = {
        "minReplicaCount": scale.least,
        "maxReplicaCount": scale.most,
        "fallback": {"replicas": without_metrics},
    }
    trigger = "/spec/triggers/0"
    operations = [
        {"op": "test", "path": f"{trigger}/name", "value": "in-flight"},
        {
            "op": "replace",
            "path": f"{trigger}/metadata/threshold",
            "value": f"{scale.in_flight:.3g}",
        },
    ]
    return [
        _merge("keda.sh/v1alpha1", "ScaledObject", bounds),
        _change("ScaledObject", operations),
    ]


def resources_patch(capacity: Capacity) -> dict[str, Any]:
    """A patch of the Deployment: the CPU request and limit that were measured."""
    container = {
        "name": "server",
        "resources": {
            "requests": {"cpu": str(capacity.cores)},
            "limits": {"cpu": str(capacity.cores)},
        },
    }
    return _merge("apps/v1", "Deployment", {"template": {"spec": {"containers": [container]}}})


def _merge(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A patch that kustomize refuses where its object is missing; one with a target is ignored."""
    head = {"apiVersion": version, "kind": kind, "metadata": {"name": "valence"}}
    return {"patch": {**head, "spec": spec}}


def _change(kind: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
    """A patch of what is in a list, which a merge would replace."""
    return {"target": {"kind": kind, "name": "valence"}, "patch": operations}
