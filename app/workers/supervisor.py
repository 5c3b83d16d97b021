"""The supervisor: it accepts connections, dispatches them to workers, and restarts dead workers.

It reads no request and runs no model, so no request and no model can crash it.
"""

import contextlib
import logging
import os
import sched
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from app.workers import WorkerState
from app.workers.collector import Aggregation, MetricsCollector
from app.workers.heartbeat import Heartbeat, make_shared_number
from app.workers.link import Link
from app.workers.messages import make_channel, receive, send

logger = logging.getLogger(__name__)

_FIRST_RESTART_DELAY_S: Final = 0.5
_MAX_RESTART_DELAY_S: Final = 30.0
_SNAPSHOT_TIMEOUT_S: Final = 1.0
_ACCEPTS_PER_WAKEUP: Final = 64
_ACCEPT_PAUSE_S: Final = 0.1
_LOG_EVERY_S: Final = 60.0
_HEARTBEAT_CHECK_S: Final = 1.0
_UNRESPONSIVE_AFTER_S: Final = 3.0
"""Without a heartbeat; no load delays heartbeats, sent ten times a second, as long as this."""

_ENDING: Final = ("draining", "stopped")
_STARTING: Final = WorkerState("starting", ready=False, reason="starting")
_DIED: Final = WorkerState("starting", ready=False, reason="died; it is being replaced")


class Agreement(Protocol):
    """The agreement on what all workers serve; `app.serving.agreement.Agreement` is one."""

    @property
    def agreed(self) -> Mapping[str, Any] | None:
        """The plan in effect, for a worker that is being started."""
        ...

    @property
    def differing(self) -> Mapping[int, str]:
        """The workers that cannot serve what the others serve, each with the reason."""
        ...

    def join(self, number: int) -> None:
        """A worker was started."""
        ...

    def leave(self, number: int) -> None:
        """A worker has ended."""
        ...

    def receive(self, number: int, message: Mapping[str, Any]) -> None:
        """Handle a message of a worker."""
        ...

    def look(self) -> None:
        """Look for new versions now."""
        ...


class Ledger(Aggregation, Protocol):
    """The metrics of the supervisor, and how those of the workers are merged with them."""

    def set_workers(self, counts: Mapping[str, int]) -> None:
        """Set the number of workers in each state that has some; the others have none."""
        ...

    def count_death(self, reason: str) -> None:
        """Count a worker that has died: `killed`, `failed` or `unresponsive`."""
        ...

    def count_unaccepted(self) -> None:
        """Count an attempt to accept a connection for which no file descriptor was free."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the supervisor waits, in seconds.

    Attributes:
        drain_delay_s: Between becoming unready and closing the port.
        stop_s: From closing the port until workers that have not ended are killed.
        heartbeat_s: Without a heartbeat, until a worker is killed.
    """

    drain_delay_s: float
    stop_s: float
    heartbeat_s: float = 30.0


@dataclass(eq=False)
class _Worker:
    """One child process.

    Attributes:
        number: From 1; a restarted worker keeps the number.
        pid: The process id.
        control: The supervisor's end of the message channel.
        connections: The supervisor's end of the connection channel.
        heartbeat: Shared memory that the worker writes.
        failures: How often the worker with this number has died since it was last ready.
        dispatched: How many connections it was given.
        state: The state that it last sent.
        unresponsive: Whether its heartbeat is overdue.
        killed: Whether the supervisor has killed it because of that.
    """

    number: int
    pid: int
    control: socket.socket
    connections: socket.socket
    heartbeat: Heartbeat
    failures: int
    dispatched: int = 0
    state: WorkerState = _STARTING
    unresponsive: bool = False
    killed: bool = False

    @property
    def open_connections(self) -> int:
        """How many connections it holds."""
        return self.dispatched - self.heartbeat.closed_connections

    def current_state(self) -> WorkerState:
        """The state that it last sent, or that it is unresponsive."""
        if not self.unresponsive:
            return self.state
        return WorkerState(self.state.phase, ready=False, reason="unresponsive")


