"""The search for the highest rate that is kept: bracket, bisect, confirm."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from load_tests.bench.errors import BenchError

Probe = Callable[[float], bool]
"""Measures a rate; returns whether it was kept."""

_LEAST_RATE: Final = 0.1
_MOST_STEPS: Final = 40
_ENOUGH_AGAINST: Final = 2


@dataclass(frozen=True, slots=True)
class Knee:
    """Where a service begins to break its objective.

    Attributes:
        low: The highest rate that was kept, and was again when it was confirmed.
        high: The lowest rate that was broken, and was again when it was confirmed.
        probes: The number of measurements.
    """

    low: float
    high: float
    probes: int

    @property
    def rate(self) -> float:
        """The middle of both."""
        return math.sqrt(self.low * self.high)


def find_knee(probe: Probe, *, start: float, factor: float, tolerance: float) -> Knee:
    """Find the highest rate that is kept.

    One measurement says little near the knee. So both ends must be confirmed, the lower one more
    strictly: it must be kept in two of up to three measurements more, and the upper one be broken
    in one of up to two. An end that is not confirmed moves by the tolerance.

    Args:
        probe: Measures a rate.
        start: The first rate to try.
        factor: By how much it is raised or lowered until the knee is enclosed, above 1.
        tolerance: The most that the ends may be apart, as a share of the lower one.

    Raises:
        BenchError: No rate is kept, however low; or every rate is.
    """
    search = _Search(probe)
    low, high = search.bracket(start, factor)
    while high > low * (1 + tolerance):
        middle = math.sqrt(low * high)
        if search.measure(middle):
            low = middle
        else:
            high = middle
    while not search.confirm(low, kept=True, least=2):
        low, high = low / (1 + tolerance), low
        search.check(low)
    while not search.confirm(high, kept=False, least=1):
        low, high = high, high * (1 + tolerance)
        search.check(low)
    return Knee(low, high, search.probes)


class _Search:
    """Counts the measurements."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.probes = 0

    def measure(self, rate: float) -> bool:
        self.probes += 1
        return self._probe(rate)

    def bracket(self, start: float, factor: float) -> tuple[float, float]:
        """A rate that was kept, and one that is higher by the factor and was broken."""
        rate = start
        if self.measure(rate):
            while self.measure(rate * factor):
                rate *= factor
                self.check(rate)
            return rate, rate * factor
        while not self.measure(rate / factor):
            rate /= factor
            self.check(rate)
        return rate / factor, rate

    def confirm(self, rate: float, *, kept: bool, least: int) -> bool:
        """Whether so many measurements agree before two do not."""
        agreed = against = 0
        while agreed < least and against < _ENOUGH_AGAINST:
            if self.measure(rate) == kept:
                agreed += 1
            else:
                against += 1
        return agreed == least

    def check(self, rate: float) -> None:
        """Give up a search that leads nowhere.

        Raises:
            BenchError: It does.
        """
        if rate < _LEAST_RATE:
            raise BenchError("no rate is kept: is the limit shorter than one request takes?")
        if self.probes > _MOST_STEPS:
            raise BenchError(f"the knee was not found in {_MOST_STEPS} measurements")
