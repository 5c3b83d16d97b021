"""The waiting items, and the rule that forms a batch. Synchronous; the clock is passed in."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from app.errors import ValenceError
from app.serving.shapes import choose_batch
from app.serving.single_flight import SingleFlight
from app.text.padding import Int32Array

if TYPE_CHECKING:
    import asyncio

_WINDOW_BATCHES: Final = 16
"""How many full batches of waiting items are considered for one batch. It bounds the work."""

_LEAST_BATCH: Final = 0.75
"""The least share of a batch that is formed because a deadline does not allow all of it. An item
that needs a smaller one is dropped: many small batches would make all others late, too."""
_RUN_SHARE: Final = 0.9
"""The share of the time until a deadline that a run may be expected to take."""

_length = attrgetter("length")


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How long items wait and how many go together.

    Attributes:
        max_items: The most rows in a batch.
        max_tokens: The most padded tokens in a batch.
        max_queue_delay_s: How long an idle engine waits for a batch to fill, counted from the
            oldest arrival. With 0 a lone item leaves at once, and batches grow only while the
            engines are busy.
        max_queue_items: The most items waiting, for a batch or for the result of an equal item.
        max_queue_bytes: The most memory that the texts of waiting requests may take. A request
            that finds none waiting is admitted whatever its size.
    """

    max_items: int
    max_tokens: int
    max_queue_delay_s: float
    max_queue_items: int
    max_queue_bytes: int = 64 * 2**20


class Item:
    """One text in the queue; later, its result.

    Attributes:
        ids: int32 of shape (length,).
        key: The bytes of `ids`; equal for equal texts.
        length: The length of `ids`, in tokens.
        submission: The request it belongs to.
        probabilities: One float per label, once the model has run.
        error: Why there are no probabilities.
        taken_at: When it left the queue, on the queue's clock. A follower leaves with its leader,
            or on arrival if its leader has left before.
    """

    __slots__ = ("error", "ids", "key", "length", "probabilities", "submission", "taken_at")

    def __init__(self, ids: Int32Array, submission: "Submission") -> None:
        self.ids = ids
        self.key = ids.tobytes()
        self.length = len(ids)
        self.submission = submission
        self.probabilities: list[float] | None = None
        self.error: ValenceError | None = None
        self.taken_at = 0.0


