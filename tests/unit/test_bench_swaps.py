"""The arithmetic of the measurement of hot swaps."""

import pytest

from load_tests.bench.swaps import Answer, Outcome, count_mixed


def answers(*each: tuple[float, float, int]) -> list[Answer]:
    return [Answer(*one) for one in each]


@pytest.mark.parametrize(
    ("seen", "mixed"),
    [
        ([(0, 1, 1), (1, 2, 1), (3, 4, 2)], 0),
        ([(0, 1, 2), (2, 3, 1)], 1),  # it began after version 2 had been seen
        ([(0, 3, 1), (1, 2, 2)], 0),  # it was in flight during the swap
        ([(0, 1, 2), (2, 3, 0)], 0),  # it was lost, which is counted apart
        ([(4, 5, 1), (0, 1, 1), (2, 3, 2), (4, 5, 2)], 1),
    ],
)
def test_mixed(seen: list[tuple[float, float, int]], mixed: int) -> None:
    """A request is mixed if it began after the answer of a newer version than its own."""
    assert count_mixed(answers(*seen)) == mixed


def test_lost_and_latency() -> None:
    """Lost requests are counted; latencies are split by whether a request overlaps a swap."""
    outcome = Outcome(answers((0, 0.01, 1), (1, 1.05, 0), (3, 3.02, 2)), [(0.9, 1.2)], [100])
    assert outcome.lost == 1
    assert outcome.p99_ms(swapping=True) == pytest.approx(50)
    assert outcome.p99_ms(swapping=False) == pytest.approx(20)


def test_memory_growth() -> None:
    """Growth is from the swaps at the beginning to those at the end, without the first five."""
    outcome = Outcome([], [], [50, *[80] * 5, *[100] * 5, *[102] * 5])
    assert outcome.memory_growth == pytest.approx(0.02)
