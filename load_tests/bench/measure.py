"""The measurement: rounds in which the service and its references take turns."""

import contextlib
import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from load_tests.bench.bundled import Bundled
from load_tests.bench.ceiling import Ceiling
from load_tests.bench.checks import Probabilities, check_many, check_one
from load_tests.bench.doors import check_door, through_door
from load_tests.bench.errors import BenchError
from load_tests.bench.figures import ModelFigures, Round, Sample, Scenario, ServiceFigures
from load_tests.bench.goals import BUSY, DOORS, FLOOR, MANY
from load_tests.bench.load import Generator, Load, Outcome
from load_tests.bench.scrape import parse
from load_tests.bench.server import Server, serve, serve_floor
from load_tests.bench.texts import groups, many_bodies, single_bodies

BATCH_SIZES: Final = (4, 8, 16)
"""Batch sizes that are tried for the ceiling."""

_FASTAPI: Final = "fastapi"
_EACH_ONCE: Final = Scenario(1, 16)
_EACH_ONCE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        models_dir: The repository of models.
        models: Names of models; the bare routes are measured next to the last one.
        engines: Names of engines.
        connections: Numbers of concurrent connections, for one text per request.
        rounds: The number of rounds.
        seconds: The duration of each load.
        texts: The texts to send.
        generator: The load generator.
        serve_options: Options for `valence serve`.
    """

    models_dir: Path
    models: Sequence[str]
    engines: Sequence[str]
    connections: Sequence[int]
    rounds: int
    seconds: float
    texts: Sequence[str]
    generator: Generator
    serve_options: Sequence[str] = ()

    @property
    def scenarios(self) -> list[Scenario]:
        """Every load for a model."""
        singles = [Scenario(1, connections) for connections in self.connections]
        doors = DOORS if BUSY in singles else ()
        return [*singles, *doors, MANY, Scenario(MANY.texts, 1)]

    @property
    def steps(self) -> int:
        """The number of calls of `on_step`."""
        per_round = len(self.models) * (len(self.scenarios) + 3) + len(self.connections) + 1
        return len(self.engines) * (self.rounds * (1 + per_round) + len(self.models))


def measure(plan: Plan, on_step: Callable[[str], None] = lambda _: None) -> list[ServiceFigures]:
    """Measure all models on all engines.

    Args:
        plan: What to measure.
        on_step: Called at the start of each step with its description.

    Raises:
        BenchError: A server does not start or answer, or a generator cannot run.
    """
    return [_Bench(plan, engine, on_step).run() for engine in plan.engines]


@dataclass(slots=True)
class _Subject:
    """A model under test, with its request bodies and expected answers."""

    figures: ModelFigures
    ceiling: Ceiling
    expected: Sequence[Probabilities]
    bodies: dict[int, list[bytes]] = field(default_factory=dict)

    def count_wrong(self, scenario: Scenario, sample: Sequence[tuple[int, bytes]]) -> Counter[str]:
        """Count wrong answers in a sample, by broken rule."""
        if scenario.door:
            rules = (check_door(scenario, answer) for _, answer in sample)
        else:
            rules = (
                check_one(answer, self.expected[index])
                if scenario.texts == 1
                else check_many(answer, groups(self.expected, scenario.texts)[index])
                for index, answer in sample
            )
        return Counter(rule for rule in rules if rule)


class _Bench:
    """The benchmark of one engine: starts the servers and sends the load."""

    def __init__(self, plan: Plan, engine: str, on_step: Callable[[str], None]) -> None:
        self._plan = plan
        self._on_step = on_step
        self._figures = ServiceFigures(engine)

    def run(self) -> ServiceFigures:
        """Start the servers, then measure every model in every round."""
        plan, engine = self._plan, self._figures.engine
        with contextlib.ExitStack() as stack:
            for number in range(1, plan.rounds + 1):
                self._on_step(f"{engine}: start {number} of {plan.rounds}")
                server = serve(plan.models_dir, engine, plan.serve_options)
                if number < plan.rounds:
                    with server:
                        self._figures.ready_s.append(server.ready_s)
            self._service = stack.enter_context(server)
            self._figures.ready_s.append(server.ready_s)
            self._read_memory()
            self._figures.workers = self._count_workers()
            self._floors = {
                name: stack.enter_context(serve_floor(name)) for name in (FLOOR, _FASTAPI)
            }
            subjects = [self._prepare(model) for model in plan.models]
            for number in range(1, plan.rounds + 1):
                for subject in subjects:
                    with_floor = subject is subjects[-1]
                    subject.figures.rounds.append(self._round(number, subject, with_floor))
        self._figures.models = [subject.figures for subject in subjects]
        return self._figures

    def _prepare(self, model: str) -> _Subject:
        """Compute the expected answers in-process, and check the service's answer to every text."""
        plan, engine = self._plan, self._figures.engine
        version = self._find_version(model)
        self._on_step(f"{model} on {engine}: every text once")
        ceiling = Ceiling(plan.models_dir / model / str(version), engine, plan.texts)
        figures = ModelFigures(model, version, engine, ceiling.precision)
        subject = _Subject(figures, ceiling, ceiling.answers())
        subject.bodies[1] = single_bodies(plan.texts, model)
        subject.bodies[MANY.texts] = many_bodies(plan.texts, MANY.texts, model)
        outcome = Bundled(each_once=True).run(
            Load(self._service.port, subject.bodies[1], _EACH_ONCE.connections, _EACH_ONCE_S)
        )
        figures.errors = Counter(outcome.errors) + subject.count_wrong(_EACH_ONCE, outcome.sample)
        return subject

    def _count_workers(self) -> int:
        """The number of processes that answer requests."""
        _, page = self._service.get("/readyz")
        return len(json.loads(page).get("workers") or "1")

    def _find_version(self, model: str) -> int:
        """The version that answers for a model: its newest ready version."""
        status, page = self._service.get("/models")
        models = json.loads(page)["models"] if status == 200 else []
        for entry in models:
            for version in entry["versions"]:
                if entry["name"] == model and version["state"] == "ready":
                    return int(version["version"])
        names = ", ".join(entry["name"] for entry in models) or "none"
        raise BenchError(f"the service must have a ready version of {model}. It has: {names}")

    def _round(self, number: int, subject: _Subject, with_floor: bool) -> Round:
        """Measure a model and its references; what is compared runs close together in time."""
        plan, ceiling, measured = self._plan, subject.ceiling, Round()

        def on_step(description: str) -> None:
            title = subject.figures.title
            self._on_step(f"round {number} of {plan.rounds}, {title}: {description}")

        on_step("one text in-process")
        measured.in_process_ms = statistics.median(ceiling.latencies_ms(plan.seconds / 2))
        for scenario in plan.scenarios:
            if not measured.ceiling and scenario >= BUSY:
                self._measure_ceiling(measured, ceiling, on_step)
            if with_floor and scenario.texts == 1 and not scenario.door:
                names = (FLOOR, _FASTAPI) if scenario == BUSY else (FLOOR,)
                for name in names:
                    on_step(f"bare {name} route, {scenario.connections} connections")
                    key = name, scenario.connections
                    measured.floor[key] = self._measure_floor(self._floors[name], subject, scenario)
            on_step(str(scenario))
            measured.samples[scenario] = self._measure_service(subject, scenario)
            self._read_memory()
        return measured

    def _measure_ceiling(
        self, measured: Round, ceiling: Ceiling, on_step: Callable[[str], None]
    ) -> None:
        on_step("the ceiling from ids")
        share = self._plan.seconds / len(BATCH_SIZES)
        measured.ceiling = {size: ceiling.throughput(size, share) for size in BATCH_SIZES}
        on_step("the ceiling from text")
        best = max(measured.ceiling, key=lambda size: measured.ceiling[size])
        measured.ceiling_from_text = ceiling.throughput_from_text(best, share)

    def _measure_service(self, subject: _Subject, scenario: Scenario) -> Sample:
        model = subject.figures.model
        before = parse(self._service.get("/metrics")[1], model)
        outcome, cpu_s = self._send(self._service, subject, scenario)
        runs = parse(self._service.get("/metrics")[1], model).since(before)
        errors = Counter(outcome.errors) + subject.count_wrong(scenario, outcome.sample)
        return _describe(outcome, scenario, cpu_s, errors, runs.real_share, runs.batch_size)

    def _measure_floor(self, floor: Server, subject: _Subject, scenario: Scenario) -> Sample:
        outcome, cpu_s = self._send(floor, subject, scenario)
        return _describe(outcome, scenario, cpu_s, Counter(outcome.errors))

    def _send(
        self, server: Server, subject: _Subject, scenario: Scenario
    ) -> tuple[Outcome, float | None]:
        """Send a load to a server; returns the outcome and its processor time in seconds."""
        load = Load(
            server.port,
            subject.bodies[scenario.texts],
            scenario.connections,
            self._plan.seconds,
        )
        if scenario.door:
            load = through_door(load, scenario, self._plan.texts, subject.figures.model)
        before = server.usage()
        outcome = self._plan.generator.run(load)
        after = server.usage()
        return outcome, after.cpu_s - before.cpu_s if before and after else None

    def _read_memory(self) -> None:
        usage = self._service.usage()
        if usage is None:
            return
        self._figures.resident_ready_bytes = (
            self._figures.resident_ready_bytes or usage.resident_bytes
        )
        self._figures.resident_bytes = max(self._figures.resident_bytes or 0, usage.resident_bytes)
        self._figures.resident_sum_bytes = max(
            self._figures.resident_sum_bytes or 0, usage.resident_sum_bytes
        )
        self._figures.processes = usage.processes


def _describe(
    outcome: Outcome,
    scenario: Scenario,
    cpu_s: float | None,
    errors: Counter[str],
    real_share: float | None = None,
    batch_size: float | None = None,
) -> Sample:
    texts = outcome.answered * scenario.texts
    if not outcome.answered:
        errors["no answer at all"] += 1
    return Sample(
        requests_per_s=outcome.answered / outcome.seconds,
        texts_per_s=texts / outcome.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        cpu_ms_per_text=cpu_s * 1e3 / texts if cpu_s is not None and texts else None,
        real_share=real_share,
        batch_size=batch_size,
        errors=dict(errors),
    )
