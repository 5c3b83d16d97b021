"""Bounds of command-line options."""

import argparse
from collections.abc import Callable

import pytest

from load_tests.bench.options import above_zero, at_least, positive, share


@pytest.mark.parametrize(
    ("read", "word", "value"),
    [
        (positive, "1", 1),
        (at_least(2), "2", 2),
        (above_zero, "0.5", 0.5),
        (above_zero, "1e-9", 1e-9),
        (share, "0", 0),
        (share, "1", 1),
    ],
)
def test_within(read: Callable[[str], float], word: str, value: float) -> None:
    """A bound of whole numbers and of shares is within."""
    assert read(word) == value


@pytest.mark.parametrize(
    ("read", "word", "rule"),
    [
        (positive, "0", "at least 1"),
        (positive, "1.5", "a whole number"),
        (at_least(2), "1", "at least 2"),
        (at_least(2), "two", "a whole number"),
        (above_zero, "0", "above 0"),
        (above_zero, "inf", "above 0"),
        (above_zero, "nan", "above 0"),
        (above_zero, "", "a number"),
        (share, "1.01", "from 0 to 1"),
        (share, "-0.1", "from 0 to 1"),
        (share, "half", "a number"),
    ],
)
def test_beyond(read: Callable[[str], float], word: str, rule: str) -> None:
    """Anything else is refused with the rule, and what was received."""
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        read(word)
    assert rule in str(refused.value)
    assert str(refused.value).endswith(f"Received: {word}")
