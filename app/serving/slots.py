"""The engine threads, shared by all models of a process. Each runs one batch at a time."""

import asyncio
import contextlib
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

from app.errors import DeadlineExceeded
from app.serving.admission import EngineLoad

_LATE_TIMER_S: Final = 1.0
"""A timer that fires so late means that the process was suspended, not that the model hangs."""
_NICENESS: Final = 10
"""By how much threads that compute are nicer than the process; Linux ends at 19."""

Work = Callable[[], Any]
Done = Callable[[Any, BaseException | None], None]


@dataclass(slots=True, eq=False)
class _Job:
    """Work on a thread.

    Attributes:
        work, done: As passed to `EngineSlots.run`.
        started: When it was handed to a thread, on the event loop's clock.
    """

    work: Work
    done: Done
    started: float


class EngineSlots:
    """Grants threads first come, first served, and returns their results to the event loop.

    Only the work itself runs on a thread. All else runs on the event loop, so there are no locks.

    A thread that is stuck in a model cannot be ended, only the process can. So work that takes too
    long is given up: it gets an error, no thread is granted any more, and `on_hang` is called.

    Args:
        count: The number of threads, and so of batches that run at once.
        timeout_s: After so many seconds work is given up.
        on_hang: Called with the reason when work was given up.

    Attributes:
        load: The work of the models that share the threads.
        count: As passed in.
    """

    def __init__(
        self,
        count: int,
        *,
        timeout_s: float = math.inf,
        on_hang: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self.load = EngineLoad(count)
        self.count = count
        self._busy_s = 0.0  # of the work that is done
        self._timeout_s = timeout_s
        self._on_hang = on_hang
        self._hung = False
        self._running: list[_Job] = []
        self._watchdog: asyncio.TimerHandle | None = None
        self._free = count
        self._waiting: deque[Callable[[], None]] = deque()
        self._background: deque[Callable[[], None]] = deque()
        self._grant_scheduled = False
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def request(self, granted: Callable[[], None], *, background: bool = False) -> None:
        """Call `granted` when a thread is free, after all earlier requests.

        In the background it comes after all later ones, too, for as long as there are any.

        Never before the event loop's next iteration, so that everything which arrived in this one
        can be part of the batch.
        """
        (self._background if background else self._waiting).append(granted)
        if self._free and not self._grant_scheduled:
            self._grant_scheduled = True
            asyncio.get_running_loop().call_soon(self._grant)

    def release(self) -> None:
        """Give back a granted thread; the next request gets it."""
        self._free += 1
        self._grant()

    def run(self, work: Work, done: Done) -> None:
        """Run `work` on a granted thread; `done` gets its result or exception, on the event loop.

        If it is given up, `done` gets `DeadlineExceeded` and the result is dropped.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        if not self._threads:
            self._start()
        loop = asyncio.get_running_loop()
        job = _Job(work, done, loop.time())
        self._running.append(job)
        if self._watchdog is None and self._timeout_s < math.inf:
            self._watch(loop, job.started + self._timeout_s)
        self._jobs.put(job)

    def busy_s(self) -> float:
        """How long the threads have had work, in seconds, summed over all of them."""
        if not self._running:
            return self._busy_s
        now = asyncio.get_running_loop().time()
        return self._busy_s + sum(now - job.started for job in self._running)

    def close(self) -> None:
        """Let the threads end once their work is done."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _watch(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Look at the running work when the time `due` has come, not once for each batch."""
        self._watchdog = loop.call_at(due, self._check, loop, due)

    def _check(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Give up work that takes too long."""
        self._watchdog = None
        now = loop.time()
        if now > due + _LATE_TIMER_S:
            for job in self._running:
                job.started = now
        for job in [job for job in self._running if job.started + self._timeout_s <= now]:
            self._give_up(job)
        if self._running:
            self._watch(loop, min(job.started for job in self._running) + self._timeout_s)

    def _give_up(self, job: _Job) -> None:
        first = not self._hung
        self._hung = True
        rule = f"the model took longer than {self._timeout_s:g} s"
        self._finish(job, None, DeadlineExceeded(rule))
        if first:
            self._on_hang(rule)

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        """On the event loop: deliver a result, unless the work was given up before."""
        if job in self._running:
            self._running.remove(job)
            self._busy_s += asyncio.get_running_loop().time() - job.started
            job.done(result, error)

    def _grant(self) -> None:
        self._grant_scheduled = False
        while self._free and (self._waiting or self._background) and not self._hung:
            self._free -= 1
            (self._waiting or self._background).popleft()()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        for number in range(self.count):
            thread = threading.Thread(
                target=self._work, args=(loop,), name=f"engine-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: run one job after another."""
        give_way()
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            try:
                result = job.work()
            except BaseException as caught:  # noqa: BLE001 the caller must get it, whatever it is
                error = caught
            try:
                loop.call_soon_threadsafe(self._finish, job, result, error)
            except RuntimeError:  # the event loop is closed
                return
            job = result = error = None  # keep no batch alive


def give_way() -> None:
    """Let the event loop have a core as soon as it needs one, before the calling thread goes on.

    A thread that computes all the time would make it wait for milliseconds: under overload every
    refusal would come as late. On other systems than Linux a thread has no priority of its own.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            lower = os.getpriority(os.PRIO_PROCESS, os.getpid()) + _NICENESS
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), lower)
