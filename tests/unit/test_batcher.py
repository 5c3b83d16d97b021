"""The promises of the batcher, numbered 1 to 7."""

import asyncio
import contextlib
import gc
import math
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from app.errors import DeadlineExceeded, Draining, InferenceFailed, NotReady, Overloaded, TooLate
from app.serving.batcher import Batcher
from app.serving.request_queue import BatchPolicy, Submission
from app.serving.slots import EngineSlots
from app.telemetry.metrics import Metrics
from tests.fakes import BAD, BROKEN, FILM, GOOD, POISON, FakeEngine, ManualClock, sample, until

pytestmark = pytest.mark.anyio


class Bench:
    """A batcher on a fake engine, with a manual clock and metrics of its own."""

    def __init__(self, *, slots: int = 1, background: bool = False, **policy: Any) -> None:
        self.engine = FakeEngine()
        self.holds = 0
        self.failures: list[str] = []
        self.clock = ManualClock()
        self.metrics = Metrics()
        defaults = {
            "max_items": 4,
            "max_tokens": 10_000,
            "max_queue_delay_s": 0.0,
            "max_queue_items": 100,
        }
        self.slots = EngineSlots(slots)
        self.batcher = Batcher(
            self.engine,
            labels=2,
            policy=BatchPolicy(**(defaults | policy)),
            slots=self.slots,
            metrics=self.metrics.for_model("fake"),
            on_failure=self.failures.append,
            clock=self.clock,
            background=background,
        )

    def submit(self, *rows: Sequence[int], deadline: float = math.inf) -> asyncio.Task[Submission]:
        """Submit rows of ids."""
        arrays = [np.array(row, dtype=np.int32) for row in rows]
        return asyncio.create_task(self.batcher.submit(arrays, deadline=deadline))

    async def hold(self) -> asyncio.Task[Submission]:
        """Occupy an engine slot with a text until the gate is opened."""
        self.engine.gate.clear()
        self.holds += 1
        first = self.submit([FILM] * self.holds)
        await self.engine.wait_until_running()
        return first

    async def until_waiting(self, count: int) -> None:
        """Wait until so many items are in the queue."""
        await until(lambda: self.sample("queue_items") == count)
        await asyncio.sleep(0)  # the event loop has handled them

    def sample(self, name: str, **labels: str) -> float | None:
        """The value of one series."""
        return sample(self.metrics, name, model="fake", **labels)


MakeBench = Callable[..., Bench]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    """Make batchers, which are drained after the test."""

    @asynccontextmanager
    async def drained(bench: Bench) -> AsyncIterator[None]:
        yield
        bench.engine.gate.set()
        await bench.batcher.drain()
        bench.slots.close()

    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield make
    for bench in benches:
        async with drained(bench):
            pass


def positives(submission: Submission) -> list[bool]:
    """For each item, whether its text is more good than bad."""
    return [
        item.probabilities is not None and item.probabilities[1] > 0.5 for item in submission.items
    ]


async def test_idle_engine_takes_a_lone_item(make_bench: MakeBench) -> None:
    """1. Without a queue delay a lone item leaves at once."""
    bench = make_bench()
    assert positives(await bench.submit([GOOD])) == [True]
    assert bench.engine.batches == [[[GOOD]]]


async def test_full_batch_does_not_wait(make_bench: MakeBench) -> None:
    """1. A full batch leaves at once, whatever the queue delay."""
    bench = make_bench(max_items=2, max_queue_delay_s=1e6)
    await asyncio.gather(bench.submit([GOOD]), bench.submit([BAD]))
    assert bench.engine.batches == [[[GOOD], [BAD]]]


async def test_lone_item_waits_for_the_delay(make_bench: MakeBench) -> None:
    """1. A lone item leaves after the queue delay, with the items that arrived meanwhile."""
    bench = make_bench(max_queue_delay_s=10.0)
    first = bench.submit([GOOD])
    await bench.until_waiting(1)
    bench.clock.advance(10)
    second = bench.submit([BAD])
    await asyncio.gather(first, second)
    assert bench.engine.batches == [[[GOOD], [BAD]]]


async def test_delay_needs_no_further_item(make_bench: MakeBench) -> None:
    """1. A lone item leaves after the queue delay even if no other arrives."""
    bench = make_bench(max_queue_delay_s=0.001)
    assert positives(await bench.submit([GOOD])) == [True]


async def test_batch_grows_while_the_engine_is_busy(make_bench: MakeBench) -> None:
    """1. Items that arrive while the engine is busy leave as one batch when it is free."""
    bench = make_bench()
    first = await bench.hold()
    others = [bench.submit([GOOD]), bench.submit([BAD]), bench.submit([FILM, GOOD])]
    await bench.until_waiting(3)
    bench.engine.gate.set()
    await asyncio.gather(first, *others)
    assert bench.engine.batches == [[[FILM]], [[GOOD], [BAD], [FILM, GOOD]]]


