"""Batches from the queue: order, limits, long requests, and equal items."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.request_queue import BatchPolicy, RequestQueue, Submission
from tests.fakes import ManualClock

FOREVER = 1e9
_WORDS = count()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make_queue(clock: ManualClock, **policy: Any) -> RequestQueue:
    defaults = {
        "max_items": 4,
        "max_tokens": 10_000,
        "max_queue_delay_s": 0.0,
        "max_queue_items": 100,
    }
    return RequestQueue(BatchPolicy(**(defaults | policy)), clock)


def request(clock: ManualClock, *lengths: int, deadline: float = FOREVER) -> Submission:
    """A request with one text of each length, all different."""
    return texts(clock, *((next(_WORDS), length) for length in lengths), deadline=deadline)


def texts(clock: ManualClock, *words: tuple[int, int], deadline: float = FOREVER) -> Submission:
    """A request with texts that repeat one word."""
    rows = [np.full(length, word, dtype=np.int32) for word, length in words]
    settled: Any = None  # the queue never touches it
    return Submission(rows, arrived=clock(), deadline=deadline, settled=settled)


def enqueue(queue: RequestQueue, *submissions: Submission) -> None:
    assert all(queue.enqueue(submission) for submission in submissions)


def taken(queue: RequestQueue, names: dict[str, Submission]) -> list[str]:
    """The names of the requests in the next batch, in order."""
    name_of = {id(submission): name for name, submission in names.items()}
    return [name_of[id(item.submission)] for item in queue.take_batch().batch]


def drain(queue: RequestQueue, names: dict[str, Submission]) -> list[list[str]]:
    """Every batch until the queue is empty."""
    batches = []
    while len(queue):
        batches.append(taken(queue, names))
    return batches


def test_full_batch_leaves_at_once(clock: ManualClock) -> None:
    """A full batch may leave at once, whatever the queue delay."""
    queue = make_queue(clock, max_queue_delay_s=5.0)
    enqueue(queue, request(clock, 7, 7, 7))
    assert queue.next_batch_at() == clock.now + 5.0
    enqueue(queue, request(clock, 7))
    assert queue.next_batch_at() == clock.now


def test_lone_item_leaves_after_the_delay(clock: ManualClock) -> None:
    """A lone item may leave after the queue delay, counted from the oldest arrival."""
    queue = make_queue(clock, max_queue_delay_s=5.0)
    arrived = clock.now
    enqueue(queue, request(clock, 7))
    clock.advance(3)
    enqueue(queue, request(clock, 7))
    assert queue.next_batch_at() == arrived + 5.0


def test_no_delay(clock: ManualClock) -> None:
    """Without a queue delay a lone item may leave at once."""
    queue = make_queue(clock)
    assert queue.next_batch_at() is None
    enqueue(queue, request(clock, 7))
    assert queue.next_batch_at() == clock.now


def test_first_in_first_out(clock: ManualClock) -> None:
    """Items of one length leave first in, first out."""
    queue = make_queue(clock, max_items=2)
    names = {name: request(clock, 7) for name in "abcd"}
    enqueue(queue, *names.values())
    assert drain(queue, names) == [["a", "b"], ["c", "d"]]


def test_similar_lengths_go_together(clock: ManualClock) -> None:
    """A batch is the oldest item and the items nearest to it in length."""
    queue = make_queue(clock, max_items=2)
    names = {"a": request(clock, 9), "b": request(clock, 200), "c": request(clock, 10)}
    enqueue(queue, *names.values())
    assert drain(queue, names) == [["a", "c"], ["b"]]


def test_oldest_is_never_passed_over(clock: ManualClock) -> None:
    """An item of another length is in the next batch once it is the oldest."""
    queue = make_queue(clock, max_items=2)
    names = {"first": request(clock, 9), "odd": request(clock, 400)}
    enqueue(queue, *names.values())
    batches = []
    for number in range(3):
        names[f"new{number}"] = request(clock, 9)
        enqueue(queue, names[f"new{number}"])
        batches.append(taken(queue, names))
    assert batches[1] == ["odd"]


def test_full_queue_rejects(clock: ManualClock) -> None:
    """A request is admitted whole or not at all; a rejection changes nothing."""
    queue = make_queue(clock, max_queue_items=3)
    enqueue(queue, request(clock, 7, 7))
    assert not queue.enqueue(request(clock, 7, 7))
    assert len(queue) == 2
    enqueue(queue, request(clock, 7))


def test_long_request_is_split(clock: ManualClock) -> None:
    """A long request is split into batches, in order."""
    queue = make_queue(clock, max_items=2)
    many = request(clock, 7, 7, 7, 7, 7)
    enqueue(queue, many)
    items = [queue.take_batch().batch for _ in range(3)]
    assert [item for batch in items for item in batch] == many.items


def test_long_request_does_not_starve_others(clock: ManualClock) -> None:
    """A text behind a long request waits for one batch of it, not for all."""
    queue = make_queue(clock, max_items=2)
    names = {"many": request(clock, *[7] * 8), "one": request(clock, 7)}
    enqueue(queue, *names.values())
    assert drain(queue, names)[1] == ["one", "many"]


def test_others_do_not_starve_a_long_request(clock: ManualClock) -> None:
    """A long request makes progress however many single texts arrive."""
    queue = make_queue(clock, max_items=2)
    names = {"many": request(clock, *[7] * 6)}
    enqueue(queue, names["many"])
    served = 0
    for number in range(8):
        for half in "ab":
            names[f"{number}{half}"] = request(clock, 7)
            enqueue(queue, names[f"{number}{half}"])
        served += taken(queue, names).count("many")
    assert served == 6


def test_long_request_is_sorted(clock: ManualClock) -> None:
    """The texts of a long request leave by length, longest first."""
    queue = make_queue(clock, max_items=2)
    enqueue(queue, request(clock, 9, 380, 400, 10, 11))
    sizes = [[item.length for item in queue.take_batch().batch] for _ in range(3)]
    assert sizes == [[400, 380], [11, 10], [9]]


def test_backlog_fills_empty_rows(clock: ManualClock) -> None:
    """Rows that the FIFO cannot fill with similar lengths go to items of the backlog."""
    queue = make_queue(clock, max_items=2)
    names = {"one": request(clock, 9), "many": request(clock, 10, 300, 200)}
    enqueue(queue, *names.values())
    assert drain(queue, names) == [["one", "many"], ["many"], ["many"]]


def test_expired_item_is_not_taken(clock: ManualClock) -> None:
    """All items of a request past its deadline are returned apart from the batch."""
    queue = make_queue(clock, max_items=2)
    late, fine = request(clock, 7, 7, 7, deadline=clock.now + 1), request(clock, 7)
    enqueue(queue, late, fine)
    clock.advance(1)
    batch, expired = queue.take_batch()
    assert [item.submission for item in batch] == [fine]
    assert expired == [(late, 3)]
    assert len(queue) == 0


def test_removed_items_are_not_taken(clock: ManualClock) -> None:
    """Removed items are never taken, and leave room for others at once."""
    queue = make_queue(clock, max_queue_items=4, max_items=2)
    leaving, staying = request(clock, 7, 7, 7), request(clock, 7)
    enqueue(queue, leaving, staying)
    assert queue.remove(leaving) == 3
    assert queue.remove(leaving) == 0
    assert len(queue) == 1
    assert queue.take_batch().batch == staying.items


def test_partly_taken_request_can_be_removed(clock: ManualClock) -> None:
    """Removing a request whose first items already run removes the others."""
    queue = make_queue(clock, max_items=2)
    many = request(clock, *[7] * 5)
    enqueue(queue, many)
    queue.take_batch()
    assert queue.remove(many) == 3
    assert queue.take_batch() == ([], [])


def test_close_returns_every_request(clock: ManualClock) -> None:
    """Closing empties the queue and returns the waiting requests."""
    queue = make_queue(clock)
    submissions = [request(clock, 7), request(clock, *[7] * 9)]
    enqueue(queue, *submissions)
    assert queue.close() == submissions
    assert len(queue) == 0


A, B, C = (-1, 7), (-2, 7), (-3, 7)
"""Three different texts of one length."""


def test_equal_texts_are_computed_once(clock: ManualClock) -> None:
    """Texts equal to a waiting one need no row in a batch; they share its result."""
    queue = make_queue(clock)
    one, other = texts(clock, A, A), texts(clock, B, A)
    enqueue(queue, one, other)
    batch = queue.take_batch().batch
    assert batch == [one.items[0], other.items[0]]
    assert queue.finish(batch[0]) == [one.items[1], other.items[1]]
    assert queue.finish(batch[1]) == []
    assert len(queue) == 0


def test_equal_to_a_running_text(clock: ManualClock) -> None:
    """A text equal to a running one shares its result and waits for no batch."""
    queue = make_queue(clock)
    enqueue(queue, texts(clock, A))
    (leader,) = queue.take_batch().batch
    clock.advance(2)
    late = texts(clock, A)
    enqueue(queue, late)
    assert queue.next_batch_at() is None
    assert queue.take_batch().batch == []
    assert queue.finish(leader) == late.items
    assert late.queue_delay_s == 0


def test_follower_leaves_with_its_leader(clock: ManualClock) -> None:
    """A follower waits in the queue as long as its leader."""
    queue = make_queue(clock)
    enqueue(queue, texts(clock, A))
    clock.advance(2)
    follower = texts(clock, A)
    enqueue(queue, follower)
    clock.advance(3)
    queue.take_batch()
    assert follower.queue_delay_s == 3


def test_results_are_not_kept(clock: ManualClock) -> None:
    """After `finish` an equal text is computed again."""
    queue = make_queue(clock)
    for submission in (texts(clock, A), texts(clock, A)):
        enqueue(queue, submission)
        assert queue.take_batch().batch == submission.items
        queue.finish(submission.items[0])


def test_followers_count_as_waiting(clock: ManualClock) -> None:
    """Followers count towards the limit, also while their leader runs: they take memory."""
    queue = make_queue(clock, max_queue_items=3)
    enqueue(queue, texts(clock, A), texts(clock, A, A))
    assert not queue.has_room(1)
    (leader,) = queue.take_batch().batch
    assert len(queue) == 2
    assert not queue.enqueue(texts(clock, A, A))
    queue.finish(leader)
    assert queue.has_room(3)


def test_removed_leader_hands_over_its_place(clock: ManualClock) -> None:
    """When a waiting leader is removed, its first follower gets the same place."""
    queue = make_queue(clock, max_items=1)
    leaving, heir, last = texts(clock, A, A), texts(clock, A), texts(clock, A)
    enqueue(queue, leaving, texts(clock, B), heir, last)
    assert queue.remove(leaving) == 2
    assert queue.take_batch().batch == heir.items
    assert queue.finish(heir.items[0]) == last.items


def test_leaders_are_removed_one_by_one(clock: ManualClock) -> None:
    """A text is computed as long as one request waits for it."""
    queue = make_queue(clock)
    callers = [texts(clock, A) for _ in range(4)]
    enqueue(queue, *callers)
    for caller in (callers[0], callers[2], callers[1]):
        assert queue.remove(caller) == 1
    assert queue.take_batch().batch == callers[3].items
    assert queue.finish(callers[3].items[0]) == []


def test_removed_leader_that_runs(clock: ManualClock) -> None:
    """A leader that runs gives its result to its followers even if its request is removed."""
    queue = make_queue(clock)
    leaving, staying, later = texts(clock, A), texts(clock, A), texts(clock, A)
    enqueue(queue, leaving, staying)
    queue.take_batch()
    assert queue.remove(leaving) == 0
    enqueue(queue, later)
    assert queue.finish(leaving.items[0]) == staying.items + later.items


def test_removed_follower(clock: ManualClock) -> None:
    """A removed follower gets no result, whether its leader waits or runs."""
    queue = make_queue(clock)
    leader, first, second = texts(clock, A), texts(clock, A), texts(clock, A)
    enqueue(queue, leader, first, second)
    assert queue.remove(first) == 1
    queue.take_batch()
    assert queue.remove(second) == 1
    assert queue.finish(leader.items[0]) == []


def test_follower_expires(clock: ManualClock) -> None:
    """A follower has its own deadline, not that of its leader."""
    queue = make_queue(clock)
    leader, late = texts(clock, A), texts(clock, A, deadline=clock.now + 1)
    enqueue(queue, leader, late)
    clock.advance(1)
    assert queue.take_batch() == (leader.items, [(late, 1)])


def test_close_returns_followers(clock: ManualClock) -> None:
    """Closing returns requests that only follow; running items are left to run."""
    queue = make_queue(clock)
    enqueue(queue, texts(clock, A))
    (leader,) = queue.take_batch().batch
    follower = texts(clock, A)
    enqueue(queue, follower)
    assert queue.close() == [follower]
    assert queue.finish(leader) == []


def test_single_text_takes_over_from_a_backlog(clock: ManualClock) -> None:
    """A text equal to one in a backlog gets a place of its own, and leads."""
    queue = make_queue(clock, max_items=1)
    many, one = texts(clock, A, B, C), texts(clock, C)
    enqueue(queue, many, one)
    assert queue.take_batch().batch == [many.items[0]]
    assert queue.take_batch().batch == one.items
    assert queue.finish(one.items[0]) == [many.items[2]]
    assert queue.take_batch().batch == [many.items[1]]
    assert len(queue) == 0


def test_inherited_place_is_not_passed_on(clock: ManualClock) -> None:
    """A long request with an inherited place has its usual share of the FIFO afterwards."""
    queue = make_queue(clock, max_items=1)
    leaving, many = texts(clock, A), texts(clock, (-1, 7), (-4, 6), (-5, 5), (-6, 4))
    names = {"many": many, "one": request(clock, 7)}
    enqueue(queue, leaving, *names.values())
    queue.remove(leaving)
    assert [taken(queue, names) for _ in range(2)] == [["many"], ["many"]]
    names["late"] = request(clock, 7)
    enqueue(queue, names["late"])
    assert drain(queue, names) == [["one"], ["many"], ["late"], ["many"]]


def test_heir_in_a_backlog(clock: ManualClock) -> None:
    """The follower of a text in a backlog waits in the backlog of its own request."""
    queue = make_queue(clock, max_items=1)
    leaving = texts(clock, (-4, 9), (-5, 6))
    staying = texts(clock, (-6, 9), (-7, 8), (-5, 6), (-8, 4))
    enqueue(queue, leaving, staying)
    queue.remove(leaving)
    assert [queue.take_batch().batch[0] for _ in range(4)] == staying.items


def test_heir_without_a_backlog(clock: ManualClock) -> None:
    """The follower of a text in a backlog gets a place if its own request has no backlog."""
    queue = make_queue(clock, max_items=1)
    leaving, staying = texts(clock, (-4, 9), (-5, 6)), texts(clock, (-6, 9), (-5, 6))
    enqueue(queue, leaving, staying)
    queue.remove(leaving)
    assert [queue.take_batch().batch[0] for _ in range(2)] == staying.items


@given(
    st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=12), max_size=12),
    st.integers(1, 6),
)
def test_every_item_leaves_once(requests: Sequence[Sequence[int]], max_items: int) -> None:
    """Every admitted item is taken exactly once."""
    clock = ManualClock()
    queue = make_queue(clock, max_items=max_items)
    submissions = [request(clock, *lengths) for lengths in requests]
    admitted = [submission for submission in submissions if queue.enqueue(submission)]
    left = []
    while len(queue):
        batch = queue.take_batch().batch
        assert 1 <= len(batch) <= max_items
        left += batch
    expected = [item for submission in admitted for item in submission.items]
    assert sorted(map(id, left)) == sorted(map(id, expected))
    assert queue.next_batch_at() is None
