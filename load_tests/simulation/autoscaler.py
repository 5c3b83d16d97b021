"""The documented rules of the HorizontalPodAutoscaler, and of KEDA, which makes one.

Source:
    Kubernetes, "Horizontal Pod Autoscaling": algorithm details, configurable scaling behavior.
    KEDA, "Scaling Deployments": a ScaledObject becomes an HPA with external metrics.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from load_tests.capacity.replicas import TOLERANCE

SYNC_S: Final = 15.0
"""The controller looks every 15 s."""

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Policy:
    """How much may change within a period.

    Attributes:
        kind: Whether `value` is a number of pods or a percentage of them.
        value: How much.
        period_s: The period, in seconds.
    """

    kind: Literal["Pods", "Percent"]
    value: float
    period_s: float


@dataclass(frozen=True, slots=True)
class Direction:
    """How the number of pods may move in one direction.

    Attributes:
        policies: Of which the one that allows the most change counts.
        stabilization_s: The most cautious wish within this time counts.
    """

    policies: tuple[Policy, ...]
    stabilization_s: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """The bounds and the behaviour of an autoscaler. The defaults are those of Kubernetes.

    Attributes:
        least, most: The bounds of the number of pods.
        up, down: The behaviour.
        tolerance: The deviation of a metric that changes nothing.
    """

    least: int
    most: int
    up: Direction = Direction((Policy("Percent", 100, 15), Policy("Pods", 4, 15)), 0)
    down: Direction = Direction((Policy("Percent", 100, 15),), 300)
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Utilization:
    """A resource metric, as CPU: the mean over the pods, compared with a target.

    Attributes:
        ready: Of each ready pod, in percent of its request.
        unready: The number of pods that are not ready yet.
        target: In percent of the request.
    """

    ready: Sequence[float]
    unready: int
    target: float

    def wish(self, current: int, tolerance: float) -> int:
        """The number of pods that would bring the metric to its target.

        Pods that are not ready count as using nothing while there should be more, which damps the
        growth; if that turns growth into its contrary, nothing is changed.
        """
        if not self.ready:
            return current
        ratio = sum(self.ready) / len(self.ready) / self.target
        if not self.unready or ratio < 1:
            # Pods that are not ready are left out where the number falls.
            return _resize(len(self.ready), ratio, current, tolerance)
        count = len(self.ready) + self.unready
        damped = sum(self.ready) / count / self.target
        if damped <= 1 + tolerance:
            return current
        return max(current, _ceil(damped * count))


@dataclass(frozen=True, slots=True)
class Average:
    """An external metric of type AverageValue: a total, compared with a target for each pod."""

    total: float
    target: float

    def wish(self, current: int, tolerance: float) -> int:
        """The number of pods that would bring the metric to its target."""
        if current and abs(self.total / (self.target * current) - 1) <= tolerance:
            return current
        return _ceil(self.total / self.target)


@dataclass(frozen=True, slots=True)
class Value:
    """An external metric of type Value: compared with a target, whatever the number of pods."""

    value: float
    target: float

    def wish(self, current: int, tolerance: float) -> int:
        """The number of pods that would bring the metric to its target, if it falls with it."""
        return _resize(current, self.value / self.target, current, tolerance)


Metric = Utilization | Average | Value


class Autoscaler:
    """Decides on the number of pods, at each sync.

    Args:
        scaling: Bounds and behaviour.
    """

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._wishes: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now: float, current: int, metrics: Sequence[Metric]) -> int:
        """The number of pods that there should be.

        Args:
            now: In seconds.
            current: The number of pods that there should be so far.
            metrics: Of which the one with the highest wish counts.
        """
        scaling = self._scaling
        wish = max(metric.wish(current, scaling.tolerance) for metric in metrics)
        wish = self._stabilize(now, current, wish)
        wish = self._limit(now, current, wish)
        decided = min(max(wish, scaling.least), scaling.most)
        if decided != current:
            self._changes.append((now, decided - current))
        return decided

    def _stabilize(self, now: float, current: int, wish: int) -> int:
        """The lowest wish of the window up and the highest of the window down, as bounds."""
        up_s, down_s = self._scaling.up.stabilization_s, self._scaling.down.stabilization_s
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - max(up_s, down_s):
            self._wishes.popleft()
        lowest = min(w for at, w in self._wishes if at >= now - up_s)
        highest = max(w for at, w in self._wishes if at >= now - down_s)
        return min(max(current, lowest), highest)

    def _limit(self, now: float, current: int, wish: int) -> int:
        """Bound the change by the policies."""
        if wish > current:
            allowed = [self._most(now, current, policy) for policy in self._scaling.up.policies]
            return min(wish, max(max(allowed), current))
        if wish < current:
            allowed = [self._fewest(now, current, policy) for policy in self._scaling.down.policies]
            return max(wish, min(*allowed, current))
        return wish

    def _most(self, now: float, current: int, policy: Policy) -> int:
        start = current - self._changed(now, policy.period_s, +1)
        if policy.kind == "Pods":
            return start + math.floor(policy.value)
        return _ceil(start * (1 + policy.value / 100))

    def _fewest(self, now: float, current: int, policy: Policy) -> int:
        start = current + self._changed(now, policy.period_s, -1)
        if policy.kind == "Pods":
            return start - math.floor(policy.value)
        return math.floor(start * (1 - policy.value / 100) + _ROUNDING)

    def _changed(self, now: float, period_s: float, sign: int) -> int:
        """How many pods were added or removed within a period."""
        return sum(
            abs(change) for at, change in self._changes if at > now - period_s and change * sign > 0
        )


def _resize(count: int, ratio: float, current: int, tolerance: float) -> int:
    return current if abs(ratio - 1) <= tolerance + _ROUNDING else _ceil(count * ratio)


def _ceil(value: float) -> int:
    return math.ceil(value - _ROUNDING)
