"""The threads that run models, shared by all models of a process: one batch each."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]
Done = Callable[[Any, BaseException | None], None]


class EngineSlots:
    """Hands out threads in turn and brings their results back to the event loop.

    All but the work itself happens on the event loop, so nothing here takes a lock.

    Attributes:
        count: Threads, and so batches at once.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._line: deque[Callable[[], None]] = deque()
        self._granting = False
        self._jobs: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def request(self, granted: Callable[[], None]) -> None:
        """Call `granted` when a thread is free and all who asked before have had theirs.

        Not before the event loop's next turn: what came in with the same turn goes along.
        """
        self._line.append(granted)
        if self._free and not self._granting:
            self._granting = True
            asyncio.get_running_loop().call_soon(self._grant)

    def release(self) -> None:
        """Hand a granted thread to whoever waits."""
        self._free += 1
        self._grant()

    def run(self, work: Work, done: Done) -> None:
        """Run `work` on a granted thread; `done` gets its result or exception, on the loop.

        Raises:
            RuntimeError: The system gives no thread.
        """
        if not self._threads:
            self._start()
        self._jobs.put((work, done))

    def close(self) -> None:
        """End the threads when their work is done."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _grant(self) -> None:
        self._granting = False
        while self._free and self._line:
            self._free -= 1
            self._line.popleft()()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        for number in range(self.count):
            thread = threading.Thread(
                target=self._work, args=(loop,), name=f"engine-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: one job after the other."""
        while (job := self._jobs.get()) is not None:
            work, done = job
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:  # noqa: BLE001 whatever it is, somebody waits for it
                error = caught
            try:
                loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:  # the event loop is closed; nobody waits any more
                return
            job = work = done = result = error = None  # type: ignore[assignment]  # hold no batch while idle
