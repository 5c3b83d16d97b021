"""The prediction from one replica, held against two replicas behind a real balancer.

One and two are measured side by side, a load of each in turn, so that a machine whose pace changes
within minutes changes both.

With four cores or more each replica has one, and the balancer and the generator have the rest. With
two or three, a core carries a replica together with its share of the balancer and of the
generators: what one such core does is measured, and then two of them.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.capacity.balancer import balancing
from load_tests.capacity.generator import Generators
from load_tests.capacity.measure import (
    FIRST_FACTOR,
    NEXT_FACTOR,
    START_RATE,
    Plan,
    Report,
    available_cores,
    start_server,
    tell,
)
from load_tests.capacity.search import Knee, find_knees
from load_tests.capacity.subject import Subject
from load_tests.capacity.trial import Trial

REPLICAS: Final = 2
GOAL: Final = 0.1
"""The most that the prediction may be wrong."""

_SPACIOUS: Final = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """One replica and two, measured side by side.

    Attributes:
        one: The knee of one replica behind the balancer.
        two: The knee of two.
        apart: Whether no replica shares its core with the balancer or a generator.
        loads_of_one: The loads from which the knee of one was found.
        loads_of_two: Those of two.
    """

    one: Knee
    two: Knee
    apart: bool
    loads_of_one: Sequence[Trial] = ()
    loads_of_two: Sequence[Trial] = ()

    @property
    def predicted(self) -> float:
        """Requests per second that two replicas should do."""
        return REPLICAS * self.one.rate

    @property
    def ratio(self) -> float:
        """What they do, divided by the prediction."""
        return self.two.rate / self.predicted


@dataclass(frozen=True, slots=True)
class Places:
    """Which cores are used by what.

    Attributes:
        replicas: The core of each replica.
        balancer: The cores of the balancer.
        generators: The cores of each generator.
    """

    replicas: tuple[int, ...]
    balancer: tuple[int, ...]
    generators: tuple[tuple[int, ...], ...]

    @property
    def apart(self) -> bool:
        """Whether no replica shares its core with the balancer or a generator."""
        others = {*self.balancer, *(core for cores in self.generators for core in cores)}
        return not set(self.replicas) & others


def choose_places(replicas: int, available: Sequence[int]) -> Places:
    """Give each replica a core, and the rest of the cores to the balancer and the generators.

    Raises:
        BenchError: There are fewer cores than replicas.
    """
    if len(available) < REPLICAS:
        raise BenchError(f"--check-two needs at least {REPLICAS} cores. Got: {len(available)}")
    own = tuple(available[:replicas])
    if len(available) < _SPACIOUS:
        return Places(own, own, tuple((core,) for core in own))
    return Places(own, tuple(available[REPLICAS:-1]), ((available[-1],),))


def check_two(
    plan: Plan, *, turns: int, balancer: str, method: str, report: Report
) -> Iterator[Turn]:
    """Measure one replica and two in several turns; yields each.

    Raises:
        BenchError: A part does not start, or a generator is too late.
    """
    starts: Sequence[float] = [START_RATE, START_RATE * REPLICAS]
    factor = FIRST_FACTOR
    apart = choose_places(REPLICAS, available_cores()).apart
    for _ in range(turns):
        with ExitStack() as stack:
            subjects = [
                _start(plan, replicas, balancer, method, report, stack)
                for replicas in (1, REPLICAS)
            ]
            one, two = find_knees(
                [subject.is_kept for subject in subjects],
                starts,
                factor=factor,
                tolerance=plan.terms.tolerance,
            )
        starts, factor = [one.low, two.low], NEXT_FACTOR
        yield Turn(one, two, apart, *(subject.trials for subject in subjects))


def agreement(turns: Sequence[Turn]) -> str:
    """Return whether the prediction holds, in a sentence."""
    worst = max(abs(1 / turn.ratio - 1) for turn in turns)
    median = statistics.median(turn.ratio for turn in turns)
    held = "within" if worst <= GOAL else "NOT within"
    return (
        f"The prediction is {held} {GOAL:.0%} of the measured rate in all turns: at most "
        f"{worst:.0%} off, median ratio {median:.2f}."
    )


def _start(
    plan: Plan, replicas: int, balancer: str, method: str, report: Report, stack: ExitStack
) -> Subject:
    """Start replicas behind a balancer, and generators in front of it; the stack stops them."""
    places = choose_places(replicas, available_cores())
    servers = [start_server(plan, (core,), stack) for core in places.replicas]
    ports = [server.port for server in servers]
    port = stack.enter_context(balancing(balancer, ports, places.balancer, method=method))
    generators = stack.enter_context(Generators(plan.requests, places.generators))
    what = f"{replicas} behind {balancer}" if balancer != "auto" else f"{replicas} replicas"
    return Subject(port, servers, generators, plan.model, plan.terms, tell(report, what))
