"""What can still be answered in time, and what is refused at once.

Synchronous; the clock is passed in. Decision 11 has the reasons and the measurements.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 0.7
"""The weight of everything learned before a run, next to the run itself."""
_HALF_LIFE_S: Final = 1.0
"""After so long without a run, everything learned counts half."""
_DOUBT_TOKENS: Final = 64
"""Knowledge from so few tokens counts half. What is not known is taken to be fast: the next run
corrects it, while a service that refuses everything never learns that its model is fast again."""
_MAX_STEP: Final = 4.0
"""One run counts as at most so many times slower or faster than expected, while it runs and after:
a process that was suspended says little about the next run."""
_MARGIN: Final = 0.4
"""The share of the time until a deadline that is kept for what the estimate does not know: texts
that overtake because their length fits better, HTTP, and the event loop."""
_ROOM: Final = 0.5
"""A list that is refused has room kept for it up to this share of its deadline."""
_ROOM_S: Final = 2.0
"""For so long: clients that heed `Retry-After` come back within this time."""
_CHARS_PER_TOKEN: Final = 5.0
"""Of English, until texts were seen."""
_KEPT_CHARS: Final = 0.98
"""The weight of the texts seen before, next to one text."""


@dataclass(slots=True, eq=False)
class Run:
    """One model run.

    Attributes:
        tokens: The tokens of its texts, without padding.
        rows: The number of its texts.
        started: On the clock, in seconds.
        expected_s: How long it should take; 0 if nothing is known.
    """

    tokens: int
    rows: int
    started: float
    expected_s: float


class EngineLoad:
    """The work of all models that share the engine slots of a process.

    Attributes:
        slots: The number of model runs at once.
        running: The current runs.
        models: Of each model what waits for it.
        waiting_bytes: The memory of all texts that wait, are tokenized or computed.
        refused_at: When a request was last refused, on the clock.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running: list[Run] = []
        self.models: list[Admission] = []
        self.waiting_bytes = 0
        self.refused_at = -math.inf


class _Pace:
    """Seconds per token, learned from runs of which the latest count most.

    Attributes:
        seconds, tokens, runs: Weighted sums over all runs.
    """

    __slots__ = ("_ended", "runs", "seconds", "tokens")

    def __init__(self) -> None:
        self.seconds = self.tokens = self.runs = 0.0
        self._ended = 0.0

    @property
    def mean(self) -> float:
        """Seconds per token; 0 if nothing is known."""
        return self.seconds / self.tokens if self.tokens else 0.0

    def learn(self, tokens: int, seconds: float, now: float) -> None:
        """Learn from one run that has just ended."""
        if self.tokens:
            expected_s = tokens * self.mean
            seconds = min(max(seconds, expected_s / _MAX_STEP), expected_s * _MAX_STEP)
        kept = _KEPT * self.remembered(now)
        self._ended = now
        self.seconds = self.seconds * kept + seconds
        self.tokens = self.tokens * kept + tokens
        self.runs = self.runs * kept + 1

    def guess(self, now: float, prior: float) -> float:
        """Seconds per token; near `prior` while little is known, or what is known is old."""
        remembered = self.remembered(now)
        return (self.seconds * remembered + prior * _DOUBT_TOKENS) / (
            self.tokens * remembered + _DOUBT_TOKENS
        )

    def remembered(self, now: float) -> float:
        """How much what is known counts after the time since the last run, from 1 down to 0."""
        return float(0.5 ** ((now - self._ended) / _HALF_LIFE_S))


