"""Numbers that cost next to nothing to keep, and that several processes can add up.

A change is a handful of bytecodes. There is no lock: every change and every snapshot is made on
the thread of the event loop. prometheus_client takes a lock and several calls for a change, and
its processes meet in files that every change is written to; here a process tells its numbers when
it is asked. The text format is the library's.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, Generic, TypeAlias, TypeVar

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Row: TypeAlias = tuple[Sequence[str], Sequence[float]]
"""One series: its label values, in the order of their names, and its numbers."""
Snapshot: TypeAlias = dict[str, list[Row]]
"""The rows of each metric by name. It can be merged and rendered after a journey as JSON, too."""
Combine: TypeAlias = Callable[[Iterable[float]], float]
"""What the numbers of several processes make together: `sum`, `max` or `min`."""

_START_TIME: Final = "process_start_time_seconds"


class _Value:
    """One number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add `amount`."""
        self.value += amount

    def numbers(self) -> list[float]:
        """What a snapshot holds: the value."""
        return [self.value]

    def load(self, numbers: Sequence[float]) -> None:
        """Go on from what a snapshot holds."""
        (self.value,) = numbers


class Counter(_Value):
    """Only grows."""

    __slots__ = ()


class Gauge(_Value):
    """Goes up and down."""

    __slots__ = ()

    def dec(self, amount: float = 1) -> None:
        """Take `amount` away."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value


