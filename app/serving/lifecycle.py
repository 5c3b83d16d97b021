"""The life of the process, from the first socket to the last answer."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """Where the process stands."""

    STARTING = "starting"  # listening; the repository is being read
    WARMING = "warming"  # versions are loaded, checked and run once
    READY = "ready"  # the default model answers
    DRAINING = "draining"  # what was admitted is finished; traffic should go elsewhere
    STOPPED = "stopped"


STEPS: Final = {
    Phase.STARTING: frozenset({Phase.WARMING, Phase.DRAINING}),
    Phase.WARMING: frozenset({Phase.READY, Phase.DRAINING}),
    Phase.READY: frozenset({Phase.DRAINING}),
    Phase.DRAINING: frozenset({Phase.STOPPED}),
    Phase.STOPPED: frozenset[Phase](),
}
"""The phases that may follow each phase."""


class Lifecycle:
    """The current phase, and why the process is not ready when it is not.

    Attributes:
        phase: Changed by `advance` alone.
        on_change: Called after every change.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._reason = "the repository of models is being read"
        self._faults: dict[str, str] = {}
        self.on_change: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether traffic may come: the phase is READY and no model has broken down."""
        return self.phase is Phase.READY and not self._faults

    @property
    def draining(self) -> bool:
        """Whether clients should take their next request elsewhere."""
        return self.phase in (Phase.DRAINING, Phase.STOPPED)

    @property
    def reason(self) -> str:
        """Why the process is not ready, in words; empty when it is."""
        return self._reason or "; ".join(self._faults.values())

    def advance(self, phase: Phase, reason: str = "") -> None:
        """Take one of the allowed steps.

        Args:
            phase: The phase that begins.
            reason: Why the process is not ready in it; empty for READY.

        Raises:
            RuntimeError: The step is not one of `STEPS`: a fault in this program.
        """
        if phase not in STEPS[self.phase]:
            raise RuntimeError(f"{self.phase} cannot become {phase}")
        self.phase = phase
        self._reason = reason
        self.on_change()

    def explain(self, reason: str) -> None:
        """Replace the reason of the current phase."""
        self._reason = reason
        self.on_change()

    def report_fault(self, what: str, reason: str) -> None:
        """Make the process unready for good, whatever its phase: `what` has broken down."""
        self._faults[what] = reason
        self.on_change()
