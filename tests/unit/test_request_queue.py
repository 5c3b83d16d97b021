from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.request_queue import BatchPolicy, RequestQueue, Submission
from tests.fakes import ManualClock

FOREVER = 1e9


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
    """A request with a text of each length."""
    rows = [np.ones(length, dtype=np.int32) for length in lengths]
    settled: Any = None  # the queue leaves it alone
    return Submission(rows, arrived=clock(), deadline=deadline, settled=settled)


def admit(queue: RequestQueue, *submissions: Submission) -> None:
    assert all(queue.admit(submission) for submission in submissions)


def taken(queue: RequestQueue, names: dict[str, Submission]) -> list[str]:
    """Whose items the next batch has, in order."""
    name_of = {id(submission): name for name, submission in names.items()}
    return [name_of[id(item.submission)] for item in queue.take_batch().batch]


def drain(queue: RequestQueue, names: dict[str, Submission]) -> list[list[str]]:
    """Every batch until the queue is empty."""
    batches = []
    while len(queue):
        batches.append(taken(queue, names))
    return batches


def test_full_batch_leaves_at_once(clock: ManualClock) -> None:
    """A full batch may leave at once, whatever the delay."""
    queue = make_queue(clock, max_queue_delay_s=5.0)
    admit(queue, request(clock, 7, 7, 7))
    assert queue.next_departure() == clock.now + 5.0
    admit(queue, request(clock, 7))
    assert queue.next_departure() == clock.now


def test_lone_item_leaves_after_the_delay(clock: ManualClock) -> None:
    """A lone item leaves after the delay, counted from the oldest arrival."""
    queue = make_queue(clock, max_queue_delay_s=5.0)
    arrived = clock.now
    admit(queue, request(clock, 7))
    clock.advance(3)
    admit(queue, request(clock, 7))
    assert queue.next_departure() == arrived + 5.0


def test_no_delay(clock: ManualClock) -> None:
    """Without a delay a lone item may leave at once."""
    queue = make_queue(clock)
    assert queue.next_departure() is None
    admit(queue, request(clock, 7))
    assert queue.next_departure() == clock.now


def test_first_in_first_out(clock: ManualClock) -> None:
    """Of items of one length the first in are the first out."""
    queue = make_queue(clock, max_items=2)
    names = {name: request(clock, 7) for name in "abcd"}
    admit(queue, *names.values())
    assert drain(queue, names) == [["a", "b"], ["c", "d"]]


def test_like_lengths_go_together(clock: ManualClock) -> None:
    """A batch is the oldest item and those nearest to it in length."""
    queue = make_queue(clock, max_items=2)
    names = {"a": request(clock, 9), "b": request(clock, 200), "c": request(clock, 10)}
    admit(queue, *names.values())
    assert drain(queue, names) == [["a", "c"], ["b"]]


def test_oldest_is_never_passed_over(clock: ManualClock) -> None:
    """An odd length waits for no longer than it takes to become the oldest."""
    queue = make_queue(clock, max_items=2)
    names = {"first": request(clock, 9), "odd": request(clock, 400)}
    admit(queue, *names.values())
    batches = []
    for number in range(3):
        names[f"new{number}"] = request(clock, 9)
        admit(queue, names[f"new{number}"])
        batches.append(taken(queue, names))
    assert batches[1] == ["odd"]


def test_full_queue_refuses(clock: ManualClock) -> None:
    """A request is admitted whole or not at all, and a refusal changes nothing."""
    queue = make_queue(clock, max_queue_items=3)
    admit(queue, request(clock, 7, 7))
    assert not queue.admit(request(clock, 7, 7))
    assert len(queue) == 2
    admit(queue, request(clock, 7))


def test_long_request_is_split(clock: ManualClock) -> None:
    """A request of many texts is split over batches, in its order."""
    queue = make_queue(clock, max_items=2)
    many = request(clock, 7, 7, 7, 7, 7)
    admit(queue, many)
    items = [queue.take_batch().batch for _ in range(3)]
    assert [item for batch in items for item in batch] == many.items


