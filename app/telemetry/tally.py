"""A metrics registry that is cheap to update and whose snapshots can be merged across processes.

An update is a few bytecodes. There are no locks: all updates and snapshots happen on the thread of
the event loop. prometheus_client takes a lock per update, and in multiprocess mode writes every
update to a file; here a process takes a snapshot when asked. The text format is the library's: it
writes the lines of each series once, and later pages have other numbers in them.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
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

from app.telemetry.drift import population_stability_index

SeriesState: TypeAlias = tuple[Sequence[str], Sequence[float]]
"""One series: its label values, in the order of the label names, and its numbers."""
Snapshot: TypeAlias = dict[str, list[SeriesState]]
"""All series of each metric, by name. It survives a round trip through JSON."""
Combine: TypeAlias = Callable[[Iterable[float]], float]
"""How the numbers of several processes are combined: `sum`, `max` or `min`."""

_START_TIME: Final = "process_start_time_seconds"
_HEAD_LINES: Final = 2
"""Of each metric: HELP and TYPE."""


def _find_start() -> float:
    """When this process was started; NaN on systems where prometheus_client cannot tell."""
    samples = (s for metric in ProcessCollector(registry=None).collect() for s in metric.samples)
    return next((float(s.value) for s in samples if s.name == _START_TIME), math.nan)


_STARTED: Final = _find_start()
"""Of the service: it is found before workers are forked. A worker that answers `/metrics` alone,
because its supervisor is silent, is no container that was restarted."""


class _Value:
    """One number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Increase the value."""
        self.value += amount

    def numbers(self) -> list[float]:
        """The numbers in a snapshot: the value."""
        return [self.value]

    def load(self, numbers: Sequence[float]) -> None:
        """Restore the numbers of a snapshot."""
        (self.value,) = numbers


class Counter(_Value):
    """A value that only increases."""

    __slots__ = ()


class Gauge(_Value):
    """A value that goes up and down."""

    __slots__ = ()

    def dec(self, amount: float = 1) -> None:
        """Decrease the value."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value


