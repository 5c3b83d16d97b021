"""A server in virtual time: the real queue and admission, and an engine that only takes time.

A second of load takes milliseconds, and the same arrivals have the same outcome every time.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.serving.admission import Admission, EngineLoad, Run
from app.serving.request_queue import BatchPolicy, Item, RequestQueue, Submission
from tests.fakes import ManualClock

NO_FUTURE: Any = None  # the queue never touches the future of a request

Lengths = Callable[[random.Random], tuple[int, ...]]
"""Draws the tokens of each text of a request."""
RunSeconds = Callable[[float, Sequence[int]], float]
"""How long a run takes that begins at a time and has texts of these lengths."""

POLICY = BatchPolicy(max_items=8, max_tokens=16_384, max_queue_delay_s=0.0, max_queue_items=4096)
"""The defaults of the service."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request.

    Attributes:
        at: When it arrives, in seconds.
        lengths: The tokens of each of its texts.
        patience_s: Seconds from its arrival to its deadline.
    """

    at: float
    lengths: tuple[int, ...]
    patience_s: float


class Outcome:
    """What became of the requests.

    Attributes:
        answered: Answered in time.
        late: Answered after their deadline.
        refused: Refused when they arrived.
        dropped: Admitted, and ended without an answer.
        seconds: When the last run ended.
    """

    def __init__(self) -> None:
        self.answered: list[Arrival] = []
        self.late: list[Arrival] = []
        self.refused: list[Arrival] = []
        self.dropped: list[Arrival] = []
        self.seconds = 0.0

    @property
    def texts_per_s(self) -> float:
        """Texts answered in time, per second."""
        return count_texts(self.answered) / self.seconds


def count_texts(arrivals: Iterable[Arrival]) -> int:
    """The number of texts of requests."""
    return sum(len(arrival.lengths) for arrival in arrivals)


def poisson(
    rate: float, seconds: float, lengths: Lengths, *, patience_s: float, start: float = 0.0
) -> Iterator[Arrival]:
    """Requests that know nothing of each other, with a mean rate per second."""
    rng = random.Random(round(rate))
    at = start
    while (at := at + rng.expovariate(rate)) < start + seconds:
        yield Arrival(at, lengths(rng), patience_s)


class Simulation:
    """One process with one model: its queue, its admission and its engine slots.

    Args:
        run_seconds: The engine.
        admits_all: Whether deadlines are ignored until they pass, as if there were no admission.
        slots: The number of runs at once.
    """

    def __init__(
        self,
        run_seconds: RunSeconds,
        *,
        admits_all: bool = False,
        slots: int = 1,
        policy: BatchPolicy = POLICY,
    ) -> None:
        self.clock = ManualClock()
        self.clock.now = 0.0
        self.queue = RequestQueue(policy, self.clock)
        self.admission = Admission(
            EngineLoad(slots),
            pending_tokens=lambda: self.queue.pending_tokens,
            max_items=policy.max_items,
            clock=self.clock,
        )
        self._admits_all = admits_all
        self._run_seconds = run_seconds
        self._free = slots
        self._outcome = Outcome()
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._numbers = itertools.count()
        self._open: dict[Submission, Arrival] = {}

    def run(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Let requests arrive, and wait until nothing is left."""
        for arrival in arrivals:
            self._at(arrival.at, self._arrive, arrival)
        while self._events:
            self.clock.now, _, happen, subject = heapq.heappop(self._events)
            happen(subject)
            while self._free and self._start():
                pass
        return self._outcome

    def _at(self, time: float, happen: Callable[..., None], subject: Any) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), happen, subject))

    def _arrive(self, arrival: Arrival) -> None:
        deadline = arrival.at + arrival.patience_s
        tokens = sum(arrival.lengths)
        late_s = 0.0 if self._admits_all else self.admission.lateness_s(tokens, deadline)
        rows = [self._unique_row(length) for length in arrival.lengths]
        submission = Submission(rows, arrived=arrival.at, deadline=deadline, settled=NO_FUTURE)
        if late_s > 0 or not self.queue.enqueue(submission):
            self._outcome.refused.append(arrival)
            return
        self._open[submission] = arrival
        self._at(deadline, self._expire, submission)

    def _unique_row(self, length: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.full(length, next(self._numbers), dtype=np.int32)

    def _expire(self, submission: Submission) -> None:
        """The deadline has passed: the caller is told, and leaves."""
        self.queue.remove(submission)
        self._end(submission, self._outcome.dropped)

    def _end(self, submission: Submission, where: list[Arrival]) -> None:
        if submission in self._open:
            where.append(self._open.pop(submission))

    def _start(self) -> bool:
        """Start the next batch, if there is one."""
        paces = (
            {}
            if self._admits_all
            else {
                "pace": self.admission.pace,
                "best_pace": self.admission.best_pace(self.clock.now),
            }
        )
        batch, expired = self.queue.take_batch(**paces)
        for submission, _ in expired:
            self._end(submission, self._outcome.dropped)
        if batch:
            self._free -= 1
            lengths = [item.length for item in batch]
            run = self.admission.begin(sum(lengths), len(lengths))
            end = self.clock.now + self._run_seconds(self.clock.now, lengths)
            self._at(end, self._finish, (run, batch))
        return bool(batch)

    def _finish(self, what: tuple[Run, list[Item]]) -> None:
        run, batch = what
        self._free += 1
        self._outcome.seconds = self.clock.now
        self.admission.end(run)
        for item in batch:
            self.queue.finish(item)
            submission = item.submission
            submission.unsettled -= 1
            if submission.unsettled == 0:
                in_time = self.clock.now <= submission.deadline
                self._end(submission, self._outcome.answered if in_time else self._outcome.late)
