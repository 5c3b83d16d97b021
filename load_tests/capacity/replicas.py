"""From the knee of one replica to a number of replicas, a target for the autoscaler, and patches.

A replica at the knee uses `cores_at_knee`. Utilization grows with the rate, and the rate of a
replica with the replicas that a lost node takes away: the target leaves room for both.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

TOLERANCE: Final = 0.1
"""The HPA does nothing while a metric is within a tenth of its target (its documented default)."""


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
        utilization: The autoscaler's target, in percent of the CPU request; None if not known.
        in_flight: The autoscaler's target for the requests in flight on a replica.
    """

    rate: float
    replicas: int
    lost: int
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
    while (replicas - math.ceil(replicas / nodes)) * capacity.rate < rate:
        replicas += 1
    lost = math.ceil(replicas / nodes)
    # After the loss, all replicas that are left must be below the knee; and the autoscaler must
    # have added one before.
    share = (replicas - lost) / replicas / (1 + TOLERANCE)
    return Need(
        rate=rate,
        replicas=replicas,
        lost=lost,
        utilization=_utilization(capacity, share),
        in_flight=capacity.in_flight(capacity.rate * share),
    )


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


def resources_patch(capacity: Capacity) -> dict[str, Any]:
    """The CPU request and limit of the Deployment: what was measured."""
    container = {
        "name": "server",
        "resources": {
            "requests": {"cpu": str(capacity.cores)},
            "limits": {"cpu": str(capacity.cores)},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "valence"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


def hpa_patch(least: Need, most: Need) -> list[dict[str, Any]]:
    """A JSON patch of the HorizontalPodAutoscaler.

    Args:
        least: At the lowest rate of the day.
        most: At the highest.
    """
    patch = [
        {"op": "replace", "path": "/spec/minReplicas", "value": least.replicas},
        {"op": "replace", "path": "/spec/maxReplicas", "value": most.replicas},
    ]
    if most.utilization is not None:
        path = "/spec/metrics/0/resource/target/averageUtilization"
        target = min(need.utilization or 100 for need in (least, most))
        patch.append({"op": "replace", "path": path, "value": target})
    return patch


def keda_patch(least: Need, most: Need) -> list[dict[str, Any]]:
    """A JSON patch of the ScaledObject, whose first trigger is the requests in flight."""
    target = min(least.in_flight, most.in_flight)
    return [
        {"op": "replace", "path": "/spec/minReplicaCount", "value": least.replicas},
        {"op": "replace", "path": "/spec/maxReplicaCount", "value": most.replicas},
        {"op": "replace", "path": "/spec/fallback/replicas", "value": most.replicas},
        {
            "op": "replace",
            "path": "/spec/triggers/0/metadata/threshold",
            "value": f"{target:.3g}",
        },
    ]