def test_long_request_does_not_starve_others(clock: ManualClock) -> None:
    """A text that comes after a request of many waits for one batch of it, not for all."""
    queue = make_queue(clock, max_items=2)
    names = {"many": request(clock, *[7] * 8), "one": request(clock, 7)}
    admit(queue, *names.values())
    assert drain(queue, names)[1] == ["one", "many"]


def test_others_do_not_starve_a_long_request(clock: ManualClock) -> None:
    """A request of many makes progress however many single texts keep coming."""
    queue = make_queue(clock, max_items=2)
    names = {"many": request(clock, *[7] * 6)}
    admit(queue, names["many"])
    served = 0
    for number in range(8):
        for half in "ab":
            names[f"{number}{half}"] = request(clock, 7)
            admit(queue, names[f"{number}{half}"])
        served += taken(queue, names).count("many")
    assert served == 6


def test_long_request_is_sorted(clock: ManualClock) -> None:
    """With nobody else waiting, all texts of a long request are looked at for like lengths."""
    queue = make_queue(clock, max_items=2)
    admit(queue, request(clock, 9, 300, 400, 10))
    sizes = [sorted(len(item.ids) for item in queue.take_batch().batch) for _ in range(2)]
    assert sizes == [[9, 10], [300, 400]]


def test_line_leaves_no_empty_rows(clock: ManualClock) -> None:
    """Rows that the line cannot fill with like lengths go to items without a place in it."""
    queue = make_queue(clock, max_items=2)
    names = {"many": request(clock, 9, 300, 10), "one": request(clock, 400)}
    admit(queue, *names.values())
    assert drain(queue, names) == [["many", "many"], ["many", "one"]]


def test_expired_item_is_not_taken(clock: ManualClock) -> None:
    """An item past its deadline is handed back apart from the batch, with all of its request."""
    queue = make_queue(clock, max_items=2)
    late, fine = request(clock, 7, 7, 7, deadline=clock.now + 1), request(clock, 7)
    admit(queue, late, fine)
    clock.advance(1)
    batch, expired = queue.take_batch()
    assert [item.submission for item in batch] == [fine]
    assert expired == [(late, 3)]
    assert len(queue) == 0


def test_removed_items_are_not_taken(clock: ManualClock) -> None:
    """What a caller withdraws is gone at once, and its places are free."""
    queue = make_queue(clock, max_queue_items=4, max_items=2)
    leaving, staying = request(clock, 7, 7, 7), request(clock, 7)
    admit(queue, leaving, staying)
    assert queue.remove(leaving) == 3
    assert queue.remove(leaving) == 0
    assert len(queue) == 1
    assert queue.take_batch().batch == staying.items


def test_partly_taken_request_can_be_removed(clock: ManualClock) -> None:
    """Withdrawing a request whose first items run already drops the others."""
    queue = make_queue(clock, max_items=2)
    many = request(clock, *[7] * 5)
    admit(queue, many)
    queue.take_batch()
    assert queue.remove(many) == 3
    assert queue.take_batch() == ([], [])


def test_close_hands_back_every_request(clock: ManualClock) -> None:
    """Closing empties the queue and names those who wait."""
    queue = make_queue(clock)
    submissions = [request(clock, 7), request(clock, *[7] * 9)]
    admit(queue, *submissions)
    assert queue.close() == submissions
    assert len(queue) == 0


@given(
    st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=12), max_size=12),
    st.integers(1, 6),
)
def test_every_item_leaves_once(requests: Sequence[Sequence[int]], max_items: int) -> None:
    """Whatever comes, every admitted item is taken exactly once."""
    clock = ManualClock()
    queue = make_queue(clock, max_items=max_items)
    submissions = [request(clock, *lengths) for lengths in requests]
    admitted = [submission for submission in submissions if queue.admit(submission)]
    left = []
    while len(queue):
        batch = queue.take_batch().batch
        assert 1 <= len(batch) <= max_items
        left += batch
    expected = [item for submission in admitted for item in submission.items]
    assert sorted(map(id, left)) == sorted(map(id, expected))
    assert queue.next_departure() is None
