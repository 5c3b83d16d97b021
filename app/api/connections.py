"""All connections of a process: how many there may be, and how long each may stay silent.

One sweep a second looks at every connection, so that a request pays for no timer of its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.responses import Response

from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

CONNECTIONS_REASON: Final = "connections"
"""The `reason` in the metric `rejected_total` of a connection over the limit."""
PROBES: Final = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Paths that are answered over the limit, too, else an orchestrator would restart a busy process.
They need no API key either."""
_RESERVE: Final = 16
"""Connections over the limit that are kept open for a probe; the others close unread."""
_SWEEPS_PER_TIMEOUT: Final = 4
_MAX_SWEEP_S: Final = 1.0
_LOG_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of the connections of one process.

    Attributes:
        max_connections: Connections that are served at once.
        header_timeout_s: How long the head of a request may take: the first one from the opening
            of its connection, the others from their first byte.
        keep_alive_s: How long a connection may stay idle between two requests.
        min_body_bytes_per_s: How fast a body must arrive on average; 0: no minimum.
        body_grace_s: For so long after its head, a body may be slower.
        write_timeout_s: How long a client may leave a response unread.
    """

    max_connections: int
    header_timeout_s: float
    keep_alive_s: float
    min_body_bytes_per_s: int
    body_grace_s: float = 5.0
    write_timeout_s: float = 60.0


class Connection(Protocol):
    """A connection, as this module needs it."""

    def enforce(self, now: float) -> None:
        """Close, or answer 408, if a limit has been passed at this time."""
        ...

    def shutdown(self) -> None:
        """Close as soon as every request that has arrived is answered."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Connections:
    """The open connections of one process.

    At the limit, a new connection takes the place of the one that has waited longest without ever
    completing the head of a request. Where there is none, the new one may ask for a probe, and is
    refused otherwise; a few of these are held at once, and the oldest gives way.

    Args:
        limits: The limits of each connection, and their number.
        metrics: Counts the connections, and those over the limit.
        refuse: Makes the response to what is not answered by the application, from its status and
            the path of the request, as far as it was received.
        on_lost: Called when a connection has ended.
        clock: Monotonic, in seconds.

    Attributes:
        limits: As passed in.
        refuse: As passed in.
        clock: As passed in.
        open: Every open connection.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        metrics: Metrics,
        refuse: Callable[[int, str], Response],
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.refuse = refuse
        self.clock = clock
        self.open: set[Connection] = set()
        self._gauge = metrics.connections
        self._rejected = metrics.rejected.labels(CONNECTIONS_REASON)
        self._on_lost = on_lost
        # Those without a complete head, in the order in which they were opened.
        self._new: dict[Connection, None] = {}
        self._new_over_limit: dict[Connection, None] = {}
        self._closed_early: set[Connection] = set()  # they end in the next turn of the event loop
        self._sweeping = False
        self._refused = 0
        self._logged_at = -_LOG_EVERY_S
        shortest = min(limits.header_timeout_s, limits.keep_alive_s, limits.body_grace_s)
        self._sweep_s = min(_MAX_SWEEP_S, shortest / _SWEEPS_PER_TIMEOUT)

    def has_room(self, count: int) -> bool:
        """Whether there are file descriptors for so many more connections."""
        staying = len(self.open) - len(self._closed_early)
        return staying + count <= self.limits.max_connections + 2 * _RESERVE

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a connection that was opened now.

        Returns:
            False if it is over the limit: it may ask for a probe, and nothing else.
        """
        over = len(self.open) - len(self._closed_early) - self.limits.max_connections
        within = over < 0
        if not within:
            self.count_refused()
            within = self._close_first(self._new)
        keep = within or over < _RESERVE or self._close_first(self._new_over_limit)
        self.open.add(connection)
        self._gauge.inc()
        if keep:
            (self._new if within else self._new_over_limit)[connection] = None
        else:
            self._closed_early.add(connection)
            connection.abort()
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(self._sweep_s, self._sweep, loop)
        return within

    def note_head(self, connection: Connection) -> None:
        """The first head on a connection is complete."""
        self._new.pop(connection, None)
        self._new_over_limit.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """A connection has ended."""
        self.open.discard(connection)
        self._closed_early.discard(connection)
        self.note_head(connection)
        self._gauge.dec()
        self._on_lost()

    def count_refused(self) -> None:
        """Count a connection over the limit; log the first one, then one event a minute."""
        self._rejected.inc()
        self._refused += 1
        now = self.clock()
        if now >= self._logged_at + _LOG_EVERY_S:
            self._logged_at = now
            logger.warning(
                "connections are exhausted",
                extra={"limit": self.limits.max_connections, "refused": self._refused},
            )
            self._refused = 0

    def sweep(self) -> None:
        """Enforce the limits of every connection."""
        now = self.clock()
        for connection in list(self.open):
            connection.enforce(now)

    def _close_first(self, connections: dict[Connection, None]) -> bool:
        """Close the oldest of some connections; returns whether there was one."""
        oldest = next(iter(connections), None)
        if oldest is None:
            return False
        del connections[oldest]
        self._closed_early.add(oldest)
        oldest.abort()
        return True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sweep()
        self._sweeping = bool(self.open)
        if self._sweeping:
            loop.call_later(self._sweep_s, self._sweep, loop)