async def test_results_belong_to_their_items(make_bench: MakeBench) -> None:
    """2. Result i belongs to item i, across batches."""
    bench = make_bench(max_items=3)
    signs = [n % 3 == 0 for n in range(20)]
    rows = [[GOOD if sign else BAD] * (n + 1) for n, sign in enumerate(signs)]
    assert positives(await bench.submit(*rows)) == signs
    assert len(bench.engine.batches) >= 7


async def test_wrong_number_of_rows(make_bench: MakeBench) -> None:
    """2. An output of another shape is an error for every item; no result moves to another item."""
    bench = make_bench()
    bench.engine.columns = 1
    submission = await bench.submit([GOOD], [BAD])
    assert [type(item.error) for item in submission.items] == [InferenceFailed, InferenceFailed]


async def test_full_queue_refuses_at_once(make_bench: MakeBench) -> None:
    """3. A full queue rejects all texts of a request at once, and says when to retry."""
    bench = make_bench(max_queue_items=2)
    first = await bench.hold()
    second = bench.submit([GOOD])
    await bench.until_waiting(1)
    with pytest.raises(Overloaded) as rejection:
        await bench.submit([GOOD], [BAD])
    assert "1 of 2" in str(rejection.value)
    assert bench.sample("queue_items") == 1
    bench.engine.gate.set()
    await asyncio.gather(first, second)


async def test_retry_after(make_bench: MakeBench) -> None:
    """3. Retry-After is the time that the waiting texts are expected to take."""
    bench = make_bench(max_queue_items=2)
    first = await bench.hold()
    bench.clock.advance(10)
    bench.engine.gate.set()
    await first
    held = await bench.hold()
    others = bench.submit([GOOD] * 5, [BAD])
    await bench.until_waiting(2)
    with pytest.raises(Overloaded) as rejection:
        await bench.submit([GOOD])
    assert rejection.value.retry_after_s == bench.batcher.admission.wait_s(0) > 0
    bench.engine.gate.set()
    await asyncio.gather(held, others)


async def test_too_late(make_bench: MakeBench) -> None:
    """3. A text that cannot be computed by its deadline is refused at once."""
    bench = make_bench()
    first = await bench.hold()
    bench.clock.advance(10)
    bench.engine.gate.set()
    await first
    second = await bench.hold()
    with pytest.raises(TooLate) as rejection:
        await bench.submit([GOOD] * 100, deadline=bench.clock.now + 1)
    assert "within 1000 ms" in str(rejection.value)
    bench.engine.gate.set()
    await second


async def test_require(make_bench: MakeBench) -> None:
    """3. `require` raises what `submit` would, before any text is tokenized."""
    bench = make_bench(max_queue_items=2)
    bench.batcher.require(2, 9, deadline=math.inf)
    with pytest.raises(Overloaded):
        bench.batcher.require(3, 9, deadline=math.inf)
    await bench.batcher.drain()
    with pytest.raises(Draining):
        bench.batcher.require(1, 9, deadline=math.inf)


@pytest.mark.parametrize(
    ("waiting", "size", "fits"), [(0, 9999, True), (1, 99, True), (1, 100, False)]
)
async def test_bytes_are_bounded(
    make_bench: MakeBench, waiting: int, size: int, fits: bool
) -> None:
    """3. The texts that wait are bounded in bytes; alone, a request of any size is admitted."""
    bench = make_bench(max_queue_bytes=100)
    bench.batcher.load.waiting_bytes = waiting
    with contextlib.nullcontext() if fits else pytest.raises(Overloaded, match="1 of 100 bytes"):
        bench.batcher.require(1, 9, deadline=math.inf, size=size)


async def test_expired_item_does_not_run(make_bench: MakeBench) -> None:
    """3. An item past its deadline fails without running."""
    bench = make_bench()
    first = await bench.hold()
    late = bench.submit([BAD], deadline=bench.clock.now + 5)
    await bench.until_waiting(1)
    bench.clock.advance(5)
    bench.engine.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await first
    assert bench.engine.batches == [[[FILM]]]


async def test_cancelled_while_waiting(make_bench: MakeBench) -> None:
    """4. An item cancelled while it waits neither reaches the model nor disturbs the batch."""
    bench = make_bench()
    first = await bench.hold()
    before, leaving, after = bench.submit([GOOD]), bench.submit([BAD]), bench.submit([GOOD, FILM])
    await bench.until_waiting(3)
    leaving.cancel()
    await asyncio.wait([leaving])
    bench.engine.gate.set()
    await asyncio.gather(first, before, after)
    assert bench.engine.batches[1] == [[GOOD], [GOOD, FILM]]
    assert bench.sample("cancelled_items_total") == 1


