"""The autoscaler's rules, by the worked examples of the Kubernetes documentation."""

import itertools

import pytest

from load_tests.simulation.autoscaler import (
    Autoscaler,
    Average,
    Direction,
    Policy,
    Scaling,
    Utilization,
    Value,
)


def decide(current: int, *metrics: Utilization | Average | Value, most: int = 100) -> int:
    return Autoscaler(Scaling(1, most)).decide(0, current, metrics)


@pytest.mark.parametrize(
    ("current", "used", "target", "wish"),
    [
        (4, 200, 100, 8),  # "the number of replicas will be doubled, since 200.0 / 100.0 == 2.0"
        (4, 50, 100, 2),  # "you'll halve the number of replicas"
        (4, 109, 100, 4),  # "any scaling is skipped if the ratio is sufficiently close to 1.0"
        (4, 91, 100, 4),
        (4, 111, 100, 5),  # rounded up
        (10, 89, 100, 9),
    ],
)
def test_ratio(current: int, used: float, target: float, wish: int) -> None:
    """DesiredReplicas = ceil[currentReplicas * (currentMetricValue / desiredMetricValue)]."""
    metric = Utilization([used] * current, 0, target)
    assert metric.wish(current, 0.1) == wish


@pytest.mark.parametrize(
    ("ready", "unready", "wish"),
    [
        ([150.0] * 4, 0, 6),
        ([150.0] * 4, 1, 6),  # 120 % with a pod that uses nothing: ceil(1.2 * 5)
        ([150.0] * 4, 2, 6),  # 100 %: nothing more is needed
        ([150.0] * 4, 4, 8),  # 75 % would turn growth into its contrary
        ([50.0] * 4, 4, 2),
        ([], 3, 3),  # nothing is known
    ],
)
def test_unready_pods_damp_growth(ready: list[float], unready: int, wish: int) -> None:
    """Pods that are not ready count as 0 % for growth, and are left out otherwise."""
    assert Utilization(ready, unready, 100).wish(len(ready) + unready, 0.1) == wish


def test_external_metrics() -> None:
    """AverageValue divides a total by the target, Value multiplies the pods by a ratio."""
    assert decide(3, Average(total=160, target=16)) == 7  # 10, but 4 pods in 15 s
    assert Average(total=160, target=16).wish(3, 0.1) == 10
    assert Average(total=50, target=16).wish(3, 0.1) == 3  # within a tenth
    assert Value(value=0.1, target=0.05).wish(3, 0.1) == 6


def test_the_highest_wish_counts() -> None:
    """Of several metrics, the one that wants the most pods is followed."""
    assert decide(4, Utilization([50.0] * 4, 0, 100), Average(80, 16)) == 5


def test_bounds() -> None:
    """There are never more or fewer pods than allowed."""
    assert decide(4, Average(1e6, 1), most=7) == 7
    assert decide(4, Average(0, 1)) == 1


def falls(start: int, scaling: Scaling, *, every_s: float, times: int) -> list[int]:
    """The number of pods when only one is needed, from decision to decision."""
    autoscaler, found = Autoscaler(scaling), [start]
    for number in range(1, times + 1):
        found.append(autoscaler.decide(number * every_s, found[-1], [Average(0.1, 1)]))
    return found


def test_policies_of_the_documentation() -> None:
    """Of 80, "8 replicas will be reduced", of 72 again 8, and "below 40 ... 4 at a time"."""
    policies = (Policy("Pods", 4, 60), Policy("Percent", 10, 60))
    found = falls(80, Scaling(10, 100, down=Direction(policies, 0)), every_s=60, times=20)
    assert found[:3] == [80, 72, 64]
    below = [number for number in found if number <= 40]
    assert {a - b for a, b in itertools.pairwise(below) if b > 10} == {4}
    assert found[-1] == 10


def test_a_policy_counts_a_period() -> None:
    """What was removed in the last minute counts, however often the controller looks."""
    down = Direction((Policy("Pods", 4, 60),), 0)
    assert falls(20, Scaling(1, 100, down=down), every_s=15, times=8) == [
        *(20, 16, 16, 16, 16, 12, 12, 12, 12),
    ]


def test_default_growth() -> None:
    """By default, the pods may double or grow by 4 in 15 s, whichever is more."""
    autoscaler, found = Autoscaler(Scaling(1, 100)), [1]
    for number in range(5):
        found.append(autoscaler.decide(number * 15, found[-1], [Average(100, 1)]))
    assert found == [1, 5, 10, 20, 40, 80]


def test_stabilization() -> None:
    """Pods are removed only when fewer were enough for the whole window."""
    autoscaler = Autoscaler(Scaling(1, 100))
    assert autoscaler.decide(0, 10, [Average(10, 1)]) == 10
    assert [autoscaler.decide(at, 10, [Average(3, 1)]) for at in range(15, 315, 15)] == [10] * 20
    assert autoscaler.decide(315, 10, [Average(3, 1)]) == 3
