"""Durations as a histogram: small enough to be sent by every worker every few seconds."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

_PER_MS: Final = 10
"""Counted in tenths of a millisecond."""


class Timings:
    """Durations by name, in milliseconds, to a tenth."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {}

    def add(self, name: str, milliseconds: float) -> None:
        """Count one duration."""
        self._counts.setdefault(name, Counter())[round(milliseconds * _PER_MS)] += 1

    def take(self) -> dict[str, list[list[int]]]:
        """Return what was counted since the last call, as msgpack can send it."""
        taken = {
            name: [[value, count] for value, count in counts.items()]
            for name, counts in self._counts.items()
        }
        self._counts.clear()
        return taken

    def merge(self, taken: dict[str, list[list[int]]]) -> None:
        """Add what `take` returned in another process."""
        for name, pairs in taken.items():
            counts = self._counts.setdefault(name, Counter())
            for value, count in pairs:
                counts[value] += count

    def quantiles(self, name: str, shares: Iterable[float]) -> list[float]:
        """The nearest-rank quantiles of a name that has durations, in milliseconds."""
        counts = sorted(self._counts[name].items())
        total = sum(count for _, count in counts)
        return [self._rank(counts, max(1, -int(-share * total // 1))) for share in shares]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._counts)

    @staticmethod
    def _rank(counts: list[Any], rank: int) -> float:
        seen = 0
        for value, count in counts:
            seen += count
            if seen >= rank:
                return float(value / _PER_MS)
        raise AssertionError("the rank is at most the number of durations")
