"""Types of command-line options, each with its bounds."""

import argparse
import math
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """Make the type of a whole number with a lower bound."""

    def read(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = None
        if number is None or number < least:
            rule = f"must be a whole number, at least {least}. Received: {word}"
            raise argparse.ArgumentTypeError(rule)
        return number

    return read


positive = at_least(1)


def above_zero(word: str) -> float:
    """The type of a number above 0."""
    number = _read_number(word)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0. Received: {word}")
    return number


def share(word: str) -> float:
    """The type of a number from 0 to 1."""
    number = _read_number(word)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1. Received: {word}")
    return number


def _read_number(word: str) -> float:
    """A number; NaN, which is within no bounds, for any other word."""
    try:
        return float(word)
    except ValueError:
        return math.nan