async def test_cancelled_while_running(make_bench: MakeBench) -> None:
    """4. An item cancelled while the model runs leaves its neighbours' results untouched."""
    bench = make_bench(max_items=2)
    first = await bench.hold()
    leaving, staying = bench.submit([BAD]), bench.submit([GOOD])
    await bench.until_waiting(2)
    bench.engine.gate.set()
    await first
    await bench.engine.wait_until_running()
    leaving.cancel()
    assert positives(await staying) == [True]


async def test_failing_item_fails_alone(make_bench: MakeBench) -> None:
    """4. A failed batch is run again in halves, until an item fails alone."""
    bench = make_bench()
    first = await bench.hold()
    others = [bench.submit([GOOD]), bench.submit([POISON]), bench.submit([GOOD])]
    await bench.until_waiting(3)
    bench.engine.gate.set()
    good, poison, also_good = [task.items[0] for task in await asyncio.gather(*others)]
    assert isinstance(poison.error, InferenceFailed)
    assert good.probabilities is not None
    assert also_good.probabilities is not None
    assert "SECRET" not in str(poison.error)
    await first


async def cancel_in_a_failing_batch(
    bench: Bench, *others: Sequence[int]
) -> list[asyncio.Task[Submission]]:
    """Run a failing item with one that is cancelled during the run; returns the other tasks."""
    first = await bench.hold()
    bench.engine.closes_behind = True
    failing, cancelled, *tasks = (bench.submit(row) for row in ([POISON], [GOOD], *others))
    await bench.until_waiting(2 + len(others))
    bench.engine.gate.set()
    await first
    await bench.engine.wait_until_running()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    bench.engine.closes_behind = False
    bench.engine.gate.set()
    await failing
    return tasks


async def test_cancelled_in_a_failing_batch(make_bench: MakeBench) -> None:
    """4. A cancelled item of a failed batch is not run again."""
    bench = make_bench()
    await cancel_in_a_failing_batch(bench)
    assert bench.engine.batches[1:] == [[[POISON], [GOOD]], [[POISON]]]


async def test_follower_in_a_failing_batch(make_bench: MakeBench) -> None:
    """4. A cancelled item of a failed batch is run again if another item follows it."""
    bench = make_bench()
    (follower,) = await cancel_in_a_failing_batch(bench, [GOOD])
    assert positives(await follower) == [True]
    assert bench.sample("queue_items") == 0


async def test_failed_batch_leaves_the_next_alone(make_bench: MakeBench) -> None:
    """4. A failed batch does not affect the next one."""
    bench = make_bench()
    poison = await bench.submit([POISON])
    assert isinstance(poison.items[0].error, InferenceFailed)
    assert positives(await bench.submit([GOOD])) == [True]


async def test_non_finite_answer(make_bench: MakeBench) -> None:
    """4. NaN fails its own item, not its neighbours."""
    bench = make_bench()
    submission = await bench.submit([GOOD], [BROKEN])
    good, broken = submission.items
    assert good.probabilities is not None
    assert isinstance(broken.error, InferenceFailed)


async def test_similar_lengths_go_together(make_bench: MakeBench) -> None:
    """5. Items of similar length go together; padding is counted."""
    bench = make_bench(max_items=2)
    first = await bench.hold()
    rest = bench.submit([GOOD], [BAD] * 90, [GOOD] * 2, [BAD] * 88)
    await bench.until_waiting(4)
    bench.engine.gate.set()
    await asyncio.gather(first, rest)
    sizes = [[len(row) for row in batch] for batch in bench.engine.batches]
    assert [1, 90] not in sizes
    assert bench.sample("batch_tokens_total", kind="padded") == 3


async def test_result_does_not_depend_on_neighbours(make_bench: MakeBench) -> None:
    """5. An item gets the same result alone and in any batch."""
    bench = make_bench(max_items=8)
    alone = (await bench.submit([GOOD, FILM])).items[0].probabilities
    together = await bench.submit([BAD] * 9, [GOOD, FILM], [GOOD] * 5, [FILM])
    assert together.items[1].probabilities == alone


