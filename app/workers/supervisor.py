"""The process that owns the port: it hands connections to workers and replaces those that die.

It computes nothing and answers nobody, so nothing that a request or a model does can bring it down.
"""

import contextlib
import logging
import mmap
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from app.workers import WorkerState
from app.workers.link import Link
from app.workers.messages import hear, make_line, tell

logger = logging.getLogger(__name__)

_CELL_BYTES: Final = 8
_FIRST_RESTART_S: Final = 0.5
_LAST_RESTART_S: Final = 30.0
_ACCEPTS_A_TURN: Final = 64

_STARTING: Final = WorkerState("starting", ready=False, reason="a worker is starting")


@dataclass(eq=False)
class _Worker:
    """One child process.

    Attributes:
        number: From 1; a replacement gets the number of the one it replaces.
        pid: Of the process.
        control: Our end of the line for messages.
        connections: Our end of the line for connections.
        handed: Connections it was given.
        state: As it told last.
        restarts: How often this number was replaced since it was last ready.
    """

    number: int
    pid: int
    control: socket.socket
    connections: socket.socket
    handed: int = 0
    state: WorkerState = _STARTING
    restarts: int = 0


@dataclass
class _Question:
    """A worker wants the figures of all."""

    asking: _Worker
    number: int
    missing: set[int]
    figures: list[Any] = field(default_factory=list)


