"""The process that owns the port: it hands connections to workers and replaces those that die.

It reads no request and runs no model, so nothing that these do can bring it down.
"""

import contextlib
import logging
import os
import sched
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from app.workers import WorkerState
from app.workers.figures import Arithmetic, Figures
from app.workers.link import Link
from app.workers.messages import hear, make_line, tell
from app.workers.pulse import Pulse

logger = logging.getLogger(__name__)

_FIRST_RESTART_S: Final = 0.5
_LAST_RESTART_S: Final = 30.0
_REPORT_WITHIN_S: Final = 1.0
_ACCEPTS_A_TURN: Final = 64
_ACCEPT_AGAIN_S: Final = 0.1
_LOOK_EVERY_S: Final = 1.0
_STILL_AFTER_S: Final = 3.0
"""Of silence, until a worker counts as standing still: longer than any load keeps it silent."""

_STARTING: Final = WorkerState("starting", ready=False, reason="a worker is starting")


@dataclass(frozen=True, slots=True)
class Delays:
    """How long things may take.

    Attributes:
        drain_s: Between being unready and closing the port.
        end_s: From then on, until a worker that has not ended is killed.
        silence_s: That the event loop of a worker stands still, until it is killed.
    """

    drain_s: float
    end_s: float
    silence_s: float = 30.0


@dataclass(eq=False)
class _Worker:
    """One child process.

    Attributes:
        number: From 1; a replacement gets the number of the one it replaces.
        pid: Of the process.
        control: Our end of the line for messages.
        connections: Our end of the line for connections.
        pulse: What it shows without a message.
        failures: How often this number has died since it was last ready.
        handed: Connections it was given.
        state: As it told last.
        still: Whether its event loop has not turned for long.
    """

    number: int
    pid: int
    control: socket.socket
    connections: socket.socket
    pulse: Pulse
    failures: int
    handed: int = 0
    state: WorkerState = _STARTING
    still: bool = False

    def describe(self) -> WorkerState:
        """Where it stands, to the best of our knowledge."""
        if not self.still:
            return self.state
        return WorkerState(self.state.phase, ready=False, reason="a worker stands still")