async def test_equal_items_are_computed_once(make_bench: MakeBench) -> None:
    """Equal items in flight get one computed result, and are counted as shared."""
    bench = make_bench()
    first = await bench.hold()
    others = bench.submit([GOOD], [BAD], [GOOD], [FILM])
    await bench.until_waiting(4)
    bench.engine.gate.set()
    await asyncio.gather(first, others)
    assert bench.engine.batches == [[[FILM]], [[GOOD], [BAD]]]
    assert bench.sample("shared_items_total") == 2
    assert bench.sample("batch_items_sum") == 3


async def test_event_loop_stays_free(make_bench: MakeBench) -> None:
    """6. The event loop is free while the model runs."""
    bench = make_bench()
    first = await bench.hold()
    assert not first.done()
    bench.engine.gate.set()
    await first


async def test_several_slots(make_bench: MakeBench) -> None:
    """6. As many batches run at once as there are engine slots."""
    bench = make_bench(slots=2, max_items=1)
    bench.engine.gate.clear()
    tasks = [bench.submit([word]) for word in (GOOD, BAD, FILM)]
    await bench.engine.wait_until_running()
    await bench.engine.wait_until_running()
    await bench.until_waiting(1)
    assert len(bench.engine.batches) == 2
    bench.engine.gate.set()
    await asyncio.gather(*tasks)


async def test_bug_in_the_batcher(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """6. If the batcher raises, all requests get an error, later ones too, and it is reported."""
    bench = make_bench()
    first = await bench.hold()
    waiting = bench.submit([GOOD])
    await bench.until_waiting(1)

    def break_down(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.serving.request_queue.choose_batch", break_down)
    bench.engine.gate.set()
    assert positives(await first) == [False]
    with pytest.raises(NotReady, match="has failed"):
        await waiting
    with pytest.raises(NotReady, match="has failed"):
        await bench.submit([GOOD])
    assert len(bench.failures) == 1


async def test_no_thread_to_run_on(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """6. If no thread can be started, all requests get an error, and it is reported."""
    bench = make_bench()

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    waiting = bench.submit([GOOD])
    with pytest.raises(NotReady, match="has failed"):
        await waiting
    assert len(bench.failures) == 1


async def test_drain_answers_what_was_admitted(make_bench: MakeBench) -> None:
    """7. drain() rejects new items, answers every admitted one, then stops."""
    bench = make_bench(max_queue_delay_s=1e6)
    admitted = bench.submit([GOOD], [BAD], [GOOD])
    await bench.until_waiting(3)
    draining = asyncio.create_task(bench.batcher.drain())
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await bench.submit([GOOD])
    await draining
    assert positives(await admitted) == [True, False, True]


async def test_drain_waits_for_the_running_batch(make_bench: MakeBench) -> None:
    """7. drain() returns after the last batch, not before."""
    bench = make_bench()
    first = await bench.hold()
    draining = asyncio.create_task(bench.batcher.drain())
    await asyncio.sleep(0)
    with pytest.raises(Draining):  # drain() has begun
        bench.batcher.require(1, 9, deadline=math.inf)
    assert not draining.done()
    bench.engine.gate.set()
    await draining
    assert positives(await first) == [False]


async def test_drain_twice(make_bench: MakeBench) -> None:
    """7. drain() may be called again, at the same time or later."""
    bench = make_bench()
    await asyncio.gather(bench.batcher.drain(), bench.batcher.drain())
    await bench.batcher.drain()
    with pytest.raises(Draining):
        await bench.submit([GOOD])


async def test_models_share_the_slots() -> None:
    """Models share an engine slot; none keeps it while idle."""
    one = Bench()
    two = Bench()
    two.batcher._slots = one.slots
    assert positives(await one.submit([GOOD])) == [True]
    assert positives(await two.submit([GOOD])) == [True]
    for bench in (one, two):
        await bench.batcher.drain()
    one.slots.close()


async def test_released_engine_is_freed(make_bench: MakeBench) -> None:
    """Nothing but the batcher keeps an engine alive: its memory is free without the collector."""
    bench = make_bench()
    await bench.submit([GOOD], [BAD])
    await bench.batcher.drain()
    gone = weakref.ref(bench.engine)
    gc.disable()
    try:
        del bench.engine, bench.batcher
        await until(lambda: gone() is None)  # the thread drops what it has run
    finally:
        gc.enable()
        bench.engine, bench.batcher = FakeEngine(), Bench().batcher


@pytest.mark.parametrize(("background", "delays"), [(False, 1), (True, 0)])
async def test_what_may_wait_is_not_in_the_queue_delay(
    make_bench: MakeBench, background: bool, delays: int
) -> None:
    """Autoscalers look at the delay of texts, so that of explanations is not among them."""
    bench = make_bench(background=background)
    await bench.submit([GOOD])
    assert bench.sample("queue_delay_seconds_count") == delays
    assert bench.sample("batch_items_count") == 1
