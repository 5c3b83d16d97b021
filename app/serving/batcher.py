"""One model's loop: take a batch when an engine slot is free, run it, settle its items, drain."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from app.errors import (
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    NotReady,
    Overloaded,
    TooLate,
    ValenceError,
)
from app.serving.admission import Admission, Run
from app.serving.engines import Engine, infer
from app.serving.request_queue import BatchPolicy, Item, RequestQueue, Submission
from app.serving.slots import EngineSlots
from app.telemetry.logs import describe_exception
from app.telemetry.metrics import ModelMetrics
from app.text.padding import Int32Array

logger = logging.getLogger(__name__)

TraceRun = Callable[[str, int, int, int, float], object]
"""Notes a run, from the model, its items, their tokens, the padding, and its seconds; returns what
the requests that it answered link to."""


class Batcher:
    """Turns rows of ids into probabilities, with the items of many requests in one model run.

    A batch is formed only when an engine slot is free. So it grows while the engines are busy,
    and leaves at once when one is idle. A failed batch is run again in halves, so that only the
    items that the model fails on fail.

    Args:
        engine: The loaded model.
        labels: The number of labels, the columns of its output.
        policy: How long items wait and how many go together.
        slots: The threads that run the model.
        metrics: The model's metrics.
        on_failure: Called with a reason if forming or settling a batch raises, which only a bug
            can cause. By then every waiting request has its error.
        clock: Monotonic, in seconds.
        background: Whether its batches run only while no other batcher has one for a slot.
        trace_run: Notes a model run for its requests' spans; None without tracing.

    Attributes:
        load: The work of all models that share the engine threads.
        admission: Whether a request can be answered in time.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        labels: int,
        policy: BatchPolicy,
        slots: EngineSlots,
        metrics: ModelMetrics,
        on_failure: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        background: bool = False,
        trace_run: TraceRun | None = None,
    ) -> None:
        self._engine = engine
        self._trace_run = trace_run
        self._labels = labels
        self._policy = policy
        self._slots = slots
        self.load = slots.load
        self._metrics = metrics
        self._on_failure = on_failure
        self._clock = clock
        self._queue = RequestQueue(policy, clock)
        queue = self._queue  # not self: a cycle would keep the engine until the collector runs
        self.admission = Admission(
            self.load,
            pending_tokens=lambda: queue.pending_tokens,
            max_items=policy.max_items,
            clock=clock,
            background=background,
        )
        self._background = background
        self._slot_requested = False
        self._timer: asyncio.TimerHandle | None = None
        self._running_batches = 0
        self._closed: Callable[[], NotReady] | None = None  # makes the error of new requests
        self._drained = asyncio.Event()
        self._gauge_value = 0

    async def submit(self, rows: Sequence[Int32Array], *, deadline: float) -> Submission:
        """Wait until every row has its probabilities or its error.

        Cancelling this call withdraws the items that still wait; the model never sees them.

        Args:
            rows: One row of ids per text of a request, each int32 of shape (length_i,).
            deadline: On the clock of the batcher, in seconds.

        Returns:
            The settled items, in the order of `rows`.

        Raises:
            Overloaded: There is no room for all rows. None was admitted.
            TooLate: They could not be computed by the deadline. None was admitted.
            DeadlineExceeded: The deadline passed before the model could run.
            Draining: The batcher is draining.
            NotReady: The batcher has failed.
        """
        self.require(len(rows), sum(map(len, rows)), deadline=deadline)
        settled = asyncio.get_running_loop().create_future()
        submission = Submission(rows, arrived=self._clock(), deadline=deadline, settled=settled)
        self._queue.enqueue(submission)
        self._update_gauge()
        self._schedule_batch()
        try:
            await settled
        except asyncio.CancelledError:
            self._metrics.cancelled_items.inc(self._queue.remove(submission))
            self._update_gauge()
            self._check_drained()
            raise
        for item in submission.items:
            del item.submission  # break the reference cycle: the collector has less to do
        return submission

    def require(self, count: int, tokens: float, *, deadline: float, size: int = 0) -> None:
        """Raise now what `submit` would, before any work is spent on a request.

        Args:
            count: The number of its texts.
            tokens: Of its texts, known or estimated.
            deadline: On the clock of the batcher, in seconds.
            size: The memory of its texts in bytes, if it is not counted yet.

        Raises:
            Overloaded, TooLate, DeadlineExceeded, Draining, NotReady: As `submit`.
        """
        error = self.refusal(count, tokens, deadline=deadline, size=size)
        if error is not None:
            raise error

    def refusal(
        self, count: int, tokens: float, *, deadline: float, size: int = 0
    ) -> ValenceError | None:
        """What `require` would raise."""
        if self._closed is not None:
            return self._closed()
        error = self._refusal(count, tokens, deadline, size)
        if error is not None:
            self.load.refused_at = self._clock()
        return error

    def _refusal(
        self, count: int, tokens: float, deadline: float, size: int
    ) -> ValenceError | None:
        waiting_bytes = self.load.waiting_bytes
        if not self._queue.has_room(count):
            return self._full(
                f"the queue holds {len(self._queue)} of {self._policy.max_queue_items} texts and "
                f"has no room for {count} more"
            )
        if size and waiting_bytes and waiting_bytes + size > self._policy.max_queue_bytes:
            return self._full(
                f"the texts in the queue take {waiting_bytes} of {self._policy.max_queue_bytes} "
                f"bytes, which leaves no room for {size} more"
            )
        late_s = self.admission.lateness_s(tokens, deadline)
        if late_s <= 0:
            return None
        left_s = deadline - self._clock()
        if left_s <= 0:
            return DeadlineExceeded("the deadline passed before the texts could wait")
        return TooLate(
            f"the answer must be ready within {left_s * 1e3:.0f} ms; with what waits it would "
            f"take about {max(late_s * 1e3, 1):.0f} ms longer",
            retry_after_s=late_s,
        )

    async def drain(self) -> None:
        """Admit no new rows, answer every admitted one, then stop. It may be called again."""
        if self._closed is None:
            self._closed = partial(Draining, "the model is being stopped")
            self._schedule_batch()
            self._check_drained()
        await self._drained.wait()

    def fail(self, reason: str, abandoned: Sequence[Submission] = ()) -> None:
        """Close for good: every request that waits gets an error, and so does every later one.

        Args:
            reason: The message of the error.
            abandoned: Requests that no longer wait and get the error too.
        """
        self._closed = partial(NotReady, reason)
        for submission in (*self._queue.close(), *abandoned):
            if not submission.settled.done():
                submission.settled.set_exception(NotReady(reason))
        self._update_gauge()
        self._check_drained()

    def _full(self, rule: str) -> Overloaded:
        return Overloaded(rule, retry_after_s=self.admission.wait_s(0))

    def _schedule_batch(self, now: float | None = None) -> None:
        """Request a slot if a batch may leave; else set a timer for when the next one may."""
        if self._slot_requested:
            return
        due = self._queue.next_batch_at()
        if due is None:
            return
        delay_s = 0.0
        if self._policy.max_queue_delay_s and self._closed is None:
            delay_s = due - (self._clock() if now is None else now)
        if delay_s <= 0:
            self._slot_requested = True
            self._slots.request(self._start_batch, background=self._background)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer, due)

    def _on_timer(self, due: float) -> None:
        """The time `due` has come; the items that waited for it may have left already."""
        self._timer = None
        self._schedule_batch(max(due, self._clock()))

    def _start_batch(self) -> None:
        """Take a batch and run it on the slot that was granted."""
        self._slot_requested = False
        batch: list[Item] = []
        try:
            batch = self._take_batch()
            if batch:
                self._run(batch, [])
                self._running_batches += 1
        except Exception as error:  # noqa: BLE001 every waiting request must get an error
            self._slots.release()
            self._fail(error, batch)
            return
        if batch:
            self._schedule_batch()
        else:
            self._slots.release()
            self._check_drained()

    def _take_batch(self) -> list[Item]:
        """The next batch; empty if all waiting items have expired or left."""
        admission = self.admission
        batch, expired = self._queue.take_batch(
            pace=admission.pace, best_pace=admission.best_pace(self._clock())
        )
        self._update_gauge()
        for submission, count in expired:
            self._metrics.cancelled_items.inc(count)
            if not submission.settled.done():
                submission.settled.set_exception(
                    DeadlineExceeded("the deadline would pass before the text is computed")
                )
        return batch

    def _run(self, batch: list[Item], rest: list[list[Item]]) -> None:
        """Run the model once on a granted slot; for `rest` see `_finish`."""
        engine, labels = self._engine, self._labels
        rows = [item.ids for item in batch]
        run = self.admission.begin(sum(map(len, rows)), len(rows))
        self._slots.run(
            lambda: infer(engine, rows, labels=labels).tolist(),
            partial(self._finish, batch, rest, run),
        )

    def _finish(
        self,
        batch: list[Item],
        rest: list[list[Item]],
        run: Run,
        probabilities: list[list[float]],
        error: BaseException | None,
    ) -> None:
        """After a run: settle its items; or, if a batch failed, run its halves.

        Args:
            batch: The items of the run.
            rest: The parts of a failed batch that are still to be run, the next one last.
            run: The run, in the work of the process.
            probabilities: The model's output, of shape (rows, labels), unless it failed.
            error: Why it failed; `DeadlineExceeded` if it was given up.
        """
        seconds = self.admission.end(run, learn=error is None)
        if error is not None and _can_halve(batch, error):
            middle = len(batch) // 2
            rest += (batch[middle:], batch[:middle])
        else:
            try:
                self._settle_run(batch, seconds, probabilities, error)
            except Exception as bug:  # noqa: BLE001 every waiting request must get an error
                self._fail(bug, [*batch, *(item for part in rest for item in part)])
        self._run_next(rest)

    def _run_next(self, rest: list[list[Item]]) -> None:
        """Run the next part of a failed batch on the same slot; after the last, free the slot."""
        while rest:
            part = []
            for item in rest.pop():
                if item.submission.settled.done() and not self._queue.followers(item):
                    self._queue.finish(item)  # its caller has left
                else:
                    part.append(item)
            if part:
                self._run(part, rest)
                return
        self._end_run()

    def _settle_run(
        self,
        batch: list[Item],
        seconds: float,
        probabilities: list[list[float]],
        error: BaseException | None,
    ) -> None:
        """Settle the items of a run: each with its row, or all with the error."""
        if error is None:
            self._observe(batch, seconds)
            for item, row in zip(batch, probabilities, strict=True):
                self._settle(item, seconds, row, None)
            return
        if isinstance(error, DeadlineExceeded):
            for item in batch:
                self._settle(item, seconds, None, error)
            return
        for item in batch:
            logger.error(
                "the model failed on a text",
                extra={"model": self._metrics.name, "length": item.length}
                | describe_exception(error),
            )
            self._settle(item, 0.0, None, InferenceFailed("the model failed on this text"))

    def _observe(self, batch: list[Item], seconds: float) -> None:
        """Count one run in the metrics."""
        count = len(batch)
        lengths = [item.length for item in batch]
        real = sum(lengths)
        metrics = self._metrics
        metrics.inference_seconds.observe(seconds)
        metrics.batch_items.observe(count)
        metrics.real_tokens.inc(real)
        padded = max(lengths) * count - real
        metrics.padded_tokens.inc(padded)
        if self._trace_run is not None and not self._background:
            run = self._trace_run(metrics.name, count, real, padded, seconds)
            for item in batch:
                for each in (item, *self._queue.followers(item)):
                    runs = each.submission.runs
                    if not runs or runs[-1] is not run:
                        each.submission.runs = [*runs, run]

    def _settle(
        self,
        item: Item,
        seconds: float,
        probabilities: list[float] | None,
        error: ValenceError | None,
    ) -> None:
        """Give an item and its followers their result, and wake each request that is complete."""
        followers = self._queue.finish(item)
        if followers:
            self._metrics.shared_items.inc(len(followers))
        for each in (item, *followers):
            each.probabilities = probabilities
            each.error = error
            submission = each.submission
            if not self._background:  # what may wait says nothing about how long texts wait
                self._metrics.queue_delay_seconds.observe(each.taken_at - submission.arrived)
            if seconds > submission.inference_s:
                submission.inference_s = seconds
            submission.unsettled -= 1
            if submission.unsettled == 0 and not submission.settled.done():
                submission.settled.set_result(None)

    def _end_run(self) -> None:
        """Free the slot."""
        self._running_batches -= 1
        self._update_gauge()  # the followers of the run wait no longer
        self._slots.release()
        self._check_drained()

    def _check_drained(self) -> None:
        """Wake `drain` if the last admitted item has its result."""
        if self._closed is not None and not self._running_batches and not len(self._queue):
            self._drained.set()
            self.admission.close()

    def _update_gauge(self) -> None:
        """Update `queue_items`. The versions of a model share it, so it is changed by steps."""
        if self._background:
            return
        waiting = len(self._queue)
        if waiting != self._gauge_value:
            self._metrics.queue_items.inc(waiting - self._gauge_value)
            self._gauge_value = waiting

    def _fail(self, error: Exception, batch: Sequence[Item] = ()) -> None:
        """Close after a bug, with an error for every request that waits or is in the batch."""
        reason = f"the batcher of the model {self._metrics.name} has failed"
        logger.critical(reason, extra=describe_exception(error))
        abandoned = [item.submission for item in batch]
        for item in batch:
            abandoned += [follower.submission for follower in self._queue.followers(item)]
        self.fail(reason, abandoned)
        self._on_failure(reason)


def _can_halve(batch: Sequence[Item], error: BaseException) -> bool:
    """Whether some items of a failed batch may succeed without the others."""
    return len(batch) > 1 and not isinstance(error, DeadlineExceeded)
