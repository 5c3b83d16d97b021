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
    """A request with a text of each length, all different."""
    return ask(clock, *((next(_WORDS), length) for length in lengths), deadline=deadline)


def ask(clock: ManualClock, *texts: tuple[int, int], deadline: float = FOREVER) -> Submission:
    """A request with texts that are a word, repeated."""
    rows = [np.full(length, word, dtype=np.int32) for word, length in texts]
    settled: Any = None  # the queue leaves it alone
    return Submission(rows, arrived=clock(), deadline=deadline, settled=settled)


def admit(queue: RequestQueue, *submissions: Submission) -> None:
    assert all(queue.enqueue(submission) for submission in submissions)


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
    assert queue.next_batch_at() == clock.now + 5.0
    admit(queue, request(clock, 7))
    assert queue.next_batch_at() == clock.now


def test_lone_item_leaves_after_the_delay(clock: ManualClock) -> None:
    """A lone item leaves after the delay, counted from the oldest arrival."""
    queue = make_queue(clock, max_queue_delay_s=5.0)
    arrived = clock.now
    admit(queue, request(clock, 7))
    clock.advance(3)
    admit(queue, request(clock, 7))
    assert queue.next_batch_at() == arrived + 5.0


def test_no_delay(clock: ManualClock) -> None:
    """Without a delay a lone item may leave at once."""
    queue = make_queue(clock)
    assert queue.next_batch_at() is None
    admit(queue, request(clock, 7))
    assert queue.next_batch_at() == clock.now


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
    assert not queue.enqueue(request(clock, 7, 7))
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
    """The texts of a long request are taken by length, the longest first."""
    queue = make_queue(clock, max_items=2)
    admit(queue, request(clock, 9, 380, 400, 10, 11))
    sizes = [[item.length for item in queue.take_batch().batch] for _ in range(3)]
    assert sizes == [[400, 380], [11, 10], [9]]


def test_line_leaves_no_empty_rows(clock: ManualClock) -> None:
    """Rows that the line cannot fill with like lengths go to items without a place in it."""
    queue = make_queue(clock, max_items=2)
    names = {"one": request(clock, 9), "many": request(clock, 10, 300, 200)}
    admit(queue, *names.values())
    assert drain(queue, names) == [["one", "many"], ["many"], ["many"]]


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


A, B, C = (-1, 7), (-2, 7), (-3, 7)
"""Three different texts of one length."""


def test_equal_texts_are_computed_once(clock: ManualClock) -> None:
    """Texts equal to one that waits need no row of a batch; they share its answer."""
    queue = make_queue(clock)
    one, other = ask(clock, A, A), ask(clock, B, A)
    admit(queue, one, other)
    batch = queue.take_batch().batch
    assert batch == [one.items[0], other.items[0]]
    assert queue.finish(batch[0]) == [one.items[1], other.items[1]]
    assert queue.finish(batch[1]) == []
    assert len(queue) == 0


def test_equal_to_a_running_one(clock: ManualClock) -> None:
    """A text equal to one that is being computed waits for that answer, not for a batch."""
    queue = make_queue(clock)
    admit(queue, ask(clock, A))
    (leader,) = queue.take_batch().batch
    clock.advance(2)
    late = ask(clock, A)
    admit(queue, late)
    assert queue.next_batch_at() is None
    assert queue.take_batch().batch == []
    assert queue.finish(leader) == late.items
    assert late.queue_delay_s == 0


def test_follower_leaves_with_its_leader(clock: ManualClock) -> None:
    """The wait of a follower ends with that of its leader."""
    queue = make_queue(clock)
    admit(queue, ask(clock, A))
    clock.advance(2)
    follower = ask(clock, A)
    admit(queue, follower)
    clock.advance(3)
    queue.take_batch()
    assert follower.queue_delay_s == 3


def test_answered_text_is_computed_anew(clock: ManualClock) -> None:
    """Answers are not kept: after `finish` an equal text gets a row again."""
    queue = make_queue(clock)
    for submission in (ask(clock, A), ask(clock, A)):
        admit(queue, submission)
        assert queue.take_batch().batch == submission.items
        queue.finish(submission.items[0])


def test_followers_count_until_answered(clock: ManualClock) -> None:
    """Followers take memory, so the bound holds for them, also while their leader runs."""
    queue = make_queue(clock, max_queue_items=3)
    admit(queue, ask(clock, A), ask(clock, A, A))
    assert not queue.has_room(1)
    (leader,) = queue.take_batch().batch
    assert len(queue) == 2
    assert not queue.enqueue(ask(clock, A, A))
    queue.finish(leader)
    assert queue.has_room(3)


