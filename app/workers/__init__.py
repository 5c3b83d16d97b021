"""Worker processes behind one port: a supervisor accepts connections and dispatches them."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The state of one worker.

    Attributes:
        phase: The phase of its lifecycle.
        ready: Whether it may receive traffic.
        reason: Why it is not ready; empty if it is.
    """

    phase: str
    ready: bool
    reason: str


class Workers(Protocol):
    """All workers behind one port, as one of them sees them."""

    @property
    def states(self) -> Sequence[WorkerState]:
        """The state of each worker, as the supervisor last sent it."""
        ...

    @property
    def number(self) -> int:
        """The number of this worker, from 1."""
        ...

    @property
    def generation(self) -> Sequence[int]:
        """One number that all processes share: which plan is in effect."""
        ...

    @property
    def agreed(self) -> Mapping[str, Any] | None:
        """The plan that was in effect when this worker was started."""
        ...

    def report(self, message: Mapping[str, Any]) -> None:
        """Send a message to the agreement on what serves."""
        ...

    async def gather(self) -> list[Any]:
        """Metrics snapshots that cover all workers, including this one."""
        ...


def can_fork_workers() -> bool:
    """Whether this system supports several workers; only Linux does."""
    return hasattr(os, "fork") and hasattr(socket, "SOCK_SEQPACKET") and os.uname()[0] == "Linux"