class Admission:
    """Whether a request to one model can be answered by its deadline.

    The expected wait is the work that runs and waits, times the learned time per token. A run that
    takes longer than expected counts as evidence before it ends, so that a model which hangs or
    becomes slower is noticed at once.

    **Batches.** A text in a full batch takes a fraction of its time alone. Only runs that are at
    least half full say how fast a queue is computed. Until there are any, it is taken to be as fast
    as if a full batch took the time of one text.

    **Lists.** While single texts fill the queue to the limit, a list would never find room. So a
    list that is refused has room kept for a while: shorter requests leave it free, and the next
    list that is not longer gets it.

    Args:
        load: The work of all models in the process.
        pending_tokens: Returns the tokens that wait for this model.
        max_items: The most rows in a batch.
        clock: Monotonic, in seconds.
        background: Whether it waits behind the work of all models. It delays none of it.
    """

    def __init__(
        self,
        load: EngineLoad,
        *,
        pending_tokens: Callable[[], int],
        max_items: int,
        clock: Callable[[], float],
        background: bool = False,
    ) -> None:
        self._load = load
        self._background = background
        self._pending_tokens = pending_tokens
        self._max_items = max_items
        self._clock = clock
        self._tokenizing = 0.0
        self._pace = _Pace()  # of all runs
        self._full_pace = _Pace()  # of runs that are at least half full
        self._room_s = self._room_until = 0.0
        self._chars = self._char_tokens = 0.0
        if not background:
            load.models.append(self)

    def close(self) -> None:
        """The model serves no more."""
        if self in self._load.models:
            self._load.models.remove(self)

    # --- what runs

    def begin(self, tokens: int, rows: int) -> Run:
        """Note that a run begins."""
        now = self._clock()
        pace = self.best_pace(now) if self._is_full(rows) else self._pace.mean
        run = Run(tokens, rows, now, tokens * pace)
        self._load.running.append(run)
        return run

    def end(self, run: Run, *, learn: bool = True) -> float:
        """Note that a run has ended.

        Args:
            run: As `begin` returned it.
            learn: Whether its duration says something about the next one.

        Returns:
            Its duration, in seconds.
        """
        self._load.running.remove(run)
        now = self._clock()
        seconds = now - run.started
        if learn:
            self._pace.learn(run.tokens, seconds, now)
            if self._is_full(run.rows):
                self._full_pace.learn(run.tokens, seconds, now)
        return seconds

    def _is_full(self, rows: int) -> bool:
        return 2 * rows >= self._max_items

    # --- what is known

    @property
    def pace(self) -> float:
        """The seconds per token of recent runs, less the longer ago; 0 if nothing is known.

        The queue drops by it what cannot be computed in time. It fades, because a queue that drops
        everything would never learn that its model is fast again.
        """
        return self._pace.mean * self._pace.remembered(self._clock())

    @property
    def run_tokens(self) -> float:
        """The mean tokens of recent runs; 0 if nothing is known."""
        return self._pace.tokens / self._pace.runs if self._pace.runs else 0.0

    def best_pace(self, now: float) -> float:
        """The seconds per token of full batches; too small rather than too large."""
        return self._full_pace.guess(now, self._pace.guess(now, 0.0) / self._max_items)

    def learn_tokens(self, chars: int, tokens: int) -> None:
        """Learn how many characters a token has, from a text that was tokenized."""
        self._chars = self._chars * _KEPT_CHARS + chars
        self._char_tokens = self._char_tokens * _KEPT_CHARS + tokens

    def estimate_tokens(self, lengths: Sequence[int], max_length: int) -> float:
        """How many tokens texts probably have for the model, from their characters.

        Args:
            lengths: The characters of each text.
            max_length: The most tokens that the model reads of a text.
        """
        per_char = self._char_tokens / self._chars if self._chars else 1 / _CHARS_PER_TOKEN
        tokens = 0.0
        for chars in lengths:  # not a generator, which costs more than one text
            tokens += min(chars * per_char + 1, max_length)
        return tokens

    def tokenizing(self, tokens: float) -> None:
        """Count texts that are being tokenized; a negative number when they are done."""
        self._tokenizing += tokens

    # --- what is decided

    def wait_s(self, tokens: float) -> float:
        """Expected seconds until a request with so many tokens would be computed."""
        now = self._clock()
        return self._wait_s(tokens, now, self.best_pace(now))

    def _wait_s(self, tokens: float, now: float, pace: float) -> float:
        own_s = (self._pending_tokens() + self._tokenizing + tokens) * pace
        running_s, slowness = 0.0, 1.0
        for run in self._load.running:
            elapsed_s = now - run.started
            running_s += abs(run.expected_s - elapsed_s)
            if elapsed_s > run.expected_s > 0:
                slowness = max(slowness, min(elapsed_s / run.expected_s, _MAX_STEP))
        if self._background or len(self._load.models) > 1:
            own_s += self._others_s(own_s, now)
        return (running_s + own_s * slowness) / self._load.slots

    def lateness_s(self, tokens: float, deadline: float) -> float:
        """By how many seconds a request would miss its deadline; at most 0 if it may be admitted.

        Args:
            tokens: Of its texts, known or estimated.
            deadline: On the clock, in seconds.
        """
        now = self._clock()
        pace = self.best_pace(now)
        left_s = (deadline - now) * (1 - _MARGIN)
        wait_s = self._wait_s(tokens, now, pace)
        if now >= self._room_until:
            self._room_s = 0.0
        cost_s = tokens * pace
        if cost_s < self._room_s:
            wait_s += min(self._room_s, left_s * _ROOM)
        elif wait_s <= left_s:
            self._room_s = 0.0
        elif cost_s <= left_s * _ROOM and cost_s > self._run_s:
            self._room_s = cost_s
            self._room_until = now + _ROOM_S
        return wait_s - left_s

    @property
    def _run_s(self) -> float:
        """The mean duration of a run, in seconds; 0 if nothing is known."""
        return self._pace.seconds / self._pace.runs if self._pace.runs else 0.0

    def _others_s(self, own_s: float, now: float) -> float:
        """The work of other models that comes before some of this one.

        Models that wait take turns, batch by batch. So each other model delays this one by all of
        its work, or by a batch for each batch of this one. In the background it waits
        for all of them.
        """
        if self._background:
            models = self._load.models
            return sum(other._pending_tokens() * other.best_pace(now) for other in models)
        turns = own_s / self._run_s + 1 if self._run_s else 1.0
        total_s = 0.0
        for other in self._load.models:
            tokens = other._pending_tokens()
            if tokens and other is not self:
                total_s += min(tokens * other.best_pace(now), turns * other._run_s)
        return total_s