def test_leader_who_leaves_hands_its_place_on(clock: ManualClock) -> None:
    """When the caller of a waiting leader leaves, its first follower has the same place."""
    queue = make_queue(clock, max_items=1)
    leaving, heir, last = ask(clock, A, A), ask(clock, A), ask(clock, A)
    admit(queue, leaving, ask(clock, B), heir, last)
    assert queue.remove(leaving) == 2
    assert queue.take_batch().batch == heir.items
    assert queue.finish(heir.items[0]) == last.items


def test_heirs_leave_one_by_one(clock: ManualClock) -> None:
    """A text is computed for as long as anybody waits for it."""
    queue = make_queue(clock)
    callers = [ask(clock, A) for _ in range(4)]
    admit(queue, *callers)
    for caller in (callers[0], callers[2], callers[1]):
        assert queue.remove(caller) == 1
    assert queue.take_batch().batch == callers[3].items
    assert queue.finish(callers[3].items[0]) == []


def test_running_leader_answers_though_its_caller_left(clock: ManualClock) -> None:
    """A model run is not undone: it answers the followers of a text whose caller left."""
    queue = make_queue(clock)
    leaving, staying, later = ask(clock, A), ask(clock, A), ask(clock, A)
    admit(queue, leaving, staying)
    queue.take_batch()
    assert queue.remove(leaving) == 0
    admit(queue, later)
    assert queue.finish(leaving.items[0]) == staying.items + later.items


def test_follower_who_leaves(clock: ManualClock) -> None:
    """A follower whose caller left gets no answer, whether its leader waits or runs."""
    queue = make_queue(clock)
    leader, first, second = ask(clock, A), ask(clock, A), ask(clock, A)
    admit(queue, leader, first, second)
    assert queue.remove(first) == 1
    queue.take_batch()
    assert queue.remove(second) == 1
    assert queue.finish(leader.items[0]) == []


def test_follower_expires(clock: ManualClock) -> None:
    """The deadline of a follower is its own, not that of its leader."""
    queue = make_queue(clock)
    leader, late = ask(clock, A), ask(clock, A, deadline=clock.now + 1)
    admit(queue, leader, late)
    clock.advance(1)
    assert queue.take_batch() == (leader.items, [(late, 1)])


def test_close_names_those_who_only_follow(clock: ManualClock) -> None:
    """Closing hands back followers too; what runs is left to run."""
    queue = make_queue(clock)
    admit(queue, ask(clock, A))
    (leader,) = queue.take_batch().batch
    follower = ask(clock, A)
    admit(queue, follower)
    assert queue.close() == [follower]
    assert queue.finish(leader) == []


def test_single_text_does_not_follow_into_a_backlog(clock: ManualClock) -> None:
    """A text equal to one that has no place yet takes the place it would have had anyway."""
    queue = make_queue(clock, max_items=1)
    many, one = ask(clock, A, B, C), ask(clock, C)
    admit(queue, many, one)
    assert queue.take_batch().batch == [many.items[0]]
    assert queue.take_batch().batch == one.items
    assert queue.finish(one.items[0]) == [many.items[2]]
    assert queue.take_batch().batch == [many.items[1]]
    assert len(queue) == 0


def test_inherited_place_is_not_passed_on(clock: ManualClock) -> None:
    """A long request that inherited a place has its usual share of the line afterwards."""
    queue = make_queue(clock, max_items=1)
    leaving, many = ask(clock, A), ask(clock, (-1, 7), (-4, 6), (-5, 5), (-6, 4))
    names = {"many": many, "one": request(clock, 7)}
    admit(queue, leaving, *names.values())
    queue.remove(leaving)
    assert [taken(queue, names) for _ in range(2)] == [["many"], ["many"]]
    names["late"] = request(clock, 7)
    admit(queue, names["late"])
    assert drain(queue, names) == [["one"], ["many"], ["late"], ["many"]]


def test_heir_without_a_place(clock: ManualClock) -> None:
    """What followed a text without a place goes on to wait among those of its own request."""
    queue = make_queue(clock, max_items=1)
    leaving = ask(clock, (-4, 9), (-5, 6))
    staying = ask(clock, (-6, 9), (-7, 8), (-5, 6), (-8, 4))
    admit(queue, leaving, staying)
    queue.remove(leaving)
    assert [queue.take_batch().batch[0] for _ in range(4)] == staying.items


def test_last_heir_without_a_place(clock: ManualClock) -> None:
    """What followed a text without a place joins the line if all others of its request did."""
    queue = make_queue(clock, max_items=1)
    leaving, staying = ask(clock, (-4, 9), (-5, 6)), ask(clock, (-6, 9), (-5, 6))
    admit(queue, leaving, staying)
    queue.remove(leaving)
    assert [queue.take_batch().batch[0] for _ in range(2)] == staying.items


@given(
    st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=12), max_size=12),
    st.integers(1, 6),
)
def test_every_item_leaves_once(requests: Sequence[Sequence[int]], max_items: int) -> None:
    """Whatever comes, every admitted item is taken exactly once."""
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
