"""The engine threads, shared by all models of a process. Each runs one batch at a time."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]
Done = Callable[[Any, BaseException | None], None]


class EngineSlots:
    """Grants threads first come, first served, and returns their results to the event loop.

    Only the work itself runs on a thread. All else runs on the event loop, so there are no locks.

    Attributes:
        count: The number of threads, and so of batches that run at once.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: deque[Callable[[], None]] = deque()
        self._grant_scheduled = False
        self._jobs: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def request(self, granted: Callable[[], None]) -> None:
        """Call `granted` when a thread is free, after all earlier requests.

        Never before the event loop's next iteration, so that everything which arrived in this one
        can be part of the batch.
        """
        self._waiting.append(granted)
        if self._free and not self._grant_scheduled:
            self._grant_scheduled = True
            asyncio.get_running_loop().call_soon(self._grant)

    def release(self) -> None:
        """Give back a granted thread; the next request gets it."""
        self._free += 1
        self._grant()

    def run(self, work: Work, done: Done) -> None:
        """Run `work` on a granted thread; `done` gets its result or exception, on the event loop.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        if not self._threads:
            self._start()
        self._jobs.put((work, done))

    def close(self) -> None:
        """Let the threads end once their work is done."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _grant(self) -> None:
        self._grant_scheduled = False
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft()()

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
        while (job := self._jobs.get()) is not None:
            work, done = job
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:  # noqa: BLE001 the caller must get it, whatever it is
                error = caught
            try:
                loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:  # the event loop is closed
                return
            job = work = done = result = error = None  # type: ignore[assignment]  # keep no batch alive
