"""A worker's link to its supervisor: connections and messages arrive, its state is sent."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.workers import WorkerState
from app.workers.heartbeat import Heartbeat
from app.workers.messages import receive, send

# Longer than the supervisor waits for snapshots: it then replies with what it has.
_METRICS_TIMEOUT_S: Final = 2.0
_CONNECTIONS_PER_WAKEUP: Final = 8


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a worker does when the supervisor asks for it.

    Attributes:
        adopt: Serve an accepted connection.
        snapshot: Return the worker's metrics, JSON-serializable.
        drain: Become unready, and keep answering.
        stop: Finish open requests, then end.
        obey: Do what the agreement on what serves asks for.
    """

    adopt: Callable[[socket.socket], None]
    snapshot: Callable[[], Any]
    drain: Callable[[], None]
    stop: Callable[[], None]
    obey: Callable[[Mapping[str, Any]], None]


class Link:
    """The worker's side of the link.

    Args:
        number: The number of the worker, from 1.
        control: Messages in both directions.
        connections: Receives accepted connections from the supervisor.
        heartbeat: Shared memory that the supervisor reads.
        states: The state of every worker at the time of the fork.
        generation: Shared memory: which plan is in effect, in all workers.
        agreed: The plan in effect at the time of the fork; None if there was none.
        inherited: The last metrics snapshot of the worker that this one replaces; None if it
            replaces none.

    Attributes:
        number: As passed in.
        heartbeat: As passed in; call `beat` regularly from the event loop.
        states: The state of every worker, this one included.
        generation: As passed in.
        agreed: As passed in.
        inherited: As passed in.
    """

    def __init__(
        self,
        number: int,
        control: socket.socket,
        connections: socket.socket,
        heartbeat: Heartbeat,
        *,
        states: list[WorkerState],
        generation: Sequence[int] = (0,),
        agreed: Mapping[str, Any] | None = None,
        inherited: Any = None,
    ) -> None:
        self.number = number
        self.heartbeat = heartbeat
        self.states = states
        self.generation = generation
        self.agreed = agreed
        self.inherited = inherited
        self._control = control
        self._connections = connections
        self._callbacks: Callbacks | None = None
        self._requests = itertools.count()
        self._pending: dict[int, asyncio.Future[Any]] = {}

    def open(self, callbacks: Callbacks) -> None:
        """Start receiving, on the running event loop."""
        self._callbacks = callbacks
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._receive, callbacks)
        loop.add_reader(self._connections.fileno(), self._take_connections, callbacks)

    def send_state(self, state: WorkerState) -> None:
        """Send the state of this worker to the supervisor."""
        send(self._control, phase=state.phase, ready=state.ready, reason=state.reason)

    def send_failure(self, reason: str) -> None:
        """Tell the supervisor that this worker cannot become ready and ends."""
        send(self._control, failed=reason)

    def report(self, message: Mapping[str, Any]) -> None:
        """Send a message to the agreement on what serves."""
        send(self._control, agree=message)

    async def gather(self) -> list[Any]:
        """The merged metrics of all workers; only this worker's if the supervisor is silent."""
        request = next(self._requests)
        merged = self._pending[request] = asyncio.get_running_loop().create_future()
        try:
            if send(self._control, collect=request):
                async with asyncio.timeout(_METRICS_TIMEOUT_S):
                    return [await merged]
        except TimeoutError:
            pass
        finally:
            del self._pending[request]
        return [self._callbacks.snapshot()] if self._callbacks else []

    def _receive(self, callbacks: Callbacks) -> None:
        """Handle all messages that have arrived, so that no request sees an outdated state."""
        with contextlib.suppress(BlockingIOError):
            while (message := receive(self._control)) is not None:
                self._handle(message, callbacks)
            # The supervisor has died; no process accepts connections.
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._stop(callbacks)

    def _handle(self, message: dict[str, Any], callbacks: Callbacks) -> None:
        if "states" in message:
            self.states = [WorkerState(**state) for state in message["states"]]
        elif "take_snapshot" in message:
            identifier = message["take_snapshot"]
            send(self._control, snapshot=identifier, metrics=callbacks.snapshot())
        elif "merged" in message:
            pending = self._pending.get(message["merged"])
            if pending is not None and not pending.done():
                pending.set_result(message["metrics"])
        elif "agree" in message:
            callbacks.obey(message["agree"])
        elif "drain" in message:
            callbacks.drain()
        elif "stop" in message:
            self._stop(callbacks)

    def _stop(self, callbacks: Callbacks) -> None:
        """Take the connections that were dispatched before the stop, then stop."""
        while self._take_connection(callbacks):
            pass
        asyncio.get_running_loop().remove_reader(self._connections.fileno())
        callbacks.stop()

    def _take_connections(self, callbacks: Callbacks) -> None:
        for _ in range(_CONNECTIONS_PER_WAKEUP):
            if not self._take_connection(callbacks):
                return

    def _take_connection(self, callbacks: Callbacks) -> bool:
        """Take one connection; False if there is none."""
        try:
            token, descriptors, _flags, _address = socket.recv_fds(self._connections, 1, 1)
        except OSError:
            return False
        if not token:
            asyncio.get_running_loop().remove_reader(self._connections.fileno())
            return False
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            callbacks.adopt(connection)
        if not descriptors:  # this process is out of file descriptors; the kernel dropped this one
            self.heartbeat.count_closed_connection()
        return True