class Histogram:
    """Counts values by size.

    Args:
        bounds: The upper bound of each bucket, inclusive, in rising order. One more bucket takes
            what is above the last.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def numbers(self) -> list[float]:
        """What a snapshot holds: the sum of the values, then the count of each bucket alone."""
        return [self._sum, *self._counts]

    def load(self, numbers: Sequence[float]) -> None:
        """Go on from what a snapshot holds."""
        self._sum, *counts = numbers
        self._counts = [int(count) for count in counts]


Series = TypeVar("Series", Counter, Gauge, Histogram)


class Family(ABC, Generic[Series]):
    """One metric: a series for each combination of label values.

    Args:
        name: As on the page.
        what: The line of help.
        labels: The names of the labels.
        combine: How the numbers of several processes become one.
    """

    def __init__(self, name: str, what: str, labels: Sequence[str], combine: Combine) -> None:
        self.name = name
        self._what = what
        self._labels = tuple(labels)
        self._combine = combine
        self._series: dict[tuple[str, ...], Series] = {}

    def labels(self, *values: str) -> Series:
        """The series of these label values, which is on the page from now on.

        Raises:
            ValueError: There are more or fewer values than labels.
        """
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(
                    f"{self.name} takes {len(self._labels)} label values. Received: {len(values)}"
                )
            series = self._series[values] = self._make()
        return series

    def rows(self) -> list[Row]:
        """Every series, in the order in which they were first asked for."""
        return [(values, series.numbers()) for values, series in self._series.items()]

    def merge(self, snapshots: Iterable[Snapshot]) -> list[Row]:
        """The rows of several processes as those of one."""
        found: dict[tuple[str, ...], list[Sequence[float]]] = {}
        for snapshot in snapshots:
            for values, numbers in snapshot.get(self.name, ()):
                found.setdefault(tuple(values), []).append(numbers)
        return [
            (values, [self._combine(same) for same in zip(*numbers, strict=True)])
            for values, numbers in found.items()
        ]

    @abstractmethod
    def present(self, rows: Iterable[Row]) -> Metric:
        """The rows as the library writes them."""

    @abstractmethod
    def _make(self) -> Series:
        """A series at zero."""


class _Counters(Family[Counter]):
    def present(self, rows: Iterable[Row]) -> Metric:
        metric = CounterMetricFamily(self.name, self._what, labels=self._labels)
        for values, (value,) in rows:
            metric.add_metric(values, value)
        return metric

    def _make(self) -> Counter:
        return Counter()


class _Gauges(Family[Gauge]):
    def present(self, rows: Iterable[Row]) -> Metric:
        metric = GaugeMetricFamily(self.name, self._what, labels=self._labels)
        for values, (value,) in rows:
            metric.add_metric(values, value)
        return metric

    def _make(self) -> Gauge:
        return Gauge()


class _Histograms(Family[Histogram]):
    def __init__(
        self, name: str, what: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        super().__init__(name, what, labels, sum)
        self._bounds = tuple(bounds)

    def present(self, rows: Iterable[Row]) -> Metric:
        metric = HistogramMetricFamily(self.name, self._what, labels=self._labels)
        limits = (*self._bounds, float("inf"))
        names = [floatToGoString(limit) for limit in limits]  # type: ignore[no-untyped-call]
        for values, (total, *counts) in rows:
            metric.add_metric(values, list(zip(names, accumulate(counts), strict=True)), total)
        return metric

    def _make(self) -> Histogram:
        return Histogram(self._bounds)


AnyFamily = TypeVar("AnyFamily", bound=Family[Any])


class Tally:
    """What a process counts, and its own memory, time and files, named as by `ProcessCollector`.

    Where processes are merged, counters and histograms add, and so does a gauge that says how
    many: items, files, bytes (what processes share counts for each of them). A gauge that says
    whether takes the maximum. Of the times of start the first one stands.
    """

    def __init__(self) -> None:
        self._families: dict[str, Family[Any]] = {}
        self._process = ProcessCollector(registry=None)
        self._inherited: dict[str, float] = {}  # counted by a process before this one
        self._read_process()

    def counter(self, name: str, what: str, *labels: str) -> Family[Counter]:
        """Declare a counter; `name` ends with `_total`."""
        return self._add(_Counters(name, what, labels, sum))

    def gauge(self, name: str, what: str, *labels: str, combine: Combine = sum) -> Family[Gauge]:
        """Declare a gauge."""
        return self._add(_Gauges(name, what, labels, combine))

    def histogram(
        self, name: str, what: str, bounds: Sequence[float], *labels: str
    ) -> Family[Histogram]:
        """Declare a histogram; for `bounds` see there."""
        return self._add(_Histograms(name, what, labels, bounds))

    def snapshot(self) -> Snapshot:
        """The numbers of this process, now."""
        self._read_process()
        return {name: family.rows() for name, family in self._families.items()}

    def merge(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """The snapshots of several processes, each with a tally like this one, as one."""
        return {name: family.merge(snapshots) for name, family in self._families.items()}

    def remains(self, snapshot: Snapshot) -> Snapshot:
        """What counts on when a process has ended. Its gauges told of that process alone."""
        return {
            name: rows
            for name, rows in snapshot.items()
            if isinstance(self._families.get(name), (_Counters, _Histograms))
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Go on counting where another process ended."""
        for name, rows in self.remains(snapshot).items():
            for values, numbers in rows:
                self._families[name].labels(*values).load(numbers)
                if name in self._inherited:
                    (self._inherited[name],) = numbers

    def render(self, snapshot: Snapshot) -> bytes:
        """The page of a snapshot in Prometheus' text format."""
        return generate_latest(_Page(self._families.values(), snapshot))

    def _read_process(self) -> None:
        """Take the figures of the process; the library finds them where the system has them."""
        for metric in self._process.collect():
            for sample in metric.samples:
                name = sample.name
                if name not in self._families:
                    if metric.type == "counter":
                        self.counter(name, metric.documentation)
                        self._inherited[name] = 0.0
                    else:
                        combine = min if name == _START_TIME else sum
                        self.gauge(name, metric.documentation, combine=combine)
                self._families[name].labels().value = self._inherited.get(name, 0.0) + sample.value

    def _add(self, family: AnyFamily) -> AnyFamily:
        self._families[family.name] = family
        return family


class _Page(Collector):
    """A snapshot, to the library's eyes."""

    def __init__(self, families: Iterable[Family[Any]], snapshot: Snapshot) -> None:
        self._families = families
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield family.present(self._snapshot.get(family.name, ()))
