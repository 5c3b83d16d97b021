"""The lifecycle of the process: its phases and the steps allowed between them."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """The phases of the process."""

    STARTING = "starting"  # listening; the repository is being scanned
    WARMING = "warming"  # versions are being loaded, checked and warmed up
    READY = "ready"  # the default model answers
    DRAINING = "draining"  # admitted requests are finished; traffic should go elsewhere
    STOPPED = "stopped"


STEPS: Final = {
    Phase.STARTING: frozenset({Phase.WARMING, Phase.DRAINING}),
    Phase.WARMING: frozenset({Phase.READY, Phase.DRAINING}),
    Phase.READY: frozenset({Phase.DRAINING}),
    Phase.DRAINING: frozenset({Phase.STOPPED}),
    Phase.STOPPED: frozenset[Phase](),
}
"""The allowed next phases of each phase."""


class Lifecycle:
    """The current phase, and the reason while the process is not ready.

    Attributes:
        phase: Changed only by `advance`.
        on_change: Called after every change.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._reason = "the repository of models is being read"
        self._faults: dict[str, str] = {}
        self.on_change: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether the process may receive traffic: it is READY and no model has failed."""
        return self.phase is Phase.READY and not self._faults

    @property
    def draining(self) -> bool:
        """Whether clients should send their next request elsewhere."""
        return self.phase in (Phase.DRAINING, Phase.STOPPED)

    @property
    def reason(self) -> str:
        """Why the process is not ready; empty if it is ready."""
        if self.draining or not self._faults:
            return self._reason
        return "; ".join(self._faults.values())

    def advance(self, phase: Phase, reason: str = "") -> None:
        """Enter the next phase.

        Args:
            phase: One of the allowed next phases.
            reason: Why the process is not ready in this phase; empty for READY.

        Raises:
            RuntimeError: `STEPS` does not allow it, which is a bug.
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
        """Make the process unready, whatever its phase: `what` has failed."""
        if self._faults.get(what) != reason:
            self._faults[what] = reason
            self.on_change()

    def clear_fault(self, what: str) -> None:
        """`what` works again, or is no longer there."""
        if self._faults.pop(what, None) is not None:
            self.on_change()