class Submission:
    """The items of one request, which are admitted together or not at all.

    Attributes:
        items: In the order of the request.
        arrived: When it was submitted, on the queue's clock, in seconds.
        deadline: When the result is no longer useful, on the same clock.
        settled: A future that the batcher resolves when every item has its result. The queue,
            which is independent of event loops, never touches it.
        pending_tokens: The length of its items that are still to be computed: those that wait and
            follow no other. The queue counts them.
        unsettled: The number of items without a result.
        inference_s: The longest model run for one of its items, in seconds.
        runs: The model runs for its items, if they are traced.
    """

    __slots__ = (
        "arrived",
        "deadline",
        "inference_s",
        "items",
        "pending_tokens",
        "runs",
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
        self.pending_tokens = 0
        self.arrived = arrived
        self.deadline = deadline
        self.settled = settled
        self.unsettled = len(self.items)
        self.inference_s = 0.0
        self.runs: Sequence[object] = ()

    @property
    def queue_delay_s(self) -> float:
        """The longest time that one of its items waited, in seconds."""
        return max(item.taken_at for item in self.items) - self.arrived


class Taken(NamedTuple):
    """What left the queue.

    Attributes:
        batch: The items for one model run, oldest first; empty if all had expired.
        expired: The requests whose deadline passed while they waited, or will surely pass before
            they are computed; each with the number of its items that were dropped.
    """

    batch: list[Item]
    expired: list[tuple[Submission, int]]


class _Backlog:
    """The items of a long request that have no place in the FIFO yet.

    Attributes:
        items: Sorted by length. The last, one of the longest, is the next to get a place: with
            its long batches first, engines that share a request finish together.
        places: The number of places that the request has in the FIFO.
    """

    __slots__ = ("items", "places")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.places = 0

    def near(self, length: int, count: int) -> list[Item]:
        """Up to `count` items on either side of a length, in the order they get a place."""
        middle = bisect_right(self.items, length, key=_length)
        return self.items[max(0, middle - count) : middle + count][::-1]

    def remove(self, item: Item) -> None:
        """Remove one item."""
        if item is self.items[-1]:
            self.items.pop()
        else:
            first = bisect_left(self.items, item.length, key=_length)
            del self.items[self.items.index(item, first)]


class RequestQueue:
    """A bounded FIFO of items. It forms batches, and computes equal items once.

    **Order.** The oldest item in the FIFO is in the next batch. So an item with p others before
    it is in one of the next p + 1 batches, whatever arrives later.

    **Deadlines.** An item that can no longer be computed in time is dropped when a batch is formed,
    with all others of its request, and no batch takes longer than the deadlines of its items allow.
    Without this rule a queue that is once too long computes every item too late.

    **Long requests.** A request gets at most one batch's worth of places in the FIFO. Whenever
    one of its items leaves, the next one joins at the end. So a request of a thousand texts and a
    stream of single texts take turns, and neither starves the other: with m rows to a batch and
    at most n items waiting, an item that b others of its request precede for a place is in one of
    the next (b // m + 2) * n batches. Items without a place, the backlog, fill the rows of a
    batch that the FIFO leaves empty. When a long request could miss its deadline by taking turns,
    it goes before the items with a later deadline.

    **Equal items.** An item equal to one that waits or runs follows it (`SingleFlight`): it needs
    no place. If the request of a waiting leader is removed, its first follower gets its place. If
    the leader runs already, its followers get the result nevertheless. A follower takes memory
    until it has its result, so until then it counts as waiting.

    Attributes:
        pending_tokens: The length of all items that are still to be computed.
    """

    def __init__(self, policy: BatchPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._window = _WINDOW_BATCHES * policy.max_items
        self._flights: SingleFlight[Item] = SingleFlight()
        # The leaders that wait, by key: those with a place, oldest first, and the others. Ordered
        # dicts remove any item in constant time and find the first one in constant time too.
        self._fifo: OrderedDict[bytes, Item] = OrderedDict()
        self._backlogged: dict[bytes, Item] = {}
        self._backlogs: dict[Submission, _Backlog] = {}  # no empty ones
        self._long: dict[Submission, None] = {}  # long requests with waiting items, oldest first
        self._waiting_of: dict[Submission, int] = {}  # waiting items of each request; no zeros
        self._waiting = 0
        self._next_deadline = math.inf  # a lower bound of all deadlines
        self.pending_tokens = 0

    def __len__(self) -> int:
        """The number of waiting items: for a batch, or for the result of an equal item."""
        return self._waiting

    def has_room(self, count: int) -> bool:
        """Whether a request with `count` items would be admitted."""
        return self._waiting + count <= self._policy.max_queue_items

    def enqueue(self, submission: Submission) -> bool:
        """Admit all items of a request, or none.

        Returns:
            False if there is no room for all of them; then nothing has changed.
        """
        count = len(submission.items)
        if not self.has_room(count):
            return False
        self._waiting += count
        self._waiting_of[submission] = count
        self._next_deadline = min(self._next_deadline, submission.deadline)
        if count > self._policy.max_items:
            self._add_long(submission)
        else:
            for item in submission.items:
                self._add(item)
        return True

    def remove(self, submission: Submission) -> int:
        """Remove every waiting item of a request whose caller left or whose deadline passed.

        Returns:
            The number of removed items; 0 if none was waiting.
        """
        count = self._waiting_of.pop(submission, 0)
        if count:
            self._waiting -= count
            self._long.pop(submission, None)
            self._backlogs.pop(submission, None)
            # Followers first: a leader must not hand over to an item of the same request.
            leaders = [item for item in submission.items if not self._flights.unfollow(item)]
            for item in leaders:
                if item is self._fifo.get(item.key) or item is self._backlogged.get(item.key):
                    self._withdraw(item)
        return count

    def next_batch_at(self) -> float | None:
        """When the next batch may leave, on the queue's clock; None if nothing waits for one."""
        if not self._fifo:
            return None
        if len(self._fifo) >= self._policy.max_items:
            return next(iter(self._fifo.values())).submission.arrived
        oldest = min(item.submission.arrived for item in self._fifo.values())
        return oldest + self._policy.max_queue_delay_s

    def take_batch(self, *, pace: float = 0.0, best_pace: float = 0.0) -> Taken:
        """Remove and return the next batch, whether or not its time has come.

        Its items run until `finish` is called for each of them.

        Args:
            pace: The expected seconds per token; 0 if unknown.
            best_pace: The least seconds per token that may be hoped for; 0 if unknown.
        """
        now = self._clock()
        expired = self._expire(now) if now >= self._next_deadline else []
        if self._long and self._fifo:
            self._hurry(now, pace)
        while self._fifo:
            oldest = next(iter(self._fifo.values()))
            submission = oldest.submission
            rows = min(len(self._fifo), self._policy.max_items)
            batch_s = _LEAST_BATCH * rows * oldest.length * pace
            if now + max(batch_s, submission.pending_tokens * best_pace) < submission.deadline:
                break
            expired.append((submission, self.remove(submission)))
        else:
            return Taken([], expired)
        window = list(islice(self._fifo.values(), self._window))
        preferred = len(window)
        if self._backlogs:
            window += islice(self._near(oldest.length), self._window - preferred)
        max_tokens = self._policy.max_tokens
        if pace:
            affordable = _RUN_SHARE * (submission.deadline - now) / pace
            max_tokens = int(min(max_tokens, affordable))
        chosen = choose_batch(
            [item.length for item in window],
            preferred=preferred,
            max_items=self._policy.max_items,
            max_tokens=max_tokens,
        )
        batch = [window[index] for index in chosen]
        if pace:
            end = now + len(batch) * max(item.length for item in batch) * pace
            batch = [i for i in batch if i is oldest or i.submission.deadline >= end]
        for item in batch:
            self._take(item, now)
        return Taken(batch, expired)

    def followers(self, item: Item) -> Collection[Item]:
        """The items that share the result of an item that waits or runs."""
        return self._flights.followers(item.key)

    def finish(self, item: Item) -> list[Item]:
        """End the run of an item: its result or its error is known.

        Call it exactly once for every item taken, also if its caller has left.

        Returns:
            The followers, which share the result.
        """
        followers = self._flights.finish(item)
        for follower in followers:
            self._count_one_less(follower.submission)
        return followers

    def close(self) -> list[Submission]:
        """Remove and return every request with waiting items, followers included.

        Items that run are left to run, and to `finish`.
        """
        abandoned = list(self._waiting_of)
        for submission in abandoned:
            self.remove(submission)
        return abandoned

    def _add(self, item: Item) -> bool:
        """Let an item follow its equal, or else give it the last place in the FIFO.

        Returns:
            Whether it got a place.
        """
        if item.key in self._backlogged:
            self._overtake(item)
        elif not self._flights.join(item):
            self._note_follower(item)
            return False
        self._fifo[item.key] = item
        self._count_pending(item, item.length)
        return True

    def _add_long(self, submission: Submission) -> None:
        """As `_add`, for a request with more items than it gets places."""
        self._long[submission] = None
        backlog = _Backlog()
        for item in sorted(submission.items, key=_length, reverse=True):
            if backlog.places < self._policy.max_items:
                backlog.places += self._add(item)
            elif self._flights.join(item):
                self._backlogged[item.key] = item
                self._count_pending(item, item.length)
                backlog.items.append(item)
            else:
                self._note_follower(item)
        if backlog.items:
            backlog.items.reverse()
            self._backlogs[submission] = backlog

    def _note_follower(self, item: Item) -> None:
        """A follower of an item that runs does not wait for a batch at all."""
        if item.key not in self._fifo and item.key not in self._backlogged:
            item.taken_at = item.submission.arrived

    def _overtake(self, item: Item) -> None:
        """Let an item lead instead of its equal in a backlog, which has no place yet."""
        leader = self._backlogged.pop(item.key)
        self._leave_backlog(leader)
        self._count_pending(leader, -leader.length)
        self._flights.take_over(item)

    def _withdraw(self, item: Item) -> None:
        """Remove a waiting leader. Its first follower, if any, waits in its stead."""
        key = item.key
        self._count_pending(item, -item.length)
        heir = self._flights.resign(item)
        if heir is None:
            del (self._fifo if key in self._fifo else self._backlogged)[key]
            return
        self._count_pending(heir, heir.length)
        backlog = self._backlogs.get(heir.submission)
        if key in self._fifo:
            self._fifo[key] = heir  # in the same place
            if backlog is not None:
                backlog.places += 1
        elif backlog is not None:
            self._backlogged[key] = heir
            insort(backlog.items, heir, key=_length)
        else:
            del self._backlogged[key]
            self._fifo[key] = heir

    def _take(self, item: Item, now: float) -> None:
        """Let an item run; if it had a place, the next item of its request gets one."""
        key = item.key
        self._count_pending(item, -item.length)
        item.taken_at = now
        for follower in self._flights.followers(key):
            follower.taken_at = now
        if self._fifo.pop(key, None) is None:
            del self._backlogged[key]
            self._leave_backlog(item)
        elif item.submission in self._backlogs:
            self._advance(item.submission)
        self._count_one_less(item.submission)

    def _hurry(self, now: float, pace: float) -> None:
        """Let long requests that cannot afford to take turns go first.

        While everything that waits can be computed before the deadline of a long request, it takes
        turns. When not, its items go before those with a later deadline.
        """
        latest_end = now + self.pending_tokens * pace
        late = [s for s in self._long if s.deadline < latest_end]
        for submission in sorted(late, key=lambda s: s.deadline, reverse=True):
            if submission.deadline < next(iter(self._fifo.values())).submission.deadline:
                self._go_first(submission)

    def _go_first(self, submission: Submission) -> None:
        """Put all waiting items of a long request at the front of the FIFO, longest first."""
        if submission in self._backlogs:
            for item in self._backlogs.pop(submission).items:
                self._fifo[item.key] = self._backlogged.pop(item.key)
        for item in sorted(submission.items, key=_length):
            if self._fifo.get(item.key) is item:
                self._fifo.move_to_end(item.key, last=False)

    def _advance(self, submission: Submission) -> None:
        """After an item of a long request has left the FIFO, let the next one join."""
        backlog = self._backlogs[submission]
        backlog.places -= 1
        if backlog.places < self._policy.max_items:  # false if it had inherited a place
            backlog.places += 1
            key = backlog.items[-1].key
            self._fifo[key] = self._backlogged.pop(key)
            self._leave_backlog(self._fifo[key])

    def _leave_backlog(self, item: Item) -> None:
        """Remove an item from the backlog of its request."""
        backlog = self._backlogs[item.submission]
        backlog.remove(item)
        if not backlog.items:
            del self._backlogs[item.submission]

    def _near(self, length: int) -> Iterator[Item]:
        """Of each backlog the items nearest to a length."""
        for backlog in self._backlogs.values():
            yield from backlog.near(length, self._policy.max_items)

    def _count_pending(self, item: Item, tokens: int) -> None:
        """Count tokens of an item that are to be computed, or negative ones that no longer are."""
        item.submission.pending_tokens += tokens
        self.pending_tokens += tokens

    def _count_one_less(self, submission: Submission) -> None:
        """One item of a request waits no longer; after the last the request is forgotten."""
        self._waiting -= 1
        left = self._waiting_of[submission] - 1
        if left:
            self._waiting_of[submission] = left
        else:
            del self._waiting_of[submission]
            self._long.pop(submission, None)

    def _expire(self, now: float) -> list[tuple[Submission, int]]:
        """Remove the requests whose deadline has passed."""
        expired = [(s, self.remove(s)) for s in list(self._waiting_of) if s.deadline <= now]
        self._next_deadline = min((s.deadline for s in self._waiting_of), default=math.inf)
        return expired
