"""The measurements of each round, and the medians that are reported.

A ratio compares two measurements of the same round, at most minutes apart, and the reported ratio
is the median over the rounds. Noise on the machine therefore affects both sides of a ratio.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Scenario:
    """A kind of load.

    Attributes:
        texts: Texts per request: 1 sends the field `text`, more send `texts`.
        connections: Concurrent connections.
        door: The protocol; empty for the native one.
    """

    texts: int
    connections: int
    door: str = ""

    def __str__(self) -> str:
        texts = "1 text" if self.texts == 1 else f"{self.texts} texts"
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        door = f", {self.door}" if self.door else ""
        return f"{texts} per request, {connections}{door}"


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one scenario in one round.

    Attributes:
        requests_per_s: Requests per second answered with status 200.
        texts_per_s: Texts in these requests per second.
        p50_ms: The median latency.
        p99_ms: The 99th percentile of the latency.
        cpu_ms_per_text: Processor time of the server and its children; None if not available.
        real_share: The share of real tokens in all computed tokens; None for the bare routes.
        batch_size: Mean number of texts per model run; None for the bare routes.
        errors: The number of failed requests, by kind of failure.
    """

    requests_per_s: float
    texts_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_text: float | None = None
    real_share: float | None = None
    batch_size: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Round:
    """The measurements of one model in one round.

    Attributes:
        in_process_ms: Median time to tokenize and infer one text in-process.
        ceiling: Texts per second in-process from ids, by batch size.
        ceiling_from_text: Texts per second in-process from strings, with the best batch size.
        samples: The service, by scenario.
        floor: The bare routes, by framework and connections.
    """

    in_process_ms: float = 0.0
    ceiling: dict[int, float] = field(default_factory=dict)
    ceiling_from_text: float = 0.0
    samples: dict[Scenario, Sample] = field(default_factory=dict)
    floor: dict[tuple[str, int], Sample] = field(default_factory=dict)


