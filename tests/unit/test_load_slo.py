from dataclasses import replace

import pytest

from load_tests.slo import Measured, Objectives, missed, percentile

GOOD = Measured(name="one text", requests=1000, failures=0, p95_ms=40, p99_ms=90, rate=50)


def test_a_good_run_misses_nothing() -> None:
    """A run at its objectives, to the millisecond, has reached them."""
    assert missed(Objectives(p95_ms=40, p99_ms=90, min_rate=50), [GOOD]) == []


def test_one_wrong_answer_is_too_many() -> None:
    """Unless an error ratio is allowed, a single failure misses."""
    assert missed(Objectives(), [replace(GOOD, failures=1)]) == [
        "one text: 1 of 1000 failed (0.10%), at most 0.00% may"
    ]


def test_an_allowed_error_ratio_is_allowed() -> None:
    """Failures up to the ratio pass."""
    assert missed(Objectives(max_error_ratio=0.001), [replace(GOOD, failures=1)]) == []


@pytest.mark.parametrize(
    ("objectives", "sentence"),
    [
        (Objectives(p95_ms=39), "one text: p95 40 ms, at most 39 ms"),
        (Objectives(p99_ms=89), "one text: p99 90 ms, at most 89 ms"),
        (Objectives(min_rate=51), "50.0 requests/s, at least 51.0"),
    ],
)
def test_each_objective_is_judged(objectives: Objectives, sentence: str) -> None:
    """A missed objective is named, with what was measured."""
    assert missed(objectives, [GOOD]) == [sentence]


def test_each_kind_is_judged_by_itself() -> None:
    """A slow kind of request does not hide behind a fast one."""
    slow = replace(GOOD, name="several texts", p95_ms=400)
    assert missed(Objectives(p95_ms=100), [GOOD, slow]) == [
        "several texts: p95 400 ms, at most 100 ms"
    ]


def test_rates_of_all_kinds_add_up() -> None:
    """The rate is that of all requests together."""
    assert missed(Objectives(min_rate=100), [GOOD, GOOD]) == []


def test_nothing_sent_is_nothing_shown() -> None:
    """A run without a request misses, whatever its objectives."""
    assert missed(Objectives(max_error_ratio=1), []) == ["no requests at all"]


@pytest.mark.parametrize("wrong", [{"max_error_ratio": 1.5}, {"p95_ms": 0}, {"min_rate": -1}])
def test_objectives_have_bounds(wrong: dict[str, float]) -> None:
    """An objective that cannot be meant is refused."""
    with pytest.raises(ValueError, match="Received"):
        Objectives(**wrong)


def test_percentile_is_a_measured_value() -> None:
    """The percentile is the smallest value that the share of values does not exceed."""
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile([1, 2, 3, 4], 0.95) == 4
    assert percentile([7], 0.01) == 7
