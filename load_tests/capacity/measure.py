"""The measurement: knees at several numbers of cores, and the loads around each."""

import json
import os
import statistics
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from load_tests.answers import wrong_prediction
from load_tests.bench.bundled import Bundled
from load_tests.bench.errors import BenchError, WrongCall
from load_tests.bench.load import Load
from load_tests.bench.server import Server, serve
from load_tests.bench.texts import single_bodies
from load_tests.capacity.generator import Generators, pinned
from load_tests.capacity.search import Knee
from load_tests.capacity.subject import Subject, Terms
from load_tests.capacity.trial import Trial, Verdict
from load_tests.slo import percentile

CURVE: Final = (0.3, 0.5, 0.7, 0.85, 0.95, 1.05, 1.2)
"""The shares of the knee at which loads make the picture."""

START_RATE: Final = 200.0
"""Requests per second of the first load, for each core."""
FIRST_FACTOR: Final = 2.0
NEXT_FACTOR: Final = 1.1
"""What a search multiplies rates by: the first one, and one that starts near the knee."""
_QUANTILES: Final = 100
_CHECKS: Final = 1000
_CHECK_CONNECTIONS: Final = 4
_CHECK_S: Final = 60

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cores a service and the generator use.

    Attributes:
        server: Of the service.
        generator: Of the generator.
        apart: Whether no core is used by both.
    """

    server: tuple[int, ...]
    generator: tuple[int, ...]

    @property
    def apart(self) -> bool:
        """Whether no core is used by both."""
        return not set(self.server) & set(self.generator)


@dataclass(slots=True)
class CoreFigures:
    """The figures of a service with some cores.

    Attributes:
        layout: The cores.
        workers: The processes that answer.
        knees: One for each round.
        curve: Loads at shares of the knee, in order.
    """

    layout: Layout
    workers: int
    knees: list[Knee] = field(default_factory=list)
    curve: list[Trial] = field(default_factory=list)

    @property
    def cores(self) -> int:
        """How many the service uses."""
        return len(self.layout.server)

    @property
    def rate(self) -> float:
        """Requests per second at the knee: the median over the rounds."""
        return statistics.median(knee.rate for knee in self.knees)

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest rate that was kept, and the highest that was broken, over the rounds."""
        return min(knee.low for knee in self.knees), max(knee.high for knee in self.knees)

    @property
    def at_knee(self) -> Trial:
        """The highest load of the curve that is below the knee."""
        below = [trial for trial in self.curve if trial.rate <= self.rate]
        return below[-1] if below else self.curve[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        models_dir: The repository of models.
        model: The model that is asked.
        engine: Its engine.
        texts: The texts.
        requests: The file of requests.
        cores: Numbers of cores of the service.
        rounds: Searches for each of them.
        terms: How a rate is measured.
        serve_options: Options of `valence serve`.
    """

    models_dir: Path
    model: str
    engine: str
    texts: Sequence[str]
    requests: Path
    cores: Sequence[int]
    rounds: int
    terms: Terms
    serve_options: Sequence[str] = ()


def choose_layout(cores: int, available: Collection[int]) -> Layout:
    """The service gets the first cores and the generator all others; all of them if none is left.

    Raises:
        WrongCall: There are not so many cores.
    """
    ordered = sorted(available)
    if cores > len(ordered):
        raise WrongCall(f"--cores must be at most {len(ordered)}. Received: {cores}")
    return Layout(tuple(ordered[:cores]), tuple(ordered[cores:] or ordered))


def available_cores() -> list[int]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def start_server(plan: Plan, cores: Collection[int], stack: ExitStack) -> Server:
    """Start a service on some cores, with a worker for each; the stack stops it."""
    workers = ("--workers", str(len(cores)), "--threads", "1")
    server = serve(plan.models_dir, plan.engine, (*workers, *plan.serve_options))
    with pinned(cores):
        return stack.enter_context(server)


def measure_cores(plan: Plan, cores: int, report: Report) -> CoreFigures:
    """Find the knee of a service with so many cores, and measure around it.

    Raises:
        BenchError: The service does not start or answer; or the generator is too late.
    """
    layout = choose_layout(cores, available_cores())
    with ExitStack() as stack:
        server = start_server(plan, layout.server, stack)
        generators = stack.enter_context(Generators(plan.requests, [layout.generator]))
        on_trial = tell(report, f"{cores} cores")
        subject = Subject(
            server.port,
            [server],
            generators,
            plan.model,
            plan.terms,
            on_trial,
        )
        figures = CoreFigures(layout, count_workers(server))
        start, factor = START_RATE * cores, FIRST_FACTOR
        for _ in range(plan.rounds):
            knee = subject.find_knee(start, factor)
            figures.knees.append(knee)
            start, factor = knee.low, NEXT_FACTOR
        figures.curve = [subject.measure(figures.rate * share) for share in CURVE]
    return figures


def tell(report: Report, what: str) -> Callable[[Trial, Verdict], None]:
    """A function that reports a load in a line."""

    def on_trial(trial: Trial, verdict: Verdict) -> None:
        report(
            f"{what}: {trial.rate:.0f} requests/s: p99 {trial.p99_ms:.1f} ms, "
            f"{sum(trial.failed.values())} failed, lag {trial.lag_p99_ms:.1f} ms: {verdict.value}"
        )

    return on_trial


def count_workers(server: Server) -> int:
    """The number of processes that answer."""
    return len(json.loads(server.get("/readyz")[1]).get("workers") or "1")


def check_answers(plan: Plan) -> list[int]:
    """Ask a quiet service for some texts, and check the answers.

    Returns:
        The quantiles of the tokens of a text, from 0 to 1 in steps of a hundredth.

    Raises:
        BenchError: An answer is wrong.
    """
    with ExitStack() as stack:
        server = start_server(plan, available_cores()[:1], stack)
        labels = _labels(server, plan.model)
        bodies = single_bodies(plan.texts[:_CHECKS], plan.model)
        load = Load(server.port, bodies, _CHECK_CONNECTIONS, _CHECK_S)
        outcome = Bundled(each_once=True).run(load)
    if outcome.errors:
        raise BenchError(f"requests failed before the load: {dict(outcome.errors)}")
    tokens = []
    for _, answer in outcome.sample:
        prediction = json.loads(answer)
        if rule := wrong_prediction(prediction, labels):
            raise BenchError(f"the service gave a wrong answer: {rule}")
        tokens.append(prediction["tokens"])
    return [round(percentile(tokens, number / _QUANTILES)) for number in range(_QUANTILES + 1)]


def _labels(server: Server, model: str) -> list[str]:
    models: list[dict[str, Any]] = json.loads(server.get("/models")[1])["models"]
    for entry in models:
        if entry["name"] == model:
            labels: list[str] = entry["versions"][0]["labels"]
            return labels
    names = ", ".join(entry["name"] for entry in models) or "none"
    raise BenchError(f"the service must have the model {model}. It has: {names}")
