"""A worker's lines to its supervisor: connections come in, figures and phases are exchanged."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from app.workers import WorkerState
from app.workers.messages import hear, tell
from app.workers.pulse import Pulse

# Longer than the supervisor waits for the others, as it answers then with what it knows.
_PATIENCE_S: Final = 2.0
_CONNECTIONS_A_TURN: Final = 16


@dataclass(frozen=True, slots=True)
class Duties:
    """What a worker does when it is told to.

    Attributes:
        adopt: Serve an accepted connection.
        report: Its figures, as JSON has them.
        drain: Become unready, but go on answering.
        stop: Finish what is open, then end.
    """

    adopt: Callable[[socket.socket], None]
    report: Callable[[], Any]
    drain: Callable[[], None]
    stop: Callable[[], None]


class Link:
    """One worker's side.

    Args:
        number: Of the worker, from 1.
        control: Messages, both ways.
        connections: Accepted connections, from the supervisor.
        pulse: What the supervisor sees without a message.
        states: Where all workers stand at first.
        inherited: The last figures of the worker that this one replaces.

    Attributes:
        number: As given.
        pulse: As given; `beat` is to be called while the event loop turns.
        states: Where all workers stand, this one among them.
        inherited: As given.
    """

    def __init__(
        self,
        number: int,
        control: socket.socket,
        connections: socket.socket,
        pulse: Pulse,
        *,
        states: list[WorkerState],
        inherited: Any = None,
    ) -> None:
        self.number = number
        self.pulse = pulse
        self.states = states
        self.inherited = inherited
        self._control = control
        self._connections = connections
        self._duties: Duties | None = None
        self._questions = itertools.count()
        self._open_questions: dict[int, asyncio.Future[Any]] = {}

    def open(self, duties: Duties) -> None:
        """Begin to listen, on the running event loop."""
        self._duties = duties
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._listen, duties)
        loop.add_reader(self._connections.fileno(), self._take_connections, duties)

    def tell_state(self, state: WorkerState) -> None:
        """Tell where this worker stands."""
        tell(self._control, phase=state.phase, ready=state.ready, reason=state.reason)

    async def gather(self) -> list[Any]:
        """The figures of all workers, merged; this one's alone when the supervisor is silent."""
        number = next(self._questions)
        answer = self._open_questions[number] = asyncio.get_running_loop().create_future()
        try:
            if tell(self._control, question=number):
                async with asyncio.timeout(_PATIENCE_S):
                    return [await answer]
        except TimeoutError:
            pass
        finally:
            del self._open_questions[number]
        return [self._duties.report()] if self._duties else []

    def _listen(self, duties: Duties) -> None:
        try:
            message = hear(self._control)
        except BlockingIOError:
            return
        if message is None:  # the supervisor is gone, and with it the port
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._stop(duties)
        elif "states" in message:
            self.states = [WorkerState(**state) for state in message["states"]]
        elif "report" in message:
            tell(self._control, report=message["report"], figures=duties.report())
        elif "answer" in message:
            question = self._open_questions.get(message["answer"])
            if question is not None and not question.done():
                question.set_result(message["figures"])
        elif "drain" in message:
            duties.drain()
        elif "stop" in message:
            self._stop(duties)

    def _stop(self, duties: Duties) -> None:
        """Whoever was let in before is served still."""
        while self._take_connection(duties):
            pass
        asyncio.get_running_loop().remove_reader(self._connections.fileno())
        duties.stop()

    def _take_connections(self, duties: Duties) -> None:
        for _ in range(_CONNECTIONS_A_TURN):
            if not self._take_connection(duties):
                return

    def _take_connection(self, duties: Duties) -> bool:
        """Take one connection; False when there is none."""
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
            duties.adopt(connection)
        if not descriptors:  # this process may open no more: the system has closed the connection
            self.pulse.count_closed()
        return True
