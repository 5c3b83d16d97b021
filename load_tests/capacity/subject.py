"""What is measured: a port, the services behind it, and the generators in front of it."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.bench.scrape import Counted, parse
from load_tests.bench.server import Server
from load_tests.capacity.generator import Generators
from load_tests.capacity.search import Knee, find_knee
from load_tests.capacity.trial import Trial, Verdict, describe

_LEAST_REQUESTS: Final = 1000
"""So that the 99th percentile is more than a handful of requests."""
_MOST_VOID: Final = 3
"""Loads in a row with a late generator, after which the run is refused."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a rate is measured.

    Attributes:
        limit_ms: What p99 must keep.
        seconds: The duration of a load; longer at low rates.
        warm_up_s: For so long before it requests are sent and not counted.
        tolerance: Of the search.
    """

    limit_ms: float
    seconds: float
    warm_up_s: float
    tolerance: float


class Subject:
    """One service or more behind one port, under load.

    Args:
        port: Where the generators send.
        servers: The services.
        generators: Running generators.
        model: The model whose runs are counted.
        terms: How a rate is measured.
        on_trial: Called with each load and its verdict.

    Attributes:
        trials: Every load so far.
    """

    def __init__(
        self,
        port: int,
        servers: Sequence[Server],
        generators: Generators,
        model: str,
        terms: Terms,
        on_trial: Callable[[Trial, Verdict], None] = lambda *_: None,
    ) -> None:
        self._port = port
        self._servers = servers
        self._generators = generators
        self._model = model
        self._terms = terms
        self._on_trial = on_trial
        self.trials: list[Trial] = []

    def find_knee(self, start: float, factor: float) -> Knee:
        """Search for the highest rate that keeps the limit.

        Raises:
            BenchError: There is none, or the generator was too late too often.
        """
        tolerance = self._terms.tolerance
        return find_knee(self.is_kept, start=start, factor=factor, tolerance=tolerance)

    def measure(self, rate: float) -> Trial:
        """Offer a rate; returns the figures."""
        terms = self._terms
        seconds = max(terms.seconds, _LEAST_REQUESTS / rate)
        before, cpu_before_s = self._read()
        seen = self._generators.run(self._port, rate, seconds, terms.warm_up_s)
        after, cpu_after_s = self._read()
        counted = seconds / seen.span_s  # the counters cover the warm-up and the last answers, too
        known = cpu_before_s is not None and cpu_after_s is not None
        trial = describe(
            rate,
            seen,
            generators=self._generators.count,
            server_cpu_s=((cpu_after_s or 0) - (cpu_before_s or 0)) * counted if known else None,
            runs=Counted(*(value * counted for value in astuple(after.since(before)))),
        )
        self.trials.append(trial)
        self._on_trial(trial, trial.judge(terms.limit_ms))
        return trial

    def is_kept(self, rate: float) -> bool:
        """Measure a rate, again where the generator was late; returns whether it was kept.

        Raises:
            BenchError: The generator was late too often.
        """
        for _ in range(_MOST_VOID):
            trial = self.measure(rate)
            verdict = trial.judge(self._terms.limit_ms)
            if verdict is not Verdict.VOID:
                return verdict is Verdict.KEPT
        raise BenchError(
            f"the load generator must send in time. Received: at {rate:.0f} requests/s it sent "
            f"{trial.lag_p99_ms:.1f} ms late at p99 and used {trial.generator_cores:.2f} cores. "
            "Give it a core that nothing else uses, or a longer --limit-ms"
        )

    def _read(self) -> tuple[Counted, float | None]:
        """The counters and the processor time of all services."""
        total, cpu_s = Counted(), 0.0
        for server in self._servers:
            page = parse(server.get("/metrics")[1], self._model)
            total = Counted(*(a + b for a, b in zip(astuple(total), astuple(page), strict=True)))
            usage = server.usage()
            if usage is None:
                return total, None
            cpu_s += usage.cpu_s
        return total, cpu_s
