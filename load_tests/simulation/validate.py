"""The simulation held against what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from load_tests.simulation.cluster import Method
from load_tests.simulation.service_times import Measured
from load_tests.simulation.steady import simulated_knee

GOAL: Final = 0.15
"""The most that the simulation may be off."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measured knee and a simulated one, in requests per second.

    Attributes:
        what: What was measured.
        measured: The measured knee.
        simulated: The simulated one.
    """

    what: str
    measured: float
    simulated: float

    @property
    def ratio(self) -> float:
        """The simulated knee, divided by the measured one."""
        return self.simulated / self.measured


def compare(measured: Measured, *, method: Method, seed: int) -> list[Comparison]:
    """Simulate every configuration whose knee was measured, with the times measured on its cores.

    Two replicas are compared with one of their own turns times what the simulation says of two and
    of one, because in those turns each core carries the balancer too.
    """
    found = []
    one_core = 0.0
    for figures in measured.content["cores"]:
        knee = simulated_knee(
            measured.on(figures["cores"]),
            cores=figures["cores"],
            replicas=1,
            method=method,
            seed=seed,
            start=figures["rate"],
        )
        if figures["cores"] == 1:
            one_core = knee.rate
        what = "1 core" if figures["cores"] == 1 else f"{figures['cores']} cores"
        found.append(Comparison(what, figures["rate"], knee.rate))
    turns = measured.content["two_replicas"]
    if turns and one_core:
        two = simulated_knee(
            measured.on(1), cores=1, replicas=2, method=method, seed=seed, start=2 * one_core
        )
        for number, turn in enumerate(turns, start=1):
            ones, twos = (
                (knee["low"] * knee["high"]) ** 0.5 for knee in (turn["one"], turn["two"])
            )
            what = f"2 replicas, turn {number}"
            found.append(Comparison(what, twos, ones * two.rate / one_core))
    return found


def conclude(comparisons: Sequence[Comparison]) -> str:
    """Return whether the simulation agrees, in a sentence."""
    worst = max(abs(each.ratio - 1) for each in comparisons)
    held = "within" if worst <= GOAL else "NOT within"
    return f"The simulation is {held} {GOAL:.0%} of every measured knee: at most {worst:.0%} off."
