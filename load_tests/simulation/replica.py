"""A replica in virtual time: workers with the service's own queue and admission.

The core of a worker is shared by its event loop, which goes first, and one engine thread. A request
keeps the loop busy for a while, which delays the run in progress by as much. Then it is admitted or
refused, waits, and is computed in batches as the service forms them.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from app.serving.admission import Admission, EngineLoad, Run
from app.serving.request_queue import BatchPolicy, Item, RequestQueue, Submission
from load_tests.simulation.alarm import Counters
from load_tests.simulation.service_times import ServiceTimes
from load_tests.simulation.virtual_time import VirtualTime

POLICY: Final = BatchPolicy(
    max_items=8, max_tokens=16_384, max_queue_delay_s=0.0, max_queue_items=4096
)
"""The defaults of the service."""
DEADLINE_S: Final = 10.0
"""The default deadline of the service."""

_NO_FUTURE: Any = None  # the queue never touches the future of a request
_KEY_BYTES: Final = 8

Answered = Callable[[bool], None]
"""Called with True when a request is answered, with False when it is refused or dropped."""


class _Ids:
    """Stands for an array of ids: it has a length, and is equal to no other."""

    __slots__ = ("_key", "_length")

    def __init__(self, length: int, key: int) -> None:
        self._length = length
        self._key = key

    def __len__(self) -> int:
        return self._length

    def tobytes(self) -> bytes:
        return self._key.to_bytes(_KEY_BYTES, "little")


class Worker:
    """One process on one core, with one model.

    Args:
        time: The clock and the events.
        times: How long everything takes.
        policy: How batches are formed.
        deadline_s: Of each request.

    Attributes:
        counters: What it has counted so far.
        in_flight: Requests without an answer.
    """

    def __init__(
        self,
        time: VirtualTime,
        times: ServiceTimes,
        policy: BatchPolicy = POLICY,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.counters = Counters()
        self.in_flight = 0
        self._time = time
        self._times = times
        self._deadline_s = deadline_s
        clock = time.read
        self._queue = RequestQueue(policy, clock)
        self._admission = Admission(
            EngineLoad(1),
            pending_tokens=lambda: self._queue.pending_tokens,
            max_items=policy.max_items,
            clock=clock,
        )
        self._loop_free_at = 0.0
        self._run_ends_at = 0.0
        self._running = False
        self._run_began_at = 0.0
        self._next_key = 0
        self._open: dict[Submission, Answered] = {}

    def send(self, lengths: Sequence[int], answered: Answered) -> None:
        """A request arrives, with so many tokens in each text."""
        times, now = self._times, self._time.now
        loop_s = times.request_s + times.text_s * len(lengths)
        self.in_flight += 1
        self.counters.busy_s += loop_s
        self._run_ends_at += loop_s
        self._loop_free_at = max(now, self._loop_free_at) + loop_s
        self._time.at(self._loop_free_at, self._admit, (lengths, answered, now))

    def _admit(self, request: tuple[Sequence[int], Answered, float]) -> None:
        lengths, answered, arrived = request
        deadline = arrived + self._deadline_s
        late_s = self._admission.lateness_s(sum(lengths), deadline)
        rows: Any = [_Ids(length, self._count()) for length in lengths]
        submission = Submission(rows, arrived=self._time.now, deadline=deadline, settled=_NO_FUTURE)
        if late_s > 0 or not self._queue.enqueue(submission):
            self._end(answered, good=False)
            return
        self._open[submission] = answered
        self._start()

    def _count(self) -> int:
        self._next_key += 1
        return self._next_key

    def _start(self) -> None:
        """Start the next batch, if the engine is free and there is one."""
        while not self._running:
            admission, now = self._admission, self._time.now
            batch, expired = self._queue.take_batch(
                pace=admission.pace, best_pace=admission.best_pace(now)
            )
            for submission, _ in expired:
                self._settle(submission, good=False)
            if not batch:
                return
            lengths = [item.length for item in batch]
            run_s = self._times.run_s + self._times.token_s * max(lengths) * len(lengths)
            self._running = True
            self._run_began_at = now
            self.counters.busy_s += run_s
            for item in batch:
                self.counters.count_delay(now - item.submission.arrived)
            self._run_ends_at = max(now, self._loop_free_at) + run_s
            run = admission.begin(sum(lengths), len(lengths))
            self._time.at(self._run_ends_at, self._finish, (run, batch))

    def _finish(self, what: tuple[Run, list[Item]]) -> None:
        if self._time.now < self._run_ends_at:  # the event loop has taken the core meanwhile
            self._time.at(self._run_ends_at, self._finish, what)
            return
        run, batch = what
        self._running = False
        self.counters.engine_s += self._time.now - self._run_began_at
        self._admission.end(run)
        for item in batch:
            self._queue.finish(item)
            submission = item.submission
            submission.unsettled -= 1
            if submission.unsettled == 0:
                self._settle(submission, good=self._time.now <= submission.deadline)
            del item.submission  # break the reference cycle
        self._start()

    def _settle(self, submission: Submission, *, good: bool) -> None:
        answered = self._open.pop(submission, None)
        if answered is not None:
            self._end(answered, good=good)

    def _end(self, answered: Answered, *, good: bool) -> None:
        self.in_flight -= 1
        answered(good)


class Replica:
    """A pod: one worker for each core, each with the connections that came to it.

    Args:
        time: The clock and the events.
        times: How long everything takes.
        cores: The number of workers.
        rng: Chooses the worker of a request.
        node: The number of its node.
        policy: How batches are formed.
    """

    def __init__(
        self,
        time: VirtualTime,
        times: ServiceTimes,
        cores: int,
        rng: random.Random,
        *,
        node: int = 0,
        policy: BatchPolicy = POLICY,
    ) -> None:
        self.node = node
        self.lost = False
        self.in_flight = 0
        self._rng = rng
        self._workers = [Worker(time, times, policy) for _ in range(cores)]

    def count(self) -> Counters:
        """What its workers have counted so far."""
        total = Counters()
        for worker in self._workers:
            total.add(worker.counters)
        return total

    def send(self, lengths: Sequence[int], answered: Answered) -> None:
        """A request arrives; if the node is lost, nobody will ever answer."""
        self.in_flight += 1
        if self.lost:
            answered(False)
            return
        worker = self._workers[0] if len(self._workers) == 1 else self._rng.choice(self._workers)

        def done(good: bool) -> None:
            self.in_flight -= 1
            answered(good and not self.lost)

        worker.send(lengths, done)