class Histogram:
    """Counts observations in buckets.

    Args:
        bounds: The inclusive upper bound of each bucket, in increasing order. One more bucket
            counts the values above the last bound.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def counts(self) -> Sequence[int]:
        """How many values were in each bucket, and above the last bound."""
        return self._counts

    def numbers(self) -> list[float]:
        """The numbers in a snapshot: the sum, then the count of each bucket (not cumulative)."""
        return [self._sum, *self._counts]

    def load(self, numbers: Sequence[float]) -> None:
        """Restore the numbers of a snapshot."""
        self._sum, *counts = numbers
        self._counts = [int(count) for count in counts]


class Divergence:
    """Two histograms of the same bins, whose difference is shown where enough texts were seen."""

    __slots__ = ("_expected", "_observed", "_texts")

    def __init__(self) -> None:
        self.set((), (), 0)

    def set(self, expected: Sequence[float], observed: Sequence[float], texts: float) -> None:
        """Replace both, and the number of texts of the second."""
        self._expected, self._observed, self._texts = expected, observed, texts

    def numbers(self) -> list[float]:
        """The numbers in a snapshot: the bins of the first histogram, of the other, the texts."""
        return [*self._expected, *self._observed, self._texts]

    def load(self, numbers: Sequence[float]) -> None:
        """Restore the numbers of a snapshot."""
        self.set(*split_divergence(numbers))


def split_divergence(
    numbers: Sequence[float],
) -> tuple[Sequence[float], Sequence[float], float]:
    """The numbers of a `Divergence`, as its `set` takes them."""
    middle = len(numbers) // 2
    return numbers[:middle], numbers[middle:-1], numbers[-1]


Series = TypeVar("Series", Counter, Gauge, Histogram, Divergence)


class Family(ABC, Generic[Series]):
    """One metric: a series for each combination of label values.

    Args:
        name: The full name, with prefix.
        help_text: The HELP line.
        labels: The names of the labels.
        combine: How the numbers of several processes are combined.
    """

    def __init__(self, name: str, help_text: str, labels: Sequence[str], combine: Combine) -> None:
        self.name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._combine = combine
        self._series: dict[tuple[str, ...], Series] = {}
        self._starts: dict[tuple[str, ...], list[str]] = {}  # of the lines of each series

    def labels(self, *values: str) -> Series:
        """The series with these label values. It is created at zero if needed.

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

    def remove(self, unwanted: Callable[[Mapping[str, str]], bool]) -> None:
        """Remove the series whose labels are unwanted."""
        self._series = {
            values: series
            for values, series in self._series.items()
            if not unwanted(dict(zip(self._labels, values, strict=True)))
        }

    def states(self) -> list[SeriesState]:
        """All series, in the order of their creation."""
        return [(values, series.numbers()) for values, series in self._series.items()]

    def merge(self, snapshots: Iterable[Snapshot]) -> list[SeriesState]:
        """All series of several processes, combined."""
        found: dict[tuple[str, ...], list[Sequence[float]]] = {}
        for snapshot in snapshots:
            for values, numbers in snapshot.get(self.name, ()):
                found.setdefault(tuple(values), []).append(numbers)
        return [(values, self._combine_all(numbers)) for values, numbers in found.items()]

    def _combine_all(self, numbers: Sequence[Sequence[float]]) -> list[float]:
        """The numbers of one series in several processes, combined."""
        return [self._combine(same) for same in zip(*numbers, strict=True)]

    def lines(self, states: Iterable[SeriesState]) -> Iterator[str]:
        """The metric in Prometheus' text format, for a page that ends with a line break.

        With many series the library takes most of the time of a scrape, on the thread that answers
        requests, to write the same names and labels again.
        """
        shown = [(tuple(values), numbers) for values, numbers in states]
        new = [state for state in shown if state[0] not in self._starts]
        written = _write(self._to_metric(new))
        yield from written[:_HEAD_LINES]
        starts = iter([line.rpartition(" ")[0] for line in written[_HEAD_LINES:]])
        for values, numbers in new:
            self._starts[values] = list(islice(starts, len(self._show(numbers))))
        self._starts = {values: self._starts[values] for values, _ in shown}
        for values, numbers in shown:
            for start, number in zip(self._starts[values], self._show(numbers), strict=True):
                yield f"{start} {floatToGoString(number)}"  # type: ignore[no-untyped-call]

    @abstractmethod
    def _to_metric(self, states: Iterable[SeriesState]) -> Metric:
        """The series as a metric of prometheus_client."""

    def _show(self, numbers: Sequence[float]) -> Sequence[float]:
        """What the lines of a series show of its numbers, in the order of the library."""
        return numbers

    @abstractmethod
    def _make(self) -> Series:
        """Create a series at zero."""


class _Counters(Family[Counter]):
    def _to_metric(self, states: Iterable[SeriesState]) -> Metric:
        metric = CounterMetricFamily(self.name, self._help, labels=self._labels)
        for values, (value,) in states:
            metric.add_metric(values, value)
        return metric

    def _make(self) -> Counter:
        return Counter()


class _Gauges(Family[Gauge]):
    def _to_metric(self, states: Iterable[SeriesState]) -> Metric:
        metric = GaugeMetricFamily(self.name, self._help, labels=self._labels)
        for values, (value,) in states:
            metric.add_metric(values, value)
        return metric

    def _make(self) -> Gauge:
        return Gauge()


class _Histograms(Family[Histogram]):
    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        super().__init__(name, help_text, labels, sum)
        self._bounds = tuple(bounds)

    def _to_metric(self, states: Iterable[SeriesState]) -> Metric:
        metric = HistogramMetricFamily(self.name, self._help, labels=self._labels)
        limits = (*self._bounds, float("inf"))
        names = [floatToGoString(limit) for limit in limits]  # type: ignore[no-untyped-call]
        for values, (total, *counts) in states:
            metric.add_metric(values, list(zip(names, accumulate(counts), strict=True)), total)
        return metric

    def _show(self, numbers: Sequence[float]) -> Sequence[float]:
        total, *counts = numbers
        below = list(accumulate(counts))
        return [*below, below[-1], total]

    def _make(self) -> Histogram:
        return Histogram(self._bounds)


