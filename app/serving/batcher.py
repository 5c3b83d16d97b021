"""One model: take a batch when a thread is free, run it, settle every waiter, drain."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
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
from app.serving.slots import EngineSlots
from app.telemetry.logs import describe_exception
from app.telemetry.metrics import ModelMetrics
from app.text.padding import Int32Array

logger = logging.getLogger(__name__)

_RATE_WEIGHT: Final = 0.2
_FIRST_GUESS_S: Final = 0.01


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
        on_death: Called with a reason when forming or settling a batch breaks, which only a fault
            in this program can bring about. Every waiter has its error by then.
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
        self._asking = False  # for a slot
        self._timer: asyncio.TimerHandle | None = None
        self._running = 0
        self._refusal: Callable[[], NotReady] | None = None
        self._drained = asyncio.Event()
        self._item_s = _FIRST_GUESS_S  # of an engine's time, measured as a moving average
        self._shown = 0

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
            NotReady: The batcher has broken down.
        """
        if self._refusal is not None:
            raise self._refusal()
        settled = asyncio.get_running_loop().create_future()
        submission = Submission(rows, arrived=self._clock(), deadline=deadline, settled=settled)
        if not self._queue.admit(submission):
            raise self._overloaded(len(rows))
        self._show_queue()
        self._see_to_departure()
        try:
            await settled
        except asyncio.CancelledError:
            self._metrics.cancelled_items.inc(self._queue.remove(submission))
            self._show_queue()
            self._note_end()
            raise
        for item in submission.items:
            del item.submission  # they refer to each other, and nobody needs this way any more
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
            self._see_to_departure()
            self._note_end()
        await self._drained.wait()

    def _overloaded(self, count: int) -> Overloaded:
        return Overloaded(
            f"the queue holds {len(self._queue)} of {self._policy.max_queue_items} texts and "
            f"has no room for {count} more",
            retry_after_s=self._queue.to_compute * self._item_s / self._slots.count,
        )

    def _see_to_departure(self, now: float | None = None) -> None:
        """Ask for a slot when a batch may leave, now or as soon as its time has come."""
        if self._asking:
            return
        departure = self._queue.next_departure()
        if departure is None:
            return
        delay_s = 0.0
        if self._policy.max_queue_delay_s and self._refusal is None:
            delay_s = departure - (self._clock() if now is None else now)
        if delay_s <= 0:
            self._asking = True
            self._slots.request(self._depart)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake, departure)

    def _wake(self, departure: float) -> None:
        """The time has come for what was to leave at `departure`; it may have left by itself."""
        self._timer = None
        self._see_to_departure(max(departure, self._clock()))

    def _depart(self) -> None:
        """Take a batch and run it on the slot that was granted."""
        self._asking = False
        batch: list[Item] = []
        try:
            batch = self._take_batch()
            if batch:
                self._run(batch, iter(()))
                self._running += 1
        except Exception as error:  # noqa: BLE001 whoever waits must hear of it
            self._slots.release()
            self._die(error, batch)
            return
        if batch:
            self._see_to_departure()
        else:
            self._slots.release()
            self._note_end()

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

    def _run(self, batch: list[Item], rest: Iterator[Item]) -> None:
        """One model run on a granted slot; for `rest` see `_finish`."""
        engine, labels = self._engine, self._labels
        rows = [item.ids for item in batch]
        self._slots.run(
            lambda: infer(engine, rows, labels=labels).tolist(),
            partial(self._finish, batch, rest, self._clock()),
        )

    def _finish(
        self,
        batch: list[Item],
        rest: Iterator[Item],
        started: float,
        answer: list[list[float]],
        error: BaseException | None,
    ) -> None:
        """After a run: settle its items, or run each alone when it failed.

        Args:
            batch: The items of the run.
            rest: Those of a failed batch that are still to be run alone.
            started: When the run began.
            answer: Of the model, if it gave one.
            error: Why it gave none.
        """
        if error is not None and len(batch) > 1:
            rest = iter(batch)
        else:
            try:
                self._conclude(batch, started, answer, error)
            except Exception as fault:  # noqa: BLE001 whoever waits must hear of it
                self._die(fault, [*batch, *rest])
        self._run_apart(rest)

    def _run_apart(self, rest: Iterator[Item]) -> None:
        """After a run, on its slot: run the next item alone; when none is left, free the slot."""
        for item in rest:
            if item.submission.settled.done() and not item.followers:
                self._queue.finish(item)  # its caller left in the meantime
                continue
            self._run([item], rest)
            return
        self._end_run()

    def _conclude(
        self,
        batch: list[Item],
        started: float,
        answer: list[list[float]],
        error: BaseException | None,
    ) -> None:
        """Settle the items of a run: all with their answers, or the only one with its error."""
        if error is None:
            seconds = self._clock() - started
            self._observe(batch, seconds)
            for item, probabilities in zip(batch, answer, strict=True):
                self._settle(item, seconds, probabilities, None)
            return
        (item,) = batch
        logger.error(
            "the model failed on a text",
            extra={"model": self._metrics.name, "length": item.length} | describe_exception(error),
        )
        self._settle(item, 0.0, None, InferenceFailed("the model failed on this text"))

    def _observe(self, batch: list[Item], seconds: float) -> None:
        """Count one run."""
        count = len(batch)
        self._item_s += _RATE_WEIGHT * (seconds / count - self._item_s)
        lengths = [item.length for item in batch]
        real = sum(lengths)
        metrics = self._metrics
        metrics.inference_seconds.observe(seconds)
        metrics.batch_items.observe(count)
        metrics.real_tokens.inc(real)
        metrics.padded_tokens.inc(max(lengths) * count - real)

    def _settle(
        self,
        item: Item,
        seconds: float,
        probabilities: list[float] | None,
        error: ValenceError | None,
    ) -> None:
        """Give an item and its followers their answer; wake each caller that has all of its own."""
        for each in (item, *self._queue.finish(item)):
            each.probabilities = probabilities
            each.error = error
            submission = each.submission
            self._metrics.queue_delay_seconds.observe(each.taken_at - submission.arrived)
            if seconds > submission.inference_s:
                submission.inference_s = seconds
            submission.unsettled -= 1
            if submission.unsettled == 0 and not submission.settled.done():
                submission.settled.set_result(None)

    def _end_run(self) -> None:
        """The slot is free again."""
        self._running -= 1
        self._show_queue()  # who waited for the answer of an equal item has left, too
        self._slots.release()
        self._note_end()

    def _note_end(self) -> None:
        """Tell `drain` when the last admitted item has its answer."""
        if self._refusal is not None and not self._running and not len(self._queue):
            self._drained.set()

    def _show_queue(self) -> None:
        """Bring the gauge up to date; versions of one model share it, so it moves by steps."""
        waiting = len(self._queue)
        if waiting != self._shown:
            self._metrics.queue_items.inc(waiting - self._shown)
            self._shown = waiting

    def _die(self, error: Exception, batch: Sequence[Item] = ()) -> None:
        """Leave nobody waiting: neither in the queue nor for the batch that broke."""
        reason = f"the batches of the model {self._metrics.name} have broken down"
        self._refusal = partial(NotReady, reason)
        abandoned = [item.submission for item in batch]
        for item in batch:
            abandoned += [follower.submission for follower in item.followers or ()]
        for submission in (*self._queue.close(), *abandoned):
            if not submission.settled.done():
                submission.settled.set_exception(NotReady(reason))
        self._show_queue()
        logger.critical(reason, extra=describe_exception(error))
        self._on_death(reason)
        self._note_end()
