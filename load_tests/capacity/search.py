"""The search for the highest rate that is kept: bracket, bisect, confirm."""

import math
from collections.abc import Callable, Generator, Sequence
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

    Args:
        probe: Measures a rate.
        start: The first rate to try.
        factor: By how much it is raised or lowered until the knee is enclosed, above 1.
        tolerance: The most that the ends may be apart, as a share of the lower one.

    Raises:
        BenchError: No rate is kept, however low; or every rate is.
    """
    return find_knees([probe], [start], factor=factor, tolerance=tolerance)[0]


def find_knees(
    probes: Sequence[Probe], starts: Sequence[float], *, factor: float, tolerance: float
) -> list[Knee]:
    """Find several knees, a load of each in turn: a machine that changes its pace changes all.

    Args:
        probes: Each measures a rate of something else.
        starts: The first rate of each.
        factor: As in `find_knee`.
        tolerance: As in `find_knee`.

    Raises:
        BenchError: As in `find_knee`.
    """
    searches = [_search(start, factor, tolerance) for start in starts]
    rates = {number: next(search) for number, search in enumerate(searches)}
    found: dict[int, Knee] = {}
    while rates:
        for number, rate in list(rates.items()):
            try:
                rates[number] = searches[number].send(probes[number](rate))
            except StopIteration as end:
                found[number] = end.value
                del rates[number]
    return [found[number] for number in range(len(searches))]


_Measuring = Generator[float, bool, bool]
"""Yields the rates to measure, and is told of each whether it was kept."""


def _search(start: float, factor: float, tolerance: float) -> Generator[float, bool, Knee]:
    """Search for a knee; yields the rates to measure, and is told of each whether it was kept.

    One measurement says little near the knee. So both ends must be confirmed, the lower one more
    strictly: it must be kept in two of up to three measurements more, and the upper one be broken
    in one of up to two. An end that is not confirmed moves by the tolerance.
    """
    search = _Search()
    low, high = yield from search.bracket(start, factor)
    while high > low * (1 + tolerance):
        middle = math.sqrt(low * high)
        if (yield from search.measure(middle)):
            low = middle
        else:
            high = middle
    while not (yield from search.confirm(low, kept=True, least=2)):
        low, high = low / (1 + tolerance), low
        search.check(low)
    while not (yield from search.confirm(high, kept=False, least=1)):
        low, high = high, high * (1 + tolerance)
        search.check(low)
    return Knee(low, high, search.probes)


class _Search:
    """Counts the measurements."""

    def __init__(self) -> None:
        self.probes = 0

    def measure(self, rate: float) -> _Measuring:
        self.probes += 1
        return (yield rate)

    def bracket(self, start: float, factor: float) -> Generator[float, bool, tuple[float, float]]:
        """A rate that was kept, and one that is higher by the factor and was broken."""
        rate = start
        if (yield from self.measure(rate)):
            while (yield from self.measure(rate * factor)):
                rate *= factor
                self.check(rate)
            return rate, rate * factor
        while not (yield from self.measure(rate / factor)):
            rate /= factor
            self.check(rate)
        return rate / factor, rate

    def confirm(self, rate: float, *, kept: bool, least: int) -> _Measuring:
        """Whether so many measurements agree before two do not."""
        agreed = against = 0
        while agreed < least and against < _ENOUGH_AGAINST:
            if (yield from self.measure(rate)) == kept:
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
