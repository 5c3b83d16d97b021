"""The search for the knee, against services whose true capacity is known, in virtual time."""

import itertools
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from load_tests.bench.errors import BenchError
from load_tests.capacity.search import find_knee, find_knees

SERVICE_S = 0.002
LIMIT_S = 0.020


def p99_s(rate: float, requests: int, seed: int) -> float:
    """Of a queue with one server and a constant service time, by Lindley's recursion."""
    rng = np.random.default_rng(seed)
    steps = SERVICE_S - rng.exponential(1 / rate, requests)
    walk = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    waits = walk - np.minimum.accumulate(walk)
    return float(np.quantile(waits + SERVICE_S, 0.99))


@cache
def true_capacity() -> float:
    """By bisection, from so many requests that nothing is left to chance."""
    low, high = 1.0, 1 / SERVICE_S
    while high > low * 1.001:
        middle = (low + high) / 2
        low, high = (middle, high) if p99_s(middle, 400_000, 1) <= LIMIT_S else (low, middle)
    return low


def noisy_probe(requests: int) -> Callable[[float], bool]:
    seeds = itertools.count(7)
    return lambda rate: p99_s(rate, requests, next(seeds)) <= LIMIT_S


@pytest.mark.parametrize("start", [3.0, 130.0, 5000.0])
def test_a_queue(start: float) -> None:
    """From any start, loads of 10,000 requests find the rate that millions have, within 5 %."""
    knee = find_knee(noisy_probe(10_000), start=start, factor=1.5, tolerance=0.03)
    assert knee.rate == pytest.approx(true_capacity(), rel=0.05)
    assert knee.low < knee.high <= knee.low * 1.031


@pytest.mark.parametrize("factor", [1.1, 1.5, 2.0])
def test_an_exact_service(factor: float) -> None:
    """The ends enclose the capacity of a service without chance, and are measured again."""
    measured: list[float] = []

    def probe(rate: float) -> bool:
        measured.append(rate)
        return rate <= 321.0

    knee = find_knee(probe, start=100, factor=factor, tolerance=0.02)
    assert knee.low <= 321 < knee.high <= knee.low * 1.02 + 1e-9
    assert (measured.count(knee.low), measured.count(knee.high)) == (3, 2)
    assert knee.probes == len(measured)


def test_one_lucky_load_is_not_believed() -> None:
    """A rate that is kept once and broken twice afterwards is not the knee."""
    luck = iter([True])

    def probe(rate: float) -> bool:
        return rate <= 100 or (rate <= 150 and next(luck, False))

    knee = find_knee(probe, start=100, factor=1.5, tolerance=0.04)
    assert 100 / 1.04**2 < knee.low <= 100


def test_one_unlucky_load_is_not_believed() -> None:
    """A rate that is broken once and kept twice afterwards is below the knee."""
    broken = iter([False])

    def probe(rate: float) -> bool:
        return next(broken, rate <= 200) if math.isclose(rate, 150) else rate <= 200

    knee = find_knee(probe, start=100, factor=1.5, tolerance=0.04)
    assert knee.low == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(("kept", "rule"), [(False, "no rate is kept"), (True, "was not found")])
def test_a_search_that_leads_nowhere_ends(kept: bool, rule: str) -> None:
    """A service that keeps no rate, or every rate, ends the search with a reason."""
    with pytest.raises(BenchError, match=rule):
        find_knee(lambda _: kept, start=100, factor=1.5, tolerance=0.04)


def test_knees_are_found_side_by_side() -> None:
    """Loads of several alternate, each search ends as it would alone, and the last ones go on."""
    order: list[int] = []

    def probe(number: int, capacity: float) -> Callable[[float], bool]:
        def measure(rate: float) -> bool:
            order.append(number)
            return rate <= capacity

        return measure

    capacities = (321.0, 1234.0)
    knees = find_knees(
        [probe(number, capacity) for number, capacity in enumerate(capacities)],
        [300, 10],
        factor=1.5,
        tolerance=0.02,
    )
    alone = [
        find_knee(probe(2, capacity), start=start, factor=1.5, tolerance=0.02)
        for capacity, start in zip(capacities, (300, 10), strict=True)
    ]
    assert knees == alone
    both = order[: 2 * min(knee.probes for knee in knees)]
    assert both == [0, 1] * (len(both) // 2)
