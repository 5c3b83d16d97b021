"""A worker's lines to its supervisor: connections come in, figures and phases are exchanged."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from app.workers import WorkerState
from app.workers.messages import hear, tell

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
        closed: One cell of memory shared with the supervisor: connections that have ended.
        states: Where all workers stand at first.
        inherited: The last figures of the worker that this one replaces.

    Attributes:
        number: As given.
        states: Where all workers stand, this one among them.
        inherited: As given.
    """

    def __init__(
        self,
        number: int,
        control: socket.socket,
        connections: socket.socket,
        closed: "memoryview[int]",
        *,
        states: list[WorkerState],
        inherited: Any = None,
    ) -> None:
        self.number = number
        self.states = states
        self.inherited = inherited
        self._control = control
        self._connections = connections
        self._closed = closed
        self._duties: Duties | None = None
        self._questions = itertools.count()
        self._open_questions: dict[int, asyncio.Future[list[Any]]] = {}

    def open(self, duties: Duties) -> None:
        """Begin to listen, on the running event loop."""
        self._duties = duties
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._listen, duties)
        loop.add_reader(self._connections.fileno(), self._take_connections, duties)

    def tell_state(self, state: WorkerState) -> None:
        """Tell where this worker stands."""
        tell(self._control, phase=state.phase, ready=state.ready, reason=state.reason)

    def count_closed(self) -> None:
        """One connection has ended."""
        self._closed[0] += 1

    async def gather(self) -> list[Any]:
        """The figures of all workers that answer in time, this one's among them."""
        number = next(self._questions)
        answer = self._open_questions[number] = asyncio.get_running_loop().create_future()
        try:
            if tell(self._control, question=number):
                async with asyncio.timeout(_PATIENCE_S):
                    figures: list[Any] = await answer
                    return figures
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
            duties.stop()
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
            duties.stop()

    def _take_connections(self, duties: Duties) -> None:
        for _ in range(_CONNECTIONS_A_TURN):
            try:
                token, descriptors, _flags, _address = socket.recv_fds(self._connections, 1, 1)
            except OSError:
                return
            if not token:
                asyncio.get_running_loop().remove_reader(self._connections.fileno())
                return
            for descriptor in descriptors:
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                duties.adopt(connection)
