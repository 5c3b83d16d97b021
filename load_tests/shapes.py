"""How the number of users changes during a load test.

A shape is a function from the elapsed share of the run time to a share of the users.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

LOW: Final = 0.25
"""The share of the users outside a spike."""
WAVES: Final = 6
"""The number of waves in a soak."""


def steady(_: float) -> float:
    """All users, all the time."""
    return 1.0


def step(at: float) -> float:
    """A quarter of the users, then two, three and four quarters: where does it begin to hurt?"""
    return (1 + min(int(at * 4), 3)) / 4


def spike(at: float) -> float:
    """All users in the middle fifth, a quarter of them before and after: does it recover?"""
    return 1.0 if 0.4 <= at < 0.6 else LOW


def soak(at: float) -> float:
    """Waves between half of the users and all of them, for hours: does anything grow?"""
    return 0.75 - 0.25 * math.cos(2 * math.pi * WAVES * at)


SHAPES: Final[Mapping[str, Callable[[float], float]]] = {
    "steady": steady,
    "step": step,
    "spike": spike,
    "soak": soak,
}


def count_users(shape: str, users: int, elapsed_s: float, run_time_s: float | None) -> int | None:
    """The number of users at a time; None once the run is over.

    Args:
        shape: A name in `SHAPES`.
        users: The most users.
        elapsed_s: Since the start.
        run_time_s: The duration; None if the run has no end.

    Raises:
        ValueError: A shape other than `steady` has no run time to be stretched over.
    """
    if run_time_s is None:
        if shape != "steady":
            raise ValueError(f"--shape {shape} needs --run-time")
        return users
    if elapsed_s >= run_time_s:
        return None
    return max(1, round(users * SHAPES[shape](elapsed_s / run_time_s)))
