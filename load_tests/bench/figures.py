"""What was measured, round by round, and the medians that are reported.

Whatever is compared was measured in the same round, minutes apart at most, and a ratio is the
median of the rounds' ratios: a noisy machine disturbs both sides of it, and one round of several.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Scenario:
    """A kind of load.

    Attributes:
        texts: In one request; 1 is a request of `text`, more is one of `texts`.
        connections: Busy at once.
    """

    texts: int
    connections: int

    def __str__(self) -> str:
        texts = "1 text" if self.texts == 1 else f"{self.texts} texts"
        return f"{texts} a request, {self.connections} at once"


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario in one round.

    Attributes:
        requests_per_s: Answered rightly, as far as was looked.
        texts_per_s: In those.
        p50_ms: Half of the requests took at most this long.
        p99_ms: 99 of 100.
        cpu_ms_per_text: Processor time of the server and its children; None where the system
            does not tell.
        real_share: Real tokens of all that were computed; None for what counts no tokens.
        batch_size: Texts of a model run, on average.
        errors: Failed requests, by what was wrong.
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
    """One model in one round.

    Attributes:
        in_process_ms: Tokenize and infer one text in-process, median.
        ceiling: Texts per second in-process from ids, by rows of a batch.
        ceiling_from_text: The same from text, with the best of these batches.
        samples: The service.
        floor: The bare route, by framework and connections.
    """

    in_process_ms: float = 0.0
    ceiling: dict[int, float] = field(default_factory=dict)
    ceiling_from_text: float = 0.0
    samples: dict[Scenario, Sample] = field(default_factory=dict)
    floor: dict[tuple[str, int], Sample] = field(default_factory=dict)


@dataclass(slots=True)
class ModelFigures:
    """One model on one engine.

    Attributes:
        errors: Wrong answers to the texts that were sent once each, before the rounds.
    """

    model: str
    version: int
    engine: str
    precision: str
    errors: Mapping[str, int] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The model and what runs it."""
        precision = f" ({self.precision})" if self.precision else ""
        return f"{self.model} on {self.engine}{precision}"

    @property
    def scenarios(self) -> list[Scenario]:
        """What was measured, in that order."""
        return list(dict.fromkeys(scenario for r in self.rounds for scenario in r.samples))

    @property
    def floors(self) -> list[tuple[str, int]]:
        """Frameworks and connections that were measured."""
        return list(dict.fromkeys(key for r in self.rounds for key in r.floor))

    @property
    def batch_size(self) -> int | None:
        """Rows of the batches that reach the ceiling."""
        sizes = {size for r in self.rounds for size in r.ceiling}
        return max(sizes, key=self._ceiling_of, default=None)

    @property
    def ceiling(self) -> float | None:
        """Texts per second in-process, from ids."""
        size = self.batch_size
        return None if size is None else self._ceiling_of(size)

    @property
    def ceiling_from_text(self) -> float | None:
        """Texts per second in-process, tokenizing included."""
        return median(r.ceiling_from_text or None for r in self.rounds)

    @property
    def in_process_ms(self) -> float | None:
        """One text in-process."""
        return median(r.in_process_ms or None for r in self.rounds)

    def sample(self, scenario: Scenario) -> Sample | None:
        """The medians of a scenario."""
        return merge(r.samples[scenario] for r in self.rounds if scenario in r.samples)

    def floor(self, framework: str, connections: int) -> Sample | None:
        """The medians of the bare route."""
        key = framework, connections
        return merge(r.floor[key] for r in self.rounds if key in r.floor)

    def of_ceiling(self, scenario: Scenario, *, from_text: bool = False) -> float | None:
        """Texts per second over the ceiling."""

        def ratio(r: Round, sample: Sample) -> float | None:
            ceiling = r.ceiling_from_text if from_text else r.ceiling.get(self.batch_size or 0)
            return sample.texts_per_s / ceiling if ceiling else None

        return self._over_rounds(scenario, ratio)

    def of_floor(self, framework: str, connections: int) -> float | None:
        """Requests per second over the bare route, one text a request."""

        def ratio(r: Round, sample: Sample) -> float | None:
            floor = r.floor.get((framework, connections))
            rate = floor.requests_per_s if floor else 0
            return sample.requests_per_s / rate if rate else None

        return self._over_rounds(Scenario(1, connections), ratio)

    def tail(self, scenario: Scenario) -> float | None:
        """p99 over p50."""
        return self._over_rounds(scenario, lambda _, s: s.p99_ms / s.p50_ms if s.p50_ms else None)

    def added_ms(self, scenario: Scenario) -> float | None:
        """p50 minus the time that one text takes in-process."""
        return self._over_rounds(
            scenario, lambda r, s: s.p50_ms - r.in_process_ms if s.p50_ms else None
        )

    def count_errors(self) -> dict[str, int]:
        """Everything that failed, by where and what."""
        found = {f"{self.title}: {what}": count for what, count in self.errors.items()}
        for r in self.rounds:
            named = {str(scenario): sample for scenario, sample in r.samples.items()}
            named |= {f"{name} route, {at} at once": s for (name, at), s in r.floor.items()}
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
        """The median over the rounds that have the scenario."""
        return median(figure(r, r.samples[scenario]) for r in self.rounds if scenario in r.samples)


@dataclass(slots=True)
class ServiceFigures:
    """The service with all its models, on one engine.

    Attributes:
        ready_s: Of each start.
        resident_ready_bytes: Memory when it was ready, all processes of it together; what they
            share is counted once.
        resident_bytes: The most of it that was seen between the scenarios.
        resident_sum_bytes: The same, but what they share is counted for each.
        processes: How many there were.
        workers: How many of them answered.
        models: What was measured of each.
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
    """The medians of samples and the sum of their errors; None of none."""
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
    """The median of what is there; None of nothing."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
