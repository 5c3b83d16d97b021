"""A clock that jumps from event to event."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class VirtualTime:
    """Events in the order of their times, and of their making where those are equal.

    Attributes:
        now: In seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._numbers = itertools.count()

    def read(self) -> float:
        """The time, for those who want a clock."""
        return self.now

    def at(self, time: float, happen: Callable[[Any], None], subject: Any) -> None:
        """Let something happen to a subject at a time."""
        heapq.heappush(self._events, (time, next(self._numbers), happen, subject))

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen that is due before a time."""
        events = self._events
        while events and events[0][0] < until:
            self.now, _, happen, subject = heapq.heappop(events)
            happen(subject)
