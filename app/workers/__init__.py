"""Several processes behind one port: a supervisor that hands out connections, and its workers."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class WorkerState:
    """Where a worker stands.

    Attributes:
        phase: Of its life.
        ready: Whether it may get traffic.
        reason: Why not.
    """

    phase: str
    ready: bool
    reason: str


class Workers(Protocol):
    """All processes that answer on one port, as one of them sees them."""

    @property
    def states(self) -> Sequence[WorkerState]:
        """Where each stands, as far as is known here."""
        ...

    async def gather(self) -> list[Any]:
        """The figures of all workers, those of the one that asks among them."""
        ...


def can_fork_workers() -> bool:
    """Whether this system has what the supervisor is built on; Linux has."""
    return hasattr(os, "fork") and hasattr(socket, "SOCK_SEQPACKET") and os.uname()[0] == "Linux"
