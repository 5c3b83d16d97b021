"""Properties of the queue that hold for any sequence of operations."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from app.serving.request_queue import BatchPolicy, Item, RequestQueue, Submission
from app.serving.shapes import FREE_PADDING, LEAST_FILL
from tests.fakes import ManualClock

FOREVER: Final = 1e9
NO_FUTURE: Any = None  # the queue never touches the future of a request

# Few words and lengths, so that many rows are equal, and some lengths fit into one batch.
rows = st.tuples(st.integers(0, 2), st.sampled_from([1, 3, 40, 42, 100]))


def to_row(row: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    word, length = row
    return np.full(length, word, dtype=np.int32)


class QueueMachine(RuleBasedStateMachine):
    """Every operation, compared with a simple model of the queue.

    The model has no FIFO and no leaders. It knows which items wait, which run, and in which order
    the different rows arrived.
    """

    queue: RequestQueue

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.admitted: list[Submission] = []
        self.waiting: dict[Item, None] = {}
        self.running: dict[bytes, Item] = {}
        self.ended: Counter[Item] = Counter()  # with a result, or removed
        self.order: dict[bytes, None] = {}  # rows waiting for a batch, oldest first
        self.has_order = True  # until a request is longer than a batch

    @initialize(
        max_items=st.integers(1, 4),
        max_tokens=st.sampled_from([50, 200, 1000]),
        max_queue_items=st.integers(4, 24),
    )
    def start(self, max_items: int, max_tokens: int, max_queue_items: int) -> None:
        self.policy = BatchPolicy(max_items, max_tokens, 0.0, max_queue_items)
        self.queue = RequestQueue(self.policy, self.clock)

    def count_waiting(self, submission: Submission) -> int:
        return sum(item in self.waiting for item in submission.items)

    def end(self, items: Iterable[Item]) -> None:
        """These items have a result or are removed."""
        for item in items:
            self.waiting.pop(item, None)
            self.ended[item] += 1
        keys = {item.key for item in self.waiting}
        self.order = {key: None for key in self.order if key in keys}
        self.has_order |= not self.order

    def end_waiting(self, submission: Submission) -> None:
        """The waiting items of a request are removed."""
        self.end([item for item in submission.items if item in self.waiting])

    @rule(
        texts=st.lists(rows, min_size=1, max_size=10),
        patience=st.sampled_from([2, 5, FOREVER]),
    )
    def enqueue(self, texts: list[tuple[int, int]], patience: float) -> None:
        """A request is admitted whole, or rejected if there is no room for it."""
        submission = Submission(
            [to_row(text) for text in texts],
            arrived=self.clock(),
            deadline=self.clock() + patience,
            settled=NO_FUTURE,
        )
        has_room = len(self.waiting) + len(texts) <= self.policy.max_queue_items
        assert self.queue.has_room(len(texts)) == has_room
        assert self.queue.enqueue(submission) == has_room
        if not has_room:
            return
        self.admitted.append(submission)
        self.waiting |= dict.fromkeys(submission.items)
        self.has_order &= len(texts) <= self.policy.max_items
        self.order |= {item.key: None for item in submission.items if item.key not in self.running}

    @rule(seconds=st.integers(1, 3))
    def advance(self, seconds: int) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def take_batch(self) -> None:
        """The oldest is taken; limits hold; late items are returned; equal items run once."""
        late = {
            submission: self.count_waiting(submission)
            for submission in self.admitted
            if submission.deadline <= self.clock() and self.count_waiting(submission)
        }
        batch, expired = self.queue.take_batch()
        assert dict(expired) == late
        for submission in late:
            self.end_waiting(submission)
        assert bool(batch) == bool(self.order)
        assert all(item in self.waiting for item in batch)
        keys = {item.key for item in batch}
        assert len(keys) == len(batch)
        assert not keys & self.running.keys()
        if batch:
            self.check_limits([item.length for item in batch])
        if batch and self.has_order:
            assert batch[0].key == next(iter(self.order))
        for item in batch:
            del self.waiting[item], self.order[item.key]
            self.running[item.key] = item
        self.has_order |= not self.order

    def check_limits(self, lengths: Sequence[int]) -> None:
        """A batch keeps its limits."""
        size = len(lengths)
        padded = max(lengths) * size
        assert size <= self.policy.max_items
        assert size == 1 or padded <= self.policy.max_tokens
        padding = padded - sum(lengths)
        assert padding <= max((1 - LEAST_FILL) * padded, FREE_PADDING * size)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A result goes to every waiting item with an equal row, and to no other."""
        item = self.running.pop(data.draw(st.sampled_from(sorted(self.running)), label="key"))
        followers = self.queue.finish(item)
        equals = [other for other in self.waiting if other.key == item.key]
        assert Counter(followers) == Counter(equals)
        settled = [item, *followers]
        assert all(one.submission.arrived <= one.taken_at <= self.clock() for one in settled)
        self.end(settled)

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Removing a request removes its waiting items and nothing else."""
        place = data.draw(st.integers(0, len(self.admitted) - 1), label="request")
        submission = self.admitted[place]
        assert self.queue.remove(submission) == self.count_waiting(submission)
        self.end_waiting(submission)

    @precondition(lambda self: len(self.waiting) > 6)
    @rule()
    def close(self) -> None:
        """Closing returns every request with waiting items."""
        waiting = [submission for submission in self.admitted if self.count_waiting(submission)]
        assert self.queue.close() == waiting
        for submission in waiting:
            self.end_waiting(submission)

    @invariant()
    def keep_count(self) -> None:
        """The queue knows how many items wait, and whether a batch could leave."""
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting) <= self.policy.max_queue_items
            assert (self.queue.next_batch_at() is None) == (not self.order)

    def teardown(self) -> None:
        """In the end every admitted item has a result or was removed, once."""
        if not hasattr(self, "queue"):
            return
        while self.waiting or self.running:
            self.take_batch()
            for key in list(self.running):
                item = self.running.pop(key)
                self.end([item, *self.queue.finish(item)])
        admitted = [item for submission in self.admitted for item in submission.items]
        assert self.ended == Counter(admitted)
        assert len(self.queue) == 0


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40, derandomize=True)

_words = count()


def distinct(*lengths: int) -> Submission:
    """A request with one text of each length, all different."""
    texts = [to_row((next(_words), length)) for length in lengths]
    return Submission(texts, arrived=0.0, deadline=FOREVER, settled=NO_FUTURE)


def enqueue(queue: RequestQueue, *lengths: int) -> list[Item]:
    submission = distinct(*lengths)
    assert queue.enqueue(submission)
    return submission.items


def finish_all(queue: RequestQueue, batch: Iterable[Item]) -> None:
    for item in batch:
        queue.finish(item)


lengths = st.integers(1, 60)


@settings(derandomize=True)
@given(st.lists(lengths, min_size=1, max_size=20), lengths, st.integers(1, 4))
def test_no_item_starves(line: list[int], stream: int, max_items: int) -> None:
    """An item with p others before it is in one of the next p + 1 batches."""
    queue = RequestQueue(BatchPolicy(max_items, 10_000, 0.0, 100), ManualClock())
    waiting = {item: place for place, length in enumerate(line) for item in enqueue(queue, length)}
    for passed in count():
        while queue.enqueue(distinct(stream)):
            pass  # newer texts of one length, as many as there is room for
        batch = queue.take_batch().batch
        finish_all(queue, batch)
        for item in batch:
            waiting.pop(item, None)
        if not waiting:
            break
        assert passed < min(waiting.values())


@settings(derandomize=True)
@given(
    st.lists(lengths, min_size=4, max_size=20),
    st.lists(lengths, min_size=0, max_size=20),
    lengths,
    st.integers(1, 3),
)
def test_no_long_request_starves(
    texts: list[int], others: list[int], stream: int, max_items: int
) -> None:
    """The items of a long request leave within the documented bound, whatever else arrives."""
    room = 40
    queue = RequestQueue(BatchPolicy(max_items, 10_000, 0.0, room), ManualClock())
    if others:
        enqueue(queue, *others)
    due = sorted(enqueue(queue, *texts), key=lambda item: -item.length)
    within = {
        item: (max(0, place - max_items) // max_items + 2) * room for place, item in enumerate(due)
    }
    for batches in count(1):
        while queue.enqueue(distinct(stream)):
            pass
        batch = queue.take_batch().batch
        finish_all(queue, batch)
        for item in batch:
            within.pop(item, None)
        if not within:
            break
        assert batches < min(within.values())