class Supervisor:
    """Runs workers until it receives a signal.

    On SIGTERM or SIGINT all workers become unready at once and keep answering during the drain
    delay; then the port is closed and they finish open requests. A second signal skips the delay.

    A worker that dies is restarted. Which versions the workers serve is agreed on here, for all of
    them; SIGHUP makes one of them look for new ones. Only while the service starts, a worker that
    reports that it cannot become ready stops the supervisor and all workers.

    Args:
        listener: A listening, non-blocking socket.
        count: The number of workers.
        work: Runs in each child process and returns its exit status.
        ledger: The supervisor's metrics, and how the workers' are merged.
        agree: Makes the agreement on what the workers serve, with this object as its host.
        timeouts: How long to wait for what.
        on_ready: Called when all workers are ready for the first time.

    Attributes:
        failure: Why the service could not start; None if it could, or was told to stop before.
    """

    def __init__(
        self,
        listener: socket.socket,
        count: int,
        *,
        work: Callable[[Link], int],
        ledger: Ledger,
        agree: Callable[["Supervisor"], Agreement],
        timeouts: Timeouts,
        on_ready: Callable[[], None],
    ) -> None:
        self.failure: str | None = None
        self._listener = listener
        self._count = count
        self._work = work
        self._ledger = ledger
        self._collector = MetricsCollector(ledger)
        self._generation = make_shared_number()
        self._agreement = agree(self)
        self._timeouts = timeouts
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._timers = sched.scheduler(time.monotonic)
        self._workers: dict[int, _Worker] = {}
        self._accepting = False
        self._undispatched: socket.socket | None = None
        self._exhaustion_logged_at = -_LOG_EVERY_S
        self._checked_at = self._resumed_at = time.monotonic()
        self._signals = self._hangups = 0
        self._died: set[int] = set()
        self._draining = self._stopping = False
        self._all_ready = self._reported_ready = self._reported_draining = False

    def run(self) -> None:
        """Run until a signal or a failed start, and return when the last worker has ended."""
        with self._catch_signals():
            for number in range(1, self._count + 1):
                self._start(number)
            self._resume_accepting()
            self._check_heartbeats()
            while not (self._stopping and not self._workers):
                for key, _ in self._selector.select(self._timers.run(blocking=False)):
                    key.data()
                self._handle_signals()
        self._selector.close()

    # --- the agreement on what serves

    def tell(self, member: int, message: Mapping[str, Any]) -> None:
        """Send a message of the agreement to a worker."""
        if member in self._workers:
            send(self._workers[member].control, agree=message)

    def commit(self, generation: int) -> None:
        """Put a plan into effect: every worker reads this number before each answer."""
        self._generation[0] = generation

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` after a delay, unless the service is told to stop before."""
        self._timers.enter(delay_s, 1, lambda: None if self._draining else action())

    def fail(self, reason: str) -> None:
        """Stop the service: it can never become ready."""
        if not self._stopping:
            self.failure = reason
            self._stop()

    def report_differing(self) -> None:
        """A worker differs from the others, or no longer does."""
        self._broadcast_states()

    # --- workers

    def _start(self, number: int, failures: int = 0) -> None:
        """Start a worker, or schedule the next attempt; do nothing once the service stops."""
        if self._signals or self._stopping:
            return
        try:
            worker = self._fork(number, failures)
        except OSError as error:  # the limit of processes or of file descriptors
            self._died.add(number)
            self._schedule_start(
                number, failures + 1, "worker cannot be started", reason=error.strerror
            )
            return
        self._workers[number] = worker
        self._died.discard(number)
        self._agreement.join(number)
        self._selector.register(worker.control, selectors.EVENT_READ, lambda: self._receive(worker))

    def _schedule_start(self, number: int, failures: int, event: str, **extra: object) -> None:
        """Log an event, and start the worker after a delay that doubles with each failure."""
        delay_s = min(_FIRST_RESTART_DELAY_S * 2 ** min(failures - 1, 10), _MAX_RESTART_DELAY_S)
        self._timers.enter(delay_s, 0, self._start, (number, failures))
        logger.critical(event, extra={"worker": number, **extra, "restart_in_seconds": delay_s})

    def _fork(self, number: int, failures: int) -> _Worker:
        heartbeat = Heartbeat()
        control, worker_control = make_channel()
        connections, worker_connections = make_channel()
        link = Link(
            *(number, worker_control, worker_connections, heartbeat),
            states=self._describe_workers(),
            generation=self._generation,
            agreed=self._agreement.agreed,
            inherited=self._collector.last_snapshot(number),
        )
        pid = os.fork()
        if pid == 0:
            self._run_child(link, control, connections)
        worker_control.close()
        worker_connections.close()
        return _Worker(number, pid, control, connections, heartbeat, failures)

    def _run_child(self, link: Link, *inherited: socket.socket) -> NoReturn:
        """Run in the child process: release what belongs to the supervisor, work, and exit."""
        status = 1
        try:
            # A terminal sends its signals to all processes; workers act on messages only.
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # A socket that is open in two processes does not end when one of them closes it.
            for worker in self._workers.values():
                inherited += (worker.control, worker.connections)
            for end in (self._listener, self._undispatched, *inherited):
                if end is not None:
                    end.close()
            self._selector.close()
            status = self._work(link)
        except Exception:  # the supervisor restarts this worker
            logger.critical("worker failed", extra={"worker": link.number}, exc_info=True)
        finally:
            logging.shutdown()  # writes the last lines
            os._exit(status)  # skips the exit handlers, which belong to the parent process

    def _receive(self, worker: _Worker) -> None:
        try:
            message = receive(worker.control)
        except BlockingIOError:
            return
        if message is None:
            self._reap(worker)
        elif "phase" in message:
            worker.state = WorkerState(**message)
            if worker.state.ready:
                worker.failures = 0
            self._broadcast_states()
        elif "agree" in message:
            self._agreement.receive(worker.number, message["agree"])
        elif "failed" in message:
            self._handle_failure(worker, message["failed"])
        elif "collect" in message:
            channels = {number: other.control for number, other in self._workers.items()}
            identifier = self._collector.start(channels, worker.number, message["collect"])
            self._timers.enter(_SNAPSHOT_TIMEOUT_S, 0, self._collector.finish, (identifier,))
        elif "snapshot" in message:
            self._collector.add(worker.number, message["snapshot"], message["metrics"])

    def _handle_failure(self, worker: _Worker, reason: str) -> None:
        """Stop the service if it is starting; else the worker ends by itself and is restarted."""
        if self._reported_ready:
            extra = {"worker": worker.number, "reason": reason}
            logger.error("worker cannot become ready", extra=extra)
        else:
            self.fail(reason)

    def _reap(self, worker: _Worker) -> None:
        """Clean up after a worker that has ended, and schedule its restart."""
        self._selector.unregister(worker.control)
        worker.control.close()
        worker.connections.close()
        del self._workers[worker.number]
        _, status = os.waitpid(worker.pid, 0)
        self._collector.remove(worker.number)
        self._agreement.leave(worker.number)
        self._died.add(worker.number)
        if not self._stopping:
            status = os.waitstatus_to_exitcode(status)
            killed = "unresponsive" if worker.killed else "killed"
            self._ledger.count_death(killed if status < 0 else "failed")
            self._schedule_start(worker.number, worker.failures + 1, "worker died", status=status)
        self._broadcast_states()

    def _broadcast_states(self) -> None:
        """Send the states of all workers to each of them, and log what has changed."""
        states = self._describe_workers()
        as_json = [{"phase": s.phase, "ready": s.ready, "reason": s.reason} for s in states]
        for worker in self._workers.values():
            send(worker.control, states=as_json)
        if self._draining:
            self._report_draining()
        elif all(state.ready for state in states) != self._all_ready:
            self._all_ready = not self._all_ready
            self._report_ready()

    def _describe_workers(self) -> list[WorkerState]:
        """The state of each worker; the numbers in each state go to the metrics."""
        described = [self._describe_worker(number) for number in range(1, self._count + 1)]
        self._ledger.set_workers(Counter(word for word, _ in described))
        return [state for _, state in described]

    def _describe_worker(self, number: int) -> tuple[str, WorkerState]:
        """The state of a worker in the metrics, and as the workers are told."""
        worker = self._workers.get(number)
        if worker is None:
            return ("died", _DIED) if number in self._died else ("starting", _STARTING)
        state = worker.current_state()
        if worker.unresponsive:
            return "unresponsive", state
        if number in self._agreement.differing:
            return "differs", state
        if state.ready:
            return "ready", state
        return "draining" if state.phase in _ENDING else "starting", state

    def _report_ready(self) -> None:
        """Report that all workers have become ready, or that one no longer is."""
        if not self._all_ready:
            logger.warning("not all workers are ready")
        elif self._reported_ready:
            logger.info("all workers are ready again")
        else:
            self._reported_ready = True
            self._on_ready()

    def _report_draining(self) -> None:
        phases = (worker.state.phase for worker in self._workers.values())
        if not self._reported_draining and all(phase == "draining" for phase in phases):
            self._reported_draining = True
            logger.info("the service is draining")

    def _check_heartbeats(self) -> None:
        """Kill workers without a heartbeat; not while draining, which has a timeout of its own."""
        now = time.monotonic()
        if now > self._checked_at + 5 * _HEARTBEAT_CHECK_S:
            self._resumed_at = now  # this process was suspended, and maybe the workers, too
        self._checked_at = now
        if self._draining:
            return
        for worker in self._workers.values():
            silent_s = now - max(worker.heartbeat.last_beat_s, self._resumed_at)
            if silent_s > self._timeouts.heartbeat_s:
                worker.killed = True
                self._kill(worker, "worker unresponsive, killed")
            if (silent_s > _UNRESPONSIVE_AFTER_S) != worker.unresponsive:
                worker.unresponsive = not worker.unresponsive
                self._broadcast_states()
        self._timers.enter(_HEARTBEAT_CHECK_S, 0, self._check_heartbeats)

    # --- connections

    def _resume_accepting(self) -> None:
        if not self._stopping:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            self._accepting = True

    def _pause_accepting(self) -> None:
        """Leave new connections in the backlog: no worker or no file descriptor is free."""
        self._selector.unregister(self._listener)
        self._accepting = False
        self._timers.enter(_ACCEPT_PAUSE_S, 0, self._resume_accepting)

    def _report_exhaustion(self, error: OSError) -> None:
        """Count a connection that cannot be accepted yet; log it once a minute."""
        self._ledger.count_unaccepted()
        now = time.monotonic()
        if now >= self._exhaustion_logged_at + _LOG_EVERY_S:
            self._exhaustion_logged_at = now
            logger.warning("connections are exhausted", extra={"reason": error.strerror})

    def _accept(self) -> bool:
        """Accept connections and dispatch them.

        Returns:
            Whether more may be waiting.
        """
        for _ in range(_ACCEPTS_PER_WAKEUP):
            try:
                if self._undispatched is None:
                    self._undispatched, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # none is waiting, or the client has left
                return False
            except OSError as error:
                self._report_exhaustion(error)
                self._pause_accepting()
                return False
            if not self._dispatch(self._undispatched):
                self._pause_accepting()
                return False
            self._undispatched.close()
            self._undispatched = None
        return True

    def _dispatch(self, connection: socket.socket) -> bool:
        """Send a connection to the worker with the fewest open connections.

        Ready workers come before the others, which can at least answer that they are not ready:
        none of them may answer from another version. Those whose heartbeat is late come last.

        Returns:
            False if no worker could take it.
        """
        late_s = time.monotonic() - _HEARTBEAT_CHECK_S
        for worker in sorted(
            self._workers.values(),
            key=lambda w: (
                not w.current_state().ready,
                w.heartbeat.last_beat_s < late_s,
                w.open_connections,
            ),
        ):
            try:
                socket.send_fds(worker.connections, [b"c"], [connection.fileno()])
            except OSError:
                continue  # it has died, or its channel is full
            worker.dispatched += 1
            return True
        return False

    # --- shutdown

    @contextlib.contextmanager
    def _catch_signals(self) -> Iterator[None]:
        wakeup, wakeup_write = socket.socketpair()
        for end in (wakeup, wakeup_write):
            end.setblocking(False)

        def count(*_: object) -> None:
            self._signals += 1

        def hang_up(*_: object) -> None:
            self._hangups += 1

        handlers = {n: signal.signal(n, count) for n in (signal.SIGINT, signal.SIGTERM)}
        handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
        # A parent may have set it to be ignored; then the status of a dead worker would be lost.
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        wakeup_fd = signal.set_wakeup_fd(wakeup_write.fileno(), warn_on_full_buffer=False)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(4096))
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_fd)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            wakeup.close()
            wakeup_write.close()

    def _handle_signals(self) -> None:
        if self._hangups:
            self._hangups = 0
            logger.info("the models are looked at")
            self._agreement.look()
        if self._signals and not self._draining:
            self._draining = True
            logger.info("the service was told to stop")
            for worker in self._workers.values():
                send(worker.control, drain=True)
            self._broadcast_states()
            self._timers.enter(self._timeouts.drain_delay_s, 0, self._stop)
        if self._signals > 1:
            self._stop()

    def _stop(self) -> None:
        """Dispatch the connections in the backlog, close the port, and let the workers finish."""
        if self._stopping:
            return
        while self._accepting and self._accept():
            pass
        self._stopping = True
        if self._accepting:
            self._selector.unregister(self._listener)
        if self._undispatched is not None:
            self._undispatched.close()
        self._listener.close()
        for worker in self._workers.values():
            send(worker.control, stop=True)
        self._timers.enter(self._timeouts.stop_s, 0, self._kill_all)

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            self._kill(worker, "worker did not stop in time, killed")

    def _kill(self, worker: _Worker, event: str) -> None:
        logger.critical(event, extra={"worker": worker.number})
        os.kill(worker.pid, signal.SIGKILL)
