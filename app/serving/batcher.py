"""The loop of one model: take a batch, run it off the event loop, settle every waiter, drain."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from app.errors import (
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    NotReady,
    Overloaded,
    ValenceError,
)
from app.serving.engines import Engine, infer
from app.serving.request_queue import BatchPolicy, Item, RequestQueue, Submission
from app.telemetry.logs import describe_exception
from app.telemetry.metrics import ModelMetrics
from app.text.padding import Int32Array

logger = logging.getLogger(__name__)

_RATE_WEIGHT: Final = 0.2
_FIRST_GUESS_S: Final = 0.01


class EngineSlots:
    """The threads that run models, shared by all models of the process: one batch each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = asyncio.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="engine")

    async def acquire(self) -> None:
        """Wait for a free thread; models that wait are served in turn."""
        await self._free.acquire()

    def release(self) -> None:
        """Hand the thread to whoever waits."""
        self._free.release()

    async def run(self, work: Callable[[], list[list[float]]]) -> list[list[float]]:
        """Run `work` on the acquired thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads when their work is done."""
        self._threads.shutdown(wait=False)


class Batcher:
    """Answers rows of ids with probabilities, many requests to a model run.

    A batch is formed when an engine slot is free and not before, so it grows while the engines
    are busy and leaves at once when one is idle. A batch that fails is run again item by item: an
    item the model cannot digest fails alone.

    Args:
        engine: The loaded model.
        labels: Columns of its answer.
        policy: How long items wait and how many go together.
        slots: Where the model runs.
        metrics: The series of the model.
        on_death: Called with a reason when the loop dies, which only a fault in this program
            can bring about. Every waiter has its error by then.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        labels: int,
        policy: BatchPolicy,
        slots: EngineSlots,
        metrics: ModelMetrics,
        on_death: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._labels = labels
        self._policy = policy
        self._slots = slots
        self._metrics = metrics
        self._on_death = on_death
        self._clock = clock
        self._queue = RequestQueue(policy, clock)
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._refusal: Callable[[], NotReady] | None = None
        self._item_s = _FIRST_GUESS_S  # of an engine's time, measured as a moving average
        self._shown = 0

    def start(self) -> None:
        """Begin to take batches, on the running event loop."""
        self._loop = asyncio.create_task(self._take_batches())
        self._loop.add_done_callback(self._end)

    async def submit(self, rows: Sequence[Int32Array], *, deadline: float) -> Submission:
        """Wait until every row has its probabilities or its error.

        Cancelling this call withdraws what still waits; the model never sees it.

        Args:
            rows: One row of ids per text of a request, each int32 of shape (length_i,).
            deadline: On the clock of the batcher, in seconds.

        Returns:
            The settled items, in the order of `rows`.

        Raises:
            Overloaded: There is not room for all rows. None was admitted.
            DeadlineExceeded: The deadline passed before the model could run.
            Draining: The batcher takes nothing new.
            NotReady: The loop has died.
        """
        if self._refusal is not None:
            raise self._refusal()
        settled = asyncio.get_running_loop().create_future()
        submission = Submission(rows, arrived=self._clock(), deadline=deadline, settled=settled)
        if not self._queue.admit(submission):
            raise self._overloaded(len(rows))
        self._show_queue()
        self._wake.set()
        try:
            await settled
        except asyncio.CancelledError:
            self._metrics.cancelled_items.inc(self._queue.remove(submission))
            self._show_queue()
            raise
        return submission

    def require_room(self, count: int) -> None:
        """Refuse `count` rows that could not be admitted now, before they cost anything.

        Raises:
            Overloaded, Draining, NotReady: As `submit`.
        """
        if self._refusal is not None:
            raise self._refusal()
        if not self._queue.has_room(count):
            raise self._overloaded(count)

    async def drain(self) -> None:
        """Refuse new rows, answer every admitted one, then stop. Again is harmless."""
        if self._refusal is None:
            self._refusal = partial(Draining, "the model is being stopped")
        self._wake.set()
        if self._loop is not None:
            await asyncio.wait([self._loop])
        if self._running:
            await asyncio.wait(self._running)

    def _overloaded(self, count: int) -> Overloaded:
        return Overloaded(
            f"the queue holds {len(self._queue)} of {self._policy.max_queue_items} texts and "
            f"has no room for {count} more",
            retry_after_s=len(self._queue) * self._item_s / self._slots.count,
        )

    async def _take_batches(self) -> None:
        """The loop."""
        while await self._wait_for_departure():
            await self._slots.acquire()
            batch: list[Item] = []
            try:
                batch = self._take_batch()
            finally:
                if not batch:
                    self._slots.release()
            if batch:
                run = asyncio.create_task(self._run(batch))
                self._running.add(run)
                run.add_done_callback(self._running.discard)

    def _take_batch(self) -> list[Item]:
        """The next batch; empty when all that waited has expired or left."""
        batch, expired = self._queue.take_batch()
        self._show_queue()
        for submission, count in expired:
            self._metrics.cancelled_items.inc(count)
            if not submission.settled.done():
                submission.settled.set_exception(
                    DeadlineExceeded("the deadline passed while the text was waiting")
                )
        return batch

    async def _wait_for_departure(self) -> bool:
        """Wait until a batch may leave; False when none ever will."""
        while True:
            self._wake.clear()
            departure = self._queue.next_departure()
            if departure is None:
                if self._refusal is not None:
                    return False
                await self._wake.wait()
                continue
            delay_s = departure - self._clock()
            if delay_s <= 0 or self._refusal is not None:
                return True
            try:
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            except TimeoutError:
                return True

    async def _run(self, batch: list[Item]) -> None:
        """Run one batch on the acquired slot and settle its items."""
        try:
            await self._infer(batch)
        except Exception as error:  # noqa: BLE001 whatever a model raises fails its batch alone
            await self._run_apart(batch, error)
        finally:
            self._slots.release()

    async def _run_apart(self, batch: list[Item], error: Exception) -> None:
        """After a failed run: each item alone, so that only those fail that must."""
        if len(batch) == 1:
            self._fail(batch[0], error)
            return
        for item in batch:
            if item.submission.settled.done() and not item.followers:
                self._queue.finish(item)
                continue  # its caller left in the meantime
            try:
                await self._infer([item])
            except Exception as item_error:  # noqa: BLE001 as above, for one item
                self._fail(item, item_error)

    async def _infer(self, batch: list[Item]) -> None:
        """One model run: the answers of all items of `batch`, or an exception."""
        lengths = [len(item.ids) for item in batch]
        rows = [item.ids for item in batch]
        started = self._clock()
        answer = await self._slots.run(
            lambda: infer(self._engine, rows, labels=self._labels).tolist()
        )
        seconds = self._clock() - started
        self._item_s += _RATE_WEIGHT * (seconds / len(batch) - self._item_s)
        metrics = self._metrics
        metrics.inference_seconds.observe(seconds)
        metrics.batch_items.observe(len(batch))
        metrics.real_tokens.inc(sum(lengths))
        metrics.padded_tokens.inc(max(lengths) * len(lengths) - sum(lengths))
        for leader, probabilities in zip(batch, answer, strict=True):
            for item in (leader, *self._queue.finish(leader)):
                metrics.queue_delay_seconds.observe(item.taken_at - item.submission.arrived)
                item.submission.inference_s = max(item.submission.inference_s, seconds)
                self._settle(item, probabilities=probabilities)
        self._show_queue()

    def _fail(self, item: Item, error: Exception) -> None:
        logger.error(
            "the model failed on a text",
            extra={"model": self._metrics.name, "length": len(item.ids)}
            | describe_exception(error),
        )
        for each in (item, *self._queue.finish(item)):
            self._settle(each, error=InferenceFailed("the model failed on this text"))
        self._show_queue()

    def _settle(
        self,
        item: Item,
        *,
        probabilities: list[float] | None = None,
        error: ValenceError | None = None,
    ) -> None:
        """Give an item its answer, once, and wake its caller when it was the last one."""
        if item.probabilities is not None or item.error is not None:
            return
        item.probabilities = probabilities
        item.error = error
        submission = item.submission
        submission.unsettled -= 1
        if submission.unsettled == 0 and not submission.settled.done():
            submission.settled.set_result(None)

    def _show_queue(self) -> None:
        """Bring the gauge up to date; versions of one model share it, so it moves by steps."""
        waiting = len(self._queue)
        self._metrics.queue_items.inc(waiting - self._shown)
        self._shown = waiting

    def _end(self, loop: asyncio.Task[None]) -> None:
        """Leave nobody waiting when the loop is over. After a drain nobody does."""
        error = None if loop.cancelled() else loop.exception()
        if error is None and self._refusal is not None:
            return
        reason = f"the loop of the model {self._metrics.name} has died"
        self._refusal = partial(NotReady, reason)
        for submission in self._queue.close():
            if not submission.settled.done():
                submission.settled.set_exception(NotReady(reason))
        self._show_queue()
        if error is not None:
            logger.critical(reason, extra=describe_exception(error))
        self._on_death(reason)