@dataclass(slots=True)
class ModelFigures:
    """All measurements of one model on one engine.

    Attributes:
        model: The name of the model.
        version: The version that answered.
        engine: The name of the engine.
        precision: The precision of the weights; empty if not known.
        errors: Wrong answers in the check before the rounds, by broken rule.
        rounds: The measurements.
    """

    model: str
    version: int
    engine: str
    precision: str
    errors: Mapping[str, int] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The model with its engine and precision."""
        precision = f" ({self.precision})" if self.precision else ""
        return f"{self.model} on {self.engine}{precision}"

    @property
    def scenarios(self) -> list[Scenario]:
        """All measured scenarios, in order."""
        return list(dict.fromkeys(scenario for r in self.rounds for scenario in r.samples))

    @property
    def floors(self) -> list[tuple[str, int]]:
        """All measured bare routes: framework and connections."""
        return list(dict.fromkeys(key for r in self.rounds for key in r.floor))

    @property
    def batch_size(self) -> int | None:
        """The batch size with the highest median throughput in-process."""
        sizes = {size for r in self.rounds for size in r.ceiling}
        return max(sizes, key=self._ceiling_of, default=None)

    @property
    def ceiling(self) -> float | None:
        """Texts per second in-process from ids, with the best batch size."""
        size = self.batch_size
        return None if size is None else self._ceiling_of(size)

    @property
    def ceiling_from_text(self) -> float | None:
        """Texts per second in-process from strings, with the best batch size."""
        return median(r.ceiling_from_text or None for r in self.rounds)

    @property
    def in_process_ms(self) -> float | None:
        """Milliseconds to tokenize and infer one text in-process."""
        return median(r.in_process_ms or None for r in self.rounds)

    def sample(self, scenario: Scenario) -> Sample | None:
        """The medians of a scenario over the rounds."""
        return merge(r.samples[scenario] for r in self.rounds if scenario in r.samples)

    def floor(self, framework: str, connections: int) -> Sample | None:
        """The medians of a bare route over the rounds."""
        key = framework, connections
        return merge(r.floor[key] for r in self.rounds if key in r.floor)

    def of_ceiling(self, scenario: Scenario, *, from_text: bool = False) -> float | None:
        """Texts per second divided by the in-process ceiling."""

        def ratio(r: Round, sample: Sample) -> float | None:
            ceiling = r.ceiling_from_text if from_text else r.ceiling.get(self.batch_size or 0)
            return sample.texts_per_s / ceiling if ceiling else None

        return self._over_rounds(scenario, ratio)

    def of_floor(self, framework: str, connections: int) -> float | None:
        """Requests per second divided by those of a bare route, at one text per request."""

        def ratio(r: Round, sample: Sample) -> float | None:
            floor = r.floor.get((framework, connections))
            rate = floor.requests_per_s if floor else 0
            return sample.requests_per_s / rate if rate else None

        return self._over_rounds(Scenario(1, connections), ratio)

    def of_other(self, scenario: Scenario, other: Scenario) -> float | None:
        """Requests per second divided by those of another scenario in the same round."""

        def ratio(r: Round, sample: Sample) -> float | None:
            rate = r.samples[other].requests_per_s if other in r.samples else 0
            return sample.requests_per_s / rate if rate else None

        return self._over_rounds(scenario, ratio)

    def tail(self, scenario: Scenario) -> float | None:
        """p99 divided by p50."""
        return self._over_rounds(scenario, lambda _, s: s.p99_ms / s.p50_ms if s.p50_ms else None)

    def added_ms(self, scenario: Scenario) -> float | None:
        """p50 minus the in-process time of one text."""
        return self._over_rounds(
            scenario, lambda r, s: s.p50_ms - r.in_process_ms if s.p50_ms else None
        )

    def count_errors(self) -> dict[str, int]:
        """Count all failures, by scenario and kind."""
        found = {f"{self.title}: {what}": count for what, count in self.errors.items()}
        for r in self.rounds:
            named = {str(scenario): sample for scenario, sample in r.samples.items()}
            named |= {f"{name} route, {at} connections": s for (name, at), s in r.floor.items()}
            for where, sample in named.items():
                for what, count in sample.errors.items():
                    key = f"{self.title}: {where}: {what}"
                    found[key] = found.get(key, 0) + count
        return found

    def _ceiling_of(self, size: int) -> float:
        return median(r.ceiling.get(size) for r in self.rounds) or 0.0

    def _over_rounds(
        self, scenario: Scenario, figure: Callable[[Round, Sample], float | None]
    ) -> float | None:
        """The median of a figure over the rounds with the scenario."""
        return median(figure(r, r.samples[scenario]) for r in self.rounds if scenario in r.samples)


@dataclass(slots=True)
class ServiceFigures:
    """All measurements of the service on one engine.

    Attributes:
        engine: The name of the engine.
        ready_s: Seconds from start to ready, for each start.
        resident_ready_bytes: Resident memory of all processes when ready, shared pages counted
            once.
        resident_bytes: The highest such memory, read after each scenario.
        resident_sum_bytes: The same, with shared pages counted for each process.
        processes: The number of processes.
        workers: The number of processes that answer requests.
        models: The measurements of each model.
    """

    engine: str
    ready_s: list[float] = field(default_factory=list)
    resident_ready_bytes: int | None = None
    resident_bytes: int | None = None
    resident_sum_bytes: int | None = None
    processes: int | None = None
    workers: int = 0
    models: list[ModelFigures] = field(default_factory=list)


def merge(samples: Iterable[Sample]) -> Sample | None:
    """Take medians of all samples and add up their errors; None without samples."""
    rows: Sequence[Sample] = list(samples)
    if not rows:
        return None
    errors: dict[str, int] = {}
    for row in rows:
        for what, count in row.errors.items():
            errors[what] = errors.get(what, 0) + count
    return Sample(
        requests_per_s=statistics.median(row.requests_per_s for row in rows),
        texts_per_s=statistics.median(row.texts_per_s for row in rows),
        p50_ms=statistics.median(row.p50_ms for row in rows),
        p99_ms=statistics.median(row.p99_ms for row in rows),
        cpu_ms_per_text=median(row.cpu_ms_per_text for row in rows),
        real_share=median(row.real_share for row in rows),
        batch_size=median(row.batch_size for row in rows),
        errors=errors,
    )


def median(values: Iterable[float | None]) -> float | None:
    """The median of all values that are not None; None without any."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
