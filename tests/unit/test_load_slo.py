from dataclasses import replace

import pytest

from load_tests.slo import Measured, Objectives, missed, percentile

GOOD = Measured(name="one text", requests=1000, failures=0, p95_ms=40, p99_ms=90, rate=50)


def test_a_good_run_misses_nothing() -> None:
    """A run that is exactly at its objectives meets them."""
    assert missed(Objectives(p95_ms=40, p99_ms=90, min_rate=50), [GOOD]) == []


def test_one_failure_misses_by_default() -> None:
    """A single failure misses, unless an error ratio is allowed."""
    assert missed(Objectives(), [replace(GOOD, failures=1)]) == [
        "one text: 1 of 1000 failed (0.10%), allowed 0.00%"
    ]


def test_an_allowed_error_ratio_is_allowed() -> None:
    """Failures up to the allowed ratio pass."""
    assert missed(Objectives(max_error_ratio=0.001), [replace(GOOD, failures=1)]) == []


@pytest.mark.parametrize(
    ("objectives", "sentence"),
    [
        (Objectives(p95_ms=39), "one text: p95 40 ms, at most 39 ms"),
        (Objectives(p99_ms=89), "one text: p99 90 ms, at most 89 ms"),
        (Objectives(min_rate=51), "50.0 requests/s, at least 51.0"),
    ],
)
def test_each_objective_is_checked(objectives: Objectives, sentence: str) -> None:
    """A missed objective is reported with the measured value."""
    assert missed(objectives, [GOOD]) == [sentence]


def test_each_kind_is_judged_by_itself() -> None:
    """A slow kind of request does not hide behind a fast one."""
    slow = replace(GOOD, name="several texts", p95_ms=400)
    assert missed(Objectives(p95_ms=100), [GOOD, slow]) == [
        "several texts: p95 400 ms, at most 100 ms"
    ]


def test_rates_of_all_kinds_add_up() -> None:
    """The rate is the sum over all kinds of requests."""
    assert missed(Objectives(min_rate=100), [GOOD, GOOD]) == []


def test_a_run_without_requests_misses() -> None:
    """A run without a request misses, whatever the objectives are."""
    assert missed(Objectives(max_error_ratio=1), []) == ["no requests at all"]


@pytest.mark.parametrize("wrong", [{"max_error_ratio": 1.5}, {"p95_ms": 0}, {"min_rate": -1}])
def test_objectives_have_bounds(wrong: dict[str, float]) -> None:
    """An objective out of its bounds is rejected."""
    with pytest.raises(ValueError, match="Received"):
        Objectives(**wrong)


def test_percentile_is_a_measured_value() -> None:
    """The percentile is one of the measured values, without interpolation."""
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile([1, 2, 3, 4], 0.95) == 4
    assert percentile([7], 0.01) == 7
    assert percentile(range(100), 0.99) == 98
    assert percentile([], 0.99) == 0