class Supervisor:
    """Runs workers until a signal ends them.

    SIGTERM or SIGINT: all workers become unready at once and go on answering for the drain delay;
    then the port is closed and they finish what is open. A second signal skips the delay.

    Args:
        listener: Listening, and not blocking.
        count: Workers.
        work: Runs in each child process, and returns its exit status.
        arithmetic: How the workers' figures are merged.
        delays: How long things may take.
        on_ready: Called when all workers are ready for the first time.
    """

    def __init__(
        self,
        listener: socket.socket,
        count: int,
        *,
        work: Callable[[Link], int],
        arithmetic: Arithmetic,
        delays: Delays,
        on_ready: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._count = count
        self._work = work
        self._figures = Figures(arithmetic)
        self._delays = delays
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._later = sched.scheduler(time.monotonic)
        self._workers: dict[int, _Worker] = {}
        self._accepting = False
        self._nobodys: socket.socket | None = None
        self._looked_at = self._awake_since = time.monotonic()
        self._signals = 0
        self._draining = self._stopping = False
        self._all_ready = self._told_ready = self._told_draining = False

    def run(self) -> None:
        """Return when the last worker has ended after a signal."""
        with self._catch_signals():
            for number in range(1, self._count + 1):
                self._start(number)
            self._open_port()
            self._look()
            while not (self._stopping and not self._workers):
                for key, _ in self._selector.select(self._later.run(blocking=False)):
                    key.data()
                self._heed_signals()
        self._selector.close()

    # --- workers

    def _start(self, number: int, failures: int = 0) -> None:
        """Start one worker, or try again later; once the end has begun, none."""
        if self._signals:
            return
        try:
            worker = self._fork(number, failures)
        except OSError as error:  # too many processes or open files
            why = "a worker cannot be started"
            self._start_later(number, failures + 1, why, reason=error.strerror)
            return
        self._workers[number] = worker
        self._selector.register(worker.control, selectors.EVENT_READ, lambda: self._listen(worker))

    def _start_later(self, number: int, failures: int, why: str, **about: object) -> None:
        """Say what has happened, and try again in a while, which grows."""
        delay_s = min(_FIRST_RESTART_S * 2 ** min(failures - 1, 10), _LAST_RESTART_S)
        self._later.enter(delay_s, 0, self._start, (number, failures))
        logger.critical(why, extra={"worker": number, **about, "next_in_seconds": delay_s})

    def _fork(self, number: int, failures: int) -> _Worker:
        pulse = Pulse()
        control, its_control = make_line()
        connections, its_connections = make_line()
        link = Link(
            *(number, its_control, its_connections, pulse),
            states=[_STARTING] * self._count,
            inherited=self._figures.of(number),
        )
        pid = os.fork()
        if pid == 0:
            self._become_worker(link, control, connections)
        its_control.close()
        its_connections.close()
        return _Worker(number, pid, control, connections, pulse, failures)

    def _become_worker(self, link: Link, *ours: socket.socket) -> NoReturn:
        """In a child: forget who we were, work, and end."""
        status = 1
        try:
            # A terminal sends its signals to all processes; the supervisor's word is what counts.
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            # What is open twice does not end when one side closes it.
            for worker in self._workers.values():
                ours += (worker.control, worker.connections)
            for end in (self._listener, self._nobodys, *ours):
                if end is not None:
                    end.close()
            self._selector.close()
            status = self._work(link)
        except Exception:  # the next one may fare better
            logger.critical("a worker has failed", extra={"worker": link.number}, exc_info=True)
        finally:
            os._exit(status)  # what the parent registered for its own end is not ours to run

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
                worker.failures = 0
            self._tell_states()
        elif "question" in message:
            lines = {number: other.control for number, other in self._workers.items()}
            identifier = self._figures.ask(lines, worker.number, message["question"])
            self._later.enter(_REPORT_WITHIN_S, 0, self._figures.give_up, (identifier,))
        elif "report" in message:
            self._figures.take(worker.number, message["report"], message["figures"])

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended."""
        self._selector.unregister(worker.control)
        worker.control.close()
        worker.connections.close()
        del self._workers[worker.number]
        _, status = os.waitpid(worker.pid, 0)
        self._figures.bury(worker.number)
        if not self._stopping:
            status = os.waitstatus_to_exitcode(status)
            failures = worker.failures + 1
            self._start_later(worker.number, failures, "a worker has died", status=status)
        self._tell_states()

    def _tell_states(self) -> None:
        """Tell every worker where all of them stand, and the log what is true of all."""
        states = [
            self._workers[number].describe() if number in self._workers else _STARTING
            for number in range(1, self._count + 1)
        ]
        as_json = [{"phase": s.phase, "ready": s.ready, "reason": s.reason} for s in states]
        for worker in self._workers.values():
            tell(worker.control, states=as_json)
        if self._draining:
            self._tell_draining()
        elif all(state.ready for state in states) != self._all_ready:
            self._all_ready = not self._all_ready
            self._tell_ready()

    def _tell_ready(self) -> None:
        """All workers have become ready, or one is no more."""
        if not self._all_ready:
            logger.warning("not all workers are ready")
        elif self._told_ready:
            logger.info("all workers are ready again")
        else:
            self._told_ready = True
            self._on_ready()

    def _tell_draining(self) -> None:
        known = (worker.state.phase for worker in self._workers.values())
        if not self._told_draining and all(phase == "draining" for phase in known):
            self._told_draining = True
            logger.info("the service is draining")

    def _look(self) -> None:
        """Kill workers that stand still; while they drain, they are given `end_s` instead."""
        now = time.monotonic()
        if now > self._looked_at + 5 * _LOOK_EVERY_S:
            self._awake_since = now  # we stood still ourselves, maybe all of us did
        self._looked_at = now
        if self._draining:
            return
        for worker in self._workers.values():
            silent_s = now - max(worker.pulse.last_beat_s, self._awake_since)
            if silent_s > self._delays.silence_s:
                self._kill(worker, "a worker stands still and is killed")
            if (silent_s > _STILL_AFTER_S) != worker.still:
                worker.still = not worker.still
                self._tell_states()
        self._later.enter(_LOOK_EVERY_S, 0, self._look)

    # --- connections

    def _open_port(self) -> None:
        if not self._stopping:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            self._accepting = True

    def _rest(self) -> None:
        """Leave what connects to wait before the port: no process or no descriptor is free."""
        self._selector.unregister(self._listener)
        self._accepting = False
        self._later.enter(_ACCEPT_AGAIN_S, 0, self._open_port)

    def _accept(self) -> bool:
        """Hand over what has connected.

        Returns:
            Whether there may be more.
        """
        for _ in range(_ACCEPTS_A_TURN):
            try:
                if self._nobodys is None:
                    self._nobodys, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # nobody is left, or left before we came
                return False
            except OSError:
                self._rest()
                return False
            if not self._hand_out(self._nobodys):
                self._rest()
                return False
            self._nobodys.close()
            self._nobodys = None
        return True

    def _hand_out(self, connection: socket.socket) -> bool:
        """Hand a connection to the worker with the fewest.

        One that stands still comes last. Those that are ready come before the others, which at
        least can say that they are not.
        """
        beating_s = time.monotonic() - _LOOK_EVERY_S
        for worker in sorted(
            self._workers.values(),
            key=lambda w: (
                *(w.pulse.last_beat_s < beating_s, not w.state.ready),
                w.handed - w.pulse.closed,
            ),
        ):
            try:
                socket.send_fds(worker.connections, [b"c"], [connection.fileno()])
            except OSError:
                continue  # it has died, or has not looked for long
            worker.handed += 1
            return True
        return False

    # --- the end

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

    def _heed_signals(self) -> None:
        if self._signals and not self._draining:
            self._draining = True
            logger.info("the service was told to stop")
            for worker in self._workers.values():
                tell(worker.control, drain=True)
            self._tell_states()
            self._later.enter(self._delays.drain_s, 0, self._stop)
        if self._signals > 1:
            self._stop()

    def _stop(self) -> None:
        """Close the port, with whoever stood before it let in, and let the workers finish."""
        if self._stopping:
            return
        while self._accepting and self._accept():
            pass
        self._stopping = True
        if self._accepting:
            self._selector.unregister(self._listener)
        if self._nobodys is not None:
            self._nobodys.close()
        self._listener.close()
        for worker in self._workers.values():
            tell(worker.control, stop=True)
        self._later.enter(self._delays.end_s, 0, self._kill_all)

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            self._kill(worker, "a worker does not end and is killed")

    def _kill(self, worker: _Worker, why: str) -> None:
        logger.critical(why, extra={"worker": worker.number})
        os.kill(worker.pid, signal.SIGKILL)
