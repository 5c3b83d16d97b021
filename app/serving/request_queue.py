"""The items that wait, and the rule that forms a batch. Synchronous, with a clock passed in."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from app.errors import ValenceError
from app.serving.shapes import choose_batch
from app.text.padding import Int32Array

if TYPE_CHECKING:
    import asyncio

_WINDOW_BATCHES: Final = 16
"""Items considered for one batch, in full batches: bounds the work per batch, whatever waits."""

_length = attrgetter("length")


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How long items wait and how many go together.

    Attributes:
        max_items: Rows of a batch at most.
        max_tokens: Padded tokens of a batch at most.
        max_queue_delay_s: How long an idle engine waits for company, counted from the oldest
            arrival. 0 takes a lone item at once; batches then grow only while engines are busy.
        max_queue_items: Items waiting at most, for a batch or for the answer of an equal item.
    """

    max_items: int
    max_tokens: int
    max_queue_delay_s: float
    max_queue_items: int


class Item:
    """One text in the queue; later, its answer.

    Attributes:
        ids: int32 of shape (length,).
        key: The bytes of `ids`; equal for equal texts.
        length: Of `ids`, in tokens.
        submission: The request it came with.
        leader: The equal item that is computed in its place; kept by the queue.
        followers: The items that share its answer, as an ordered set; None for none, as most have.
            Kept by the queue.
        probabilities: Float per label, once the model ran.
        error: Why there are none.
        taken_at: When it left the queue, on the clock of the queue. A follower leaves with its
            leader, or on arrival if its leader has left before.
    """

    __slots__ = (
        "error",
        "followers",
        "ids",
        "key",
        "leader",
        "length",
        "probabilities",
        "submission",
        "taken_at",
    )

    def __init__(self, ids: Int32Array, submission: "Submission") -> None:
        self.ids = ids
        self.key = ids.tobytes()
        self.length = len(ids)
        self.submission = submission
        self.leader: Item | None = None
        self.followers: dict[Item, None] | None = None
        self.probabilities: list[float] | None = None
        self.error: ValenceError | None = None
        self.taken_at = 0.0


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
    """

    __slots__ = ("arrived", "deadline", "inference_s", "items", "settled", "unsettled")

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


class _Backlog:
    """The items of a long request that have no place in the line yet.

    Attributes:
        items: By length. The last, one of the longest, is the next to get a place: the long
            batches of a request come first, so that engines that share it finish together.
        places: How many the request has in the line.
    """

    __slots__ = ("items", "places")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.places = 0

    def near(self, length: int, count: int) -> list[Item]:
        """Up to `count` items on either side of a length, in the order they are due."""
        middle = bisect_right(self.items, length, key=_length)
        return self.items[max(0, middle - count) : middle + count][::-1]

    def remove(self, item: Item) -> None:
        """Take one item out."""
        if item is self.items[-1]:
            self.items.pop()
        else:
            first = bisect_left(self.items, item.length, key=_length)
            del self.items[self.items.index(item, first)]


class RequestQueue:
    """A bounded line of items, first in, first out, in which equal items are computed once.

    **Line.** The first of the line leads the next batch. So an item with p others before it is in
    one of the next p + 1 batches, whatever comes later.

    **Long requests.** A request gets at most one batch's worth of places in the line. Whenever
    one of its items leaves, the next one joins at the end. So a request of a thousand texts and a
    stream of single texts take turns, and neither waits for ever behind the other: of m rows to a
    batch and at most n items waiting, the item with b others of its request due before it for a
    place is in one of the next (b // m + 2) * n batches. Items without a place fill the rows that
    the line leaves empty.

    **Equal items.** An item that equals one that waits or is being computed follows it: it needs
    no place and shares the answer. A leader whose caller left hands its place to its first
    follower while it waits, and answers its followers when it runs. A follower takes memory until
    it is answered, so until then it counts as waiting.
    """

    def __init__(self, policy: BatchPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._window = _WINDOW_BATCHES * policy.max_items
        # By key, every item that is not answered and follows no other. An ordered dict, because
        # there the first is found and any one leaves in the same short time.
        self._line: OrderedDict[bytes, Item] = OrderedDict()
        self._placeless: dict[bytes, Item] = {}
        self._running: dict[bytes, Item] = {}
        self._backlogs: dict[Submission, _Backlog] = {}  # never empty ones
        self._held: dict[Submission, int] = {}  # items that wait, per request
        self._waiting = 0
        self._first_deadline = math.inf  # no deadline is earlier

    def __len__(self) -> int:
        """Items waiting: for a batch, or as followers for the answer of an equal item."""
        return self._waiting

    @property
    def to_compute(self) -> int:
        """Items waiting for a batch; the others share the answer of an equal one."""
        return len(self._line) + len(self._placeless)

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
        self._held[submission] = count
        self._first_deadline = min(self._first_deadline, submission.deadline)
        if count > self._policy.max_items:
            self._enter_long(submission)
        else:
            for item in submission.items:
                self._enter(item)
        return True

    def remove(self, submission: Submission) -> int:
        """Drop every item of a request that still waits, because nobody waits for it.

        Returns:
            How many were dropped; 0 when all had left, or none was ever admitted.
        """
        count = self._held.pop(submission, 0)
        if count:
            self._waiting -= count
            self._backlogs.pop(submission, None)
            for item in submission.items:
                self._unfollow(item)
            for item in submission.items:
                if item is self._line.get(item.key) or item is self._placeless.get(item.key):
                    self._withdraw(item)
        return count

    def next_departure(self) -> float | None:
        """When the next batch may leave, on the clock of the queue; None when nothing waits."""
        if not self._line:
            return None
        if len(self._line) >= self._policy.max_items:
            return next(iter(self._line.values())).submission.arrived
        oldest = min(item.submission.arrived for item in self._line.values())
        return oldest + self._policy.max_queue_delay_s

    def take_batch(self) -> Taken:
        """Take the next batch out, whether or not its time has come.

        Its items count as running until `finish` is called for each of them.
        """
        now = self._clock()
        expired = self._expire(now) if now >= self._first_deadline else []
        if not self._line:
            return Taken([], expired)
        window = list(islice(self._line.values(), self._window))
        preferred = len(window)
        if self._backlogs:
            window += islice(self._near(window[0].length), self._window - preferred)
        chosen = choose_batch(
            [item.length for item in window],
            preferred=preferred,
            max_items=self._policy.max_items,
            max_tokens=self._policy.max_tokens,
        )
        batch = [window[index] for index in chosen]
        for item in batch:
            self._take(item, now)
        return Taken(batch, expired)

    def finish(self, item: Item) -> list[Item]:
        """Let go of an item that was taken, once its answer or its error is known.

        From here on an equal item is computed anew. Call it exactly once for every item taken,
        also for those whose caller left.

        Returns:
            The followers, which share the answer.
        """
        del self._running[item.key]
        followers = list(item.followers or ())
        item.followers = None
        for follower in followers:
            follower.leader = None
            self._release(follower.submission)
        return followers

    def close(self) -> list[Submission]:
        """Take every request out, unanswered; those with nothing but followers, too.

        Items that run are left to run, and to `finish`.
        """
        abandoned = list(self._held)
        for submission in abandoned:
            self.remove(submission)
        return abandoned

    def _enter(self, item: Item) -> bool:
        """Let an item follow its equal, or else give it the last place in the line.

        Returns:
            Whether it got a place.
        """
        key = item.key
        leader = self._line.get(key) or self._running.get(key)
        if leader is not None:
            self._follow(item, leader)
            return False
        self._line[key] = item
        if key in self._placeless:
            self._overtake(item)
        return True

    def _enter_long(self, submission: Submission) -> None:
        """As `_enter`, for a request with more items than it gets places."""
        backlog = _Backlog()
        for item in sorted(submission.items, key=_length, reverse=True):
            if backlog.places < self._policy.max_items:
                backlog.places += self._enter(item)
                continue
            key = item.key
            leader = self._line.get(key) or self._running.get(key) or self._placeless.get(key)
            if leader is not None:
                self._follow(item, leader)
            else:
                self._placeless[key] = item
                backlog.items.append(item)
        if backlog.items:
            backlog.items.reverse()
            self._backlogs[submission] = backlog

    def _follow(self, item: Item, leader: Item) -> None:
        """Let an item share the answer of its equal."""
        if leader.followers is None:
            leader.followers = {}
        leader.followers[item] = None
        item.leader = leader
        if item.key in self._running:
            item.taken_at = item.submission.arrived

    def _unfollow(self, item: Item) -> None:
        """Take an item out if it follows another."""
        leader = item.leader
        if leader is None or leader.followers is None:
            return
        del leader.followers[item]
        item.leader = None

    def _overtake(self, item: Item) -> None:
        """Let an equal item that has no place, and all that follow it, follow one that has."""
        last = self._placeless.pop(item.key)
        self._leave_backlog(last)
        followers = dict.fromkeys((last, *(last.followers or ())))
        last.followers = None
        for follower in followers:
            follower.leader = item
        item.followers = followers

    def _withdraw(self, item: Item) -> None:
        """Take a waiting leader out; its followers, all of other requests, go on without it."""
        key = item.key
        if not item.followers:
            del (self._line if key in self._line else self._placeless)[key]
            return
        heir, *others = item.followers
        item.followers = None
        heir.leader = None
        heir.followers = dict.fromkeys(others)
        for other in others:
            other.leader = heir
        backlog = self._backlogs.get(heir.submission)
        if key in self._line:
            self._line[key] = heir  # in the same place
            if backlog is not None:
                backlog.places += 1
        elif backlog is not None:
            self._placeless[key] = heir
            insort(backlog.items, heir, key=_length)
        else:
            del self._placeless[key]
            self._line[key] = heir

    def _take(self, item: Item, now: float) -> None:
        """Let an item run; if it had a place in the line, the next of its request gets one."""
        key = item.key
        item.taken_at = now
        self._running[key] = item
        for follower in item.followers or ():
            follower.taken_at = now
        if self._line.pop(key, None) is None:
            del self._placeless[key]
            self._leave_backlog(item)
        elif item.submission in self._backlogs:
            self._advance(item.submission)
        self._release(item.submission)

    def _advance(self, submission: Submission) -> None:
        """After an item of a long request has left the line, let the next one join."""
        backlog = self._backlogs[submission]
        backlog.places -= 1
        if backlog.places < self._policy.max_items:  # not so if it had inherited a place
            backlog.places += 1
            key = backlog.items[-1].key
            self._line[key] = self._placeless.pop(key)
            self._leave_backlog(self._line[key])

    def _leave_backlog(self, item: Item) -> None:
        """Take an item out of the backlog of its request."""
        backlog = self._backlogs[item.submission]
        backlog.remove(item)
        if not backlog.items:
            del self._backlogs[item.submission]

    def _near(self, length: int) -> Iterator[Item]:
        """Items without a place, of each backlog those nearest to a length."""
        for backlog in self._backlogs.values():
            yield from backlog.near(length, self._policy.max_items)

    def _release(self, submission: Submission) -> None:
        """Count one item of a request less; forget the request after the last."""
        self._waiting -= 1
        left = self._held[submission] - 1
        if left:
            self._held[submission] = left
        else:
            del self._held[submission]

    def _expire(self, now: float) -> list[tuple[Submission, int]]:
        """Drop the requests whose deadline has passed."""
        expired = [(s, self.remove(s)) for s in list(self._held) if s.deadline <= now]
        self._first_deadline = min((s.deadline for s in self._held), default=math.inf)
        return expired
