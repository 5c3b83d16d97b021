"""The figures about explanations."""

import pytest

from load_tests.bench.explanations import cut, rank_correlation


def test_words_are_cut_out() -> None:
    """Words leave a space, whatever the order they come in."""
    text = "a <b>good</b> film"
    words = [{"start": 14, "end": 18}, {"start": 5, "end": 9}]
    assert cut(text, words) == cut(text, words[::-1]) == "a <b> </b>  "


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [10, 20, 900], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 1, 2, 2], [5, 5, 7, 7], 1.0),
        ([1, 2, 3, 4], [2, 1, 4, 3], 0.6),
    ],
)
def test_rank_correlation(first: list[float], second: list[float], expected: float) -> None:
    """It is the correlation of the ranks; equal values share theirs."""
    assert rank_correlation(first, second) == pytest.approx(expected)
