"""One load at one rate: its figures, and whether it kept the objective."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from load_tests.bench.scrape import Counted
from load_tests.capacity.generator import Observed
from load_tests.slo import percentile

LAG_SHARE: Final = 0.1
"""The most of the limit that the generator's own lag may be, at p99."""
LAG_MS: Final = 2.0
"""A lag that is always allowed: a clock tick."""
BUSY_GENERATOR: Final = 0.9
"""The most of its core that a generator may use."""


class Verdict(Enum):
    """What a load says about the rate."""

    KEPT = "kept"
    BROKEN = "broken"
    VOID = "void"
    """The generator was late, so the latencies are partly its own."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the latency, in milliseconds.

    Attributes:
        mean_ms: The mean.
        p50_ms: The median.
        p99_ms: The 99th percentile.
    """

    mean_ms: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Trial:
    """The figures of one load.

    Attributes:
        rate: Requests per second, as offered.
        seconds: The duration, without warm-up.
        sent: The number of requests.
        answered: With status 200.
        failed: Other answers by status, as text; `0` stands for a lost one.
        p50_ms, p95_ms, p99_ms, mean_ms: Of the latency, from when a request was due.
        lag_p50_ms, lag_p99_ms: How late the generator sent.
        generator_cores: The processor time of all generators per second.
        generators: The number of generators.
        server_cores: The processor time of the service per second; None if it cannot be read.
        stages: The durations in `Server-Timing`, and `rest`: the latency without them.
        runs_per_s: Model runs per second.
        run_ms: The mean duration of a model run.
        run_items: The mean number of texts in a run.
        run_tokens: The mean number of tokens in a run, padding included.
    """

    rate: float
    seconds: float
    sent: int
    answered: int
    failed: Mapping[str, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    lag_p50_ms: float
    lag_p99_ms: float
    generator_cores: float
    generators: int = 1
    server_cores: float | None = None
    stages: Mapping[str, Stage] = field(default_factory=dict)
    runs_per_s: float = 0.0
    run_ms: float = 0.0
    run_items: float = 0.0
    run_tokens: float = 0.0

    def judge(self, limit_ms: float) -> Verdict:
        """Whether p99 is within the limit, without a refused or lost request.

        A late generator makes latencies longer, never shorter. So a load is broken despite it if
        the limit is exceeded by more than the lag, and is void if that cannot be told.
        """
        if self.failed or not self.answered or self.p99_ms - self.lag_p99_ms > limit_ms:
            return Verdict.BROKEN
        late = self.lag_p99_ms > max(LAG_MS, LAG_SHARE * limit_ms)
        if late or self.generator_cores > BUSY_GENERATOR * self.generators:
            return Verdict.VOID
        return Verdict.KEPT if self.p99_ms <= limit_ms else Verdict.VOID


def describe(
    rate: float,
    seen: Observed,
    *,
    generators: int = 1,
    server_cpu_s: float | None = None,
    runs: Counted | None = None,
) -> Trial:
    """Work out the figures of a load.

    Args:
        rate: Requests per second, as offered.
        seen: What the generators have seen.
        generators: Their number.
        server_cpu_s: The processor time of the service during the load.
        runs: What the service has counted during the load.
    """
    latencies, lags = sorted(seen.latencies_ms), sorted(seen.lags_ms)
    stages = dict(seen.stages_ms)
    if stages and all(len(values) == len(seen.latencies_ms) for values in stages.values()):
        stages["rest"] = [
            latency - sum(parts)
            for latency, *parts in zip(seen.latencies_ms, *stages.values(), strict=True)
        ]
    runs = runs or Counted()
    count = runs.batches or 1.0
    return Trial(
        rate=rate,
        seconds=seen.seconds,
        sent=seen.sent,
        answered=len(latencies),
        failed={str(status): n for status, n in sorted(seen.failed.items())},
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
        mean_ms=statistics.fmean(latencies) if latencies else 0.0,
        lag_p50_ms=percentile(lags, 0.50),
        lag_p99_ms=percentile(lags, 0.99),
        generator_cores=seen.cpu_s / seen.seconds,
        generators=generators,
        server_cores=None if server_cpu_s is None else server_cpu_s / seen.seconds,
        stages={name: _stage(values) for name, values in stages.items() if values},
        runs_per_s=runs.batches / seen.seconds,
        run_ms=runs.run_s * 1e3 / count,
        run_items=runs.items / count,
        run_tokens=(runs.real_tokens + runs.filler_tokens) / count,
    )


def _stage(values: Sequence[float]) -> Stage:
    ordered = sorted(values)
    return Stage(statistics.fmean(ordered), percentile(ordered, 0.50), percentile(ordered, 0.99))