class Supervisor:
    """Runs workers until a signal ends them.

    SIGTERM or SIGINT: all workers become unready at once and go on answering for the drain delay;
    then the port is closed and they finish what is open. A second signal skips the delay.

    Args:
        listener: Listening, and not blocking.
        count: Workers.
        work: Runs in each child process, and returns its exit status.
        drain_delay_s: Seconds between being unready and closing the port.
        on_ready: Called when all workers are ready for the first time.
    """

    def __init__(
        self,
        listener: socket.socket,
        count: int,
        *,
        work: Callable[[Link], int],
        drain_delay_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._count = count
        self._work = work
        self._drain_delay_s = drain_delay_s
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        # Who has how many connections must be known at once, not when a message has come.
        self._closed = memoryview(mmap.mmap(-1, _CELL_BYTES * count)).cast("q")
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, tuple[float, int]] = {}  # number → when to replace it, which time
        # Of each worker, the last that it told: what is counted must not fall when one dies.
        self._last_figures: dict[int, Any] = {}
        self._questions: dict[int, _Question] = {}
        self._next_question = 0
        self._signals = 0
        self._stop_at: float | None = None
        self._stopping = False
        self._was_ready = self._told_draining = False

    def run(self) -> None:
        """Return when the last worker has ended after a signal."""
        with self._catch_signals():
            for number in range(1, self._count + 1):
                self._start(number)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            while not (self._stopping and not self._workers):
                for key, _ in self._selector.select(self._seconds_to_next()):
                    key.data()
                self._do_what_is_due()
        self._selector.close()

    # --- workers

    def _start(self, number: int, restarts: int = 0) -> None:
        """Fork one worker."""
        control, its_control = make_line()
        connections, its_connections = make_line()
        self._closed[number - 1] = 0
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for ours in (control, connections, self._listener):
                    ours.close()
                self._forget_everything()
                cell = self._closed[number - 1 : number]
                link = Link(
                    *(number, its_control, its_connections, cell),
                    states=[_STARTING] * self._count,
                    inherited=self._last_figures.get(number),
                )
                status = self._work(link)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)  # what the parent registered for its own end is not ours to run
        its_control.close()
        its_connections.close()
        worker = _Worker(number, pid, control, connections, restarts=restarts)
        self._workers[number] = worker
        self._selector.register(control, selectors.EVENT_READ, lambda: self._listen(worker))

    def _forget_everything(self) -> None:
        """In a child: keep no line of other workers open, or they would not see us end."""
        self._selector.close()
        for worker in self._workers.values():
            worker.control.close()
            worker.connections.close()
        signal.set_wakeup_fd(-1)
        # A terminal sends its signals to all processes; the supervisor's word is what counts.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _listen(self, worker: _Worker) -> None:
        try:
            message = hear(worker.control)
        except BlockingIOError:
            return
        if message is None:
            self._bury(worker)
        elif "phase" in message:
            worker.state = WorkerState(**message)
            if worker.state.ready:
                worker.restarts = 0
            self._tell_states()
        elif "question" in message:
            self._ask_all(worker, message["question"])
        elif "report" in message:
            self._take_report(worker, message["report"], message["figures"])

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended."""
        self._selector.unregister(worker.control)
        worker.control.close()
        worker.connections.close()
        del self._workers[worker.number]
        _, status = os.waitpid(worker.pid, 0)
        for identifier in list(self._questions):
            self._take_report(worker, identifier, None)
        if self._stop_at is None:
            delay_s = min(_FIRST_RESTART_S * 2**worker.restarts, _LAST_RESTART_S)
            self._due[worker.number] = (time.monotonic() + delay_s, worker.restarts + 1)
            logger.critical(
                "a worker has died and will be replaced",
                extra={
                    "worker": worker.number,
                    "status": os.waitstatus_to_exitcode(status),
                    "seconds": delay_s,
                },
            )
            self._tell_states()

    def _tell_states(self) -> None:
        """Tell every worker where all of them stand, and the log what is true of all."""
        states = [
            self._workers[number].state if number in self._workers else _STARTING
            for number in range(1, self._count + 1)
        ]
        as_json = [{"phase": s.phase, "ready": s.ready, "reason": s.reason} for s in states]
        for worker in self._workers.values():
            tell(worker.control, states=as_json)
        if not self._was_ready and all(state.ready for state in states):
            self._was_ready = True
            self._on_ready()
        if not self._told_draining and all(state.phase == "draining" for state in states):
            self._told_draining = True
            logger.info("the service is draining")

    # --- figures

    def _ask_all(self, asking: _Worker, number: int) -> None:
        """Collect the figures of all workers for the one that was asked for them."""
        self._next_question += 1
        question = _Question(asking, number, missing=set(self._workers))
        question.figures += [f for n, f in self._last_figures.items() if n not in self._workers]
        self._questions[self._next_question] = question
        for worker in list(self._workers.values()):
            if not tell(worker.control, report=self._next_question):
                self._take_report(worker, self._next_question, None)

    def _take_report(self, worker: _Worker, identifier: int, figures: Any) -> None:
        """One worker has answered, or never will."""
        question = self._questions.get(identifier)
        if question is None or worker.number not in question.missing:
            return
        question.missing.discard(worker.number)
        if figures is None:
            figures = self._last_figures.get(worker.number)
        if figures is not None:
            self._last_figures[worker.number] = figures
            question.figures.append(figures)
        if not question.missing:
            del self._questions[identifier]
            tell(question.asking.control, answer=question.number, figures=question.figures)

    # --- connections

    def _accept(self) -> None:
        """Hand what has connected to the workers with the fewest connections."""
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody is left to be accepted, or left before we came
                return
            with connection:
                self._hand_out(connection)

    def _hand_out(self, connection: socket.socket) -> None:
        """Those that are ready come first; without any, the others at least say so."""
        for worker in sorted(
            self._workers.values(),
            key=lambda w: (not w.state.ready, w.handed - self._closed[w.number - 1]),
        ):
            try:
                socket.send_fds(worker.connections, [b"c"], [connection.fileno()])
            except OSError:
                continue  # it has died, or has not looked for long
            worker.handed += 1
            return

    # --- signals and what is due

    @contextlib.contextmanager
    def _catch_signals(self) -> Iterator[None]:
        wakes, woken = socket.socketpair()
        for end in (wakes, woken):
            end.setblocking(False)

        def count(*_: object) -> None:
            self._signals += 1

        former = {n: signal.signal(n, count) for n in (signal.SIGINT, signal.SIGTERM)}
        former_wakeup = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        self._selector.register(wakes, selectors.EVENT_READ, lambda: wakes.recv(4096))
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_wakeup)
            for number, handler in former.items():
                signal.signal(number, handler)
            wakes.close()
            woken.close()

    def _seconds_to_next(self) -> float | None:
        times = [when for when, _ in self._due.values()]
        if self._stop_at is not None and not self._stopping:
            times.append(self._stop_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._signals and self._stop_at is None:
            self._stop_at = now + self._drain_delay_s
            self._due.clear()
            for worker in self._workers.values():
                tell(worker.control, drain=True)
        if self._stop_at is not None and not self._stopping:
            if now >= self._stop_at or self._signals > 1:
                self._stop()
            return
        for number, (when, restarts) in list(self._due.items()):
            if now >= when:
                del self._due[number]
                self._start(number, restarts)

    def _stop(self) -> None:
        """Close the port, with whoever stood before it let in, and let the workers finish."""
        self._stopping = True
        self._accept()
        self._selector.unregister(self._listener)
        self._listener.close()
        for worker in self._workers.values():
            tell(worker.control, stop=True)