class _Divergences(Family[Divergence]):
    def _to_metric(self, states: Iterable[SeriesState]) -> Metric:
        metric = GaugeMetricFamily(self.name, self._help, labels=self._labels)
        for values, numbers in states:
            metric.add_metric(values, *self._show(numbers))
        return metric

    def _show(self, numbers: Sequence[float]) -> Sequence[float]:
        return [population_stability_index(*split_divergence(numbers))]

    def _combine_all(self, numbers: Sequence[Sequence[float]]) -> list[float]:
        """The sum. While a version with other labels takes over, the bins may be others."""
        first = len(numbers[0])
        return [sum(same) for same in zip(*(n for n in numbers if len(n) == first), strict=True)]

    def _make(self) -> Divergence:
        return Divergence()


AnyFamily = TypeVar("AnyFamily", bound=Family[Any])


class Tally:
    """The registry of a process, which includes the process metrics of prometheus_client.

    When processes are merged, counters, histograms and gauges of amounts are summed (memory that
    processes share counts once for each). A gauge that is 1 or 0 takes the maximum, and the start
    time the minimum.

    Attributes:
        before_snapshot: Called before each snapshot, to update what is read and not counted.
    """

    def __init__(self) -> None:
        self.before_snapshot: Callable[[], None] = lambda: None
        self._families: dict[str, Family[Any]] = {}
        self._process = ProcessCollector(registry=None)
        self._inherited: dict[str, float] = {}  # counts of the process that this one replaces
        self._read_process()

    def counter(self, name: str, help_text: str, *labels: str) -> Family[Counter]:
        """Declare a counter; `name` ends with `_total`."""
        return self._add(_Counters(name, help_text, labels, sum))

    def gauge(
        self, name: str, help_text: str, *labels: str, combine: Combine = sum
    ) -> Family[Gauge]:
        """Declare a gauge."""
        return self._add(_Gauges(name, help_text, labels, combine))

    def histogram(
        self, name: str, help_text: str, bounds: Sequence[float], *labels: str
    ) -> Family[Histogram]:
        """Declare a histogram with the bucket bounds of `Histogram`."""
        return self._add(_Histograms(name, help_text, labels, bounds))

    def divergence(self, name: str, help_text: str, *labels: str) -> Family[Divergence]:
        """Declare a gauge that shows how far two histograms differ, summed over the processes."""
        return self._add(_Divergences(name, help_text, labels, sum))

    def snapshot(self) -> Snapshot:
        """The numbers of this process now."""
        self.before_snapshot()
        self._read_process()
        return {name: family.states() for name, family in self._families.items()}

    def merge(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Merge the snapshots of several processes that declare the same metrics."""
        return {name: family.merge(snapshots) for name, family in self._families.items()}

    def remains(self, snapshot: Snapshot) -> Snapshot:
        """The part of a snapshot that outlives its process: everything but the gauges."""
        return {
            name: states
            for name, states in snapshot.items()
            if isinstance(self._families.get(name), (_Counters, _Histograms))
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Continue the counters and histograms of a process that has ended."""
        for name, states in self.remains(snapshot).items():
            for values, numbers in states:
                self._families[name].labels(*values).load(numbers)
                if name in self._inherited:
                    (self._inherited[name],) = numbers

    def render(self, snapshot: Snapshot) -> bytes:
        """Render a snapshot in Prometheus' text format."""
        lines: list[str] = []
        for name, family in self._families.items():
            lines += family.lines(snapshot.get(name, ()))
        return "\n".join((*lines, "")).encode()

    def _read_process(self) -> None:
        """Update the process metrics, on systems where prometheus_client has them."""
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
                value = _STARTED if name == _START_TIME else sample.value
                self._families[name].labels().value = self._inherited.get(name, 0.0) + value

    def _add(self, family: AnyFamily) -> AnyFamily:
        self._families[family.name] = family
        return family


class _One(Collector):
    """One metric as a collector of prometheus_client."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _write(metric: Metric) -> list[str]:
    """The lines of a metric: `_HEAD_LINES`, then those of its series."""
    return generate_latest(_One(metric)).decode().split("\n")[:-1]
