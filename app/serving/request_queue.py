"""The items that wait, and the rule that forms a batch. Synchronous, with a clock passed in."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from app.errors import ValenceError
from app.serving.shapes import choose_batch
from app.text.padding import Int32Array

if TYPE_CHECKING:
    import asyncio

_WINDOW_BATCHES = 16
"""Items considered for one batch, in full batches: bounds the work per batch, whatever waits."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How long items wait and how many go together.

    Attributes:
        max_items: Rows of a batch at most.
        max_tokens: Padded tokens of a batch at most.
        max_queue_delay_s: How long an idle engine waits for company, counted from the oldest
            arrival. 0 takes a lone item at once; batches then grow only while engines are busy.
        max_queue_items: Items waiting at most.
    """

    max_items: int
    max_tokens: int
    max_queue_delay_s: float
    max_queue_items: int


class Item:
    """One text in the queue; later, its answer.

    Attributes:
        ids: int32 of shape (length,).
        submission: The request it came with.
        probabilities: Float per label, once the model ran.
        error: Why there are none.
        taken_at: When it left the queue, on the clock of the queue.
    """

    __slots__ = ("error", "followers", "ids", "probabilities", "submission", "taken_at")

    def __init__(self, ids: Int32Array, submission: "Submission") -> None:
        self.ids = ids
        self.submission = submission
        self.probabilities: list[float] | None = None
        self.error: ValenceError | None = None
        self.taken_at = 0.0
        self.followers: list[Item] = []


class Submission:
    """The items of one request. All are admitted or none.

    Attributes:
        items: In the order asked.
        arrived: On the clock of the queue, in seconds.
        deadline: When the answer stops being useful, on the same clock.
        settled: Resolved by the batcher when every item has its answer. The queue, which knows
            nothing of event loops, leaves it alone.
        unsettled: Items without an answer.
        inference_s: The longest model run that answered one of its items.
        backlog: Items that have no place in the line yet, as an ordered set; kept by the queue.
    """

    __slots__ = (
        "arrived",
        "backlog",
        "deadline",
        "inference_s",
        "items",
        "settled",
        "unsettled",
    )

    def __init__(
        self,
        rows: Sequence[Int32Array],
        *,
        arrived: float,
        deadline: float,
        settled: "asyncio.Future[None]",
    ) -> None:
        self.items = [Item(row, self) for row in rows]
        self.arrived = arrived
        self.deadline = deadline
        self.settled = settled
        self.unsettled = len(self.items)
        self.inference_s = 0.0
        self.backlog: OrderedDict[Item, None] = OrderedDict()

    @property
    def queue_delay_s(self) -> float:
        """The longest time one of its items waited."""
        return max(item.taken_at for item in self.items) - self.arrived


class Taken(NamedTuple):
    """What left the queue.

    Attributes:
        batch: Items for one model run, the oldest first; empty when all had expired.
        expired: Requests whose deadline passed while they waited, each with the number of its
            items that were dropped.
    """

    batch: list[Item]
    expired: list[tuple[Submission, int]]


class RequestQueue:
    """A bounded line of items, first in, first out.

    A request holds at most one batch's worth of places in the line. Whenever one of its items
    leaves, the next one joins at the end. So a request of a thousand texts and a stream of single
    texts take turns, and neither waits for ever behind the other. Items without a place fill the
    rows that the line leaves empty.
    """

    def __init__(self, policy: BatchPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        # Ordered dicts as ordered sets: leaving from any place takes the same short time.
        self._line: OrderedDict[Item, None] = OrderedDict()
        self._submissions: OrderedDict[Submission, int] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        """Items waiting."""
        return self._waiting

    def has_room(self, count: int) -> bool:
        """Whether a request of `count` items would be admitted."""
        return self._waiting + count <= self._policy.max_queue_items

    def admit(self, submission: Submission) -> bool:
        """Admit all items of a request, or none.

        Returns:
            False when there is not room for all of them; then nothing has changed.
        """
        count = len(submission.items)
        if not self.has_room(count):
            return False
        self._waiting += count
        self._submissions[submission] = count
        places = self._policy.max_items
        for item in submission.items[:places]:
            self._line[item] = None
        for item in submission.items[places:]:
            submission.backlog[item] = None
        return True

    def remove(self, submission: Submission) -> int:
        """Drop every item of a request that still waits, because nobody waits for it.

        Returns:
            How many were dropped; 0 when all had left, or none was ever admitted.
        """
        count = self._submissions.pop(submission, 0)
        if count:
            for item in submission.items:
                self._line.pop(item, None)
            submission.backlog.clear()
            self._waiting -= count
        return count

    def next_departure(self) -> float | None:
        """When the next batch may leave, on the clock of the queue; None when nothing waits."""
        if not self._submissions:
            return None
        oldest = next(iter(self._submissions)).arrived
        full = len(self._line) >= self._policy.max_items
        return oldest if full else oldest + self._policy.max_queue_delay_s

    def take_batch(self) -> Taken:
        """Take the next batch out, whether or not its time has come."""
        now = self._clock()
        expired = [(s, self.remove(s)) for s in list(self._submissions) if s.deadline <= now]
        if not self._line:
            return Taken([], expired)
        limit = _WINDOW_BATCHES * self._policy.max_items
        window = list(islice(self._line, limit))
        # With nobody else to be fair to, the best fit among all items of a request may be taken.
        preferred = len(window) if len(self._submissions) > 1 else 1
        backlogs = chain.from_iterable(s.backlog for s in self._submissions if s.backlog)
        window += islice(backlogs, limit - len(window))
        chosen = choose_batch(
            [len(item.ids) for item in window],
            preferred=preferred,
            max_items=self._policy.max_items,
            max_tokens=self._policy.max_tokens,
        )
        batch = [window[index] for index in chosen]
        for item in batch:
            self._leave(item)
            item.taken_at = now
        return Taken(batch, expired)

    def finish(self, item: Item) -> list[Item]:
        return item.followers

    def close(self) -> list[Submission]:
        """Take every request out, unanswered."""
        abandoned = list(self._submissions)
        for submission in abandoned:
            self.remove(submission)
        return abandoned

    def _leave(self, item: Item) -> None:
        """Take one item out; if it had a place in the line, the next of its request gets one."""
        submission = item.submission
        self._waiting -= 1
        self._submissions[submission] -= 1
        if item in self._line:
            del self._line[item]
            if submission.backlog:
                successor, _ = submission.backlog.popitem(last=False)
                self._line[successor] = None
        else:
            del submission.backlog[item]
        if not self._submissions[submission]:
            del self._submissions[submission]
