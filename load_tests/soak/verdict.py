"""What was counted and measured in a soak, and whether that is good enough."""

import statistics
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from load_tests.slo import percentile

MAX_GROWTH: Final = 0.02
"""Memory may grow by so much over the last half of a soak."""
MIN_TREND_S: Final = 240
"""In a shorter last half the memory of a few new workers is all there is, so it is not judged."""
SPARE_THREADS: Final = 12
"""So many more threads may be there at the end: each event loop's pool grows when it is used."""
SPARE_DESCRIPTORS: Final = 4
"""So many more descriptors may be open at the end: probes come and go."""
_MAX_POINTS: Final = 200
"""A trend looks at so many medians: its time grows with their square."""
_MAX_EXAMPLES: Final = 20

FAULTS: Final = {
    "wrong": "answers with other probabilities than that text has from that version",
    "mixed": "answers of a version that another one had taken over from",
    "lost": "complete requests on healthy connections without an answer",
    "doubled": "answers that nobody had asked for",
    "error": "answers with status 500",
    "status": "answers with a status that the request does not call for",
    "refused": "requests refused with 429, 503 or 504, though the load is light",
    "stuck": "connections that stayed open past their bound",
    "fault": "changes that did not take effect in time",
}
"""What must not happen."""
EXCUSED: Final = "lost to kills"
"""Requests in flight on a worker that was killed: their connection ended with it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at one moment.

    Attributes:
        at_s: Seconds since the start of the soak.
        pss_bytes: Memory of all its processes, shared pages counted once.
        rss_bytes: The same, shared pages counted for each process.
        threads: Of all its processes.
        descriptors: Of all its processes.
        processes: The supervisor and its workers.
        answers: Predictions since the sample before.
        p50_ms: The median of their latency; 0 without answers.
        p99_ms: The 99th percentile of their latency.
    """

    at_s: float
    pss_bytes: int
    rss_bytes: int
    threads: int
    descriptors: int
    processes: int
    answers: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


class Ledger:
    """What the clients have counted. All of them write into the same one.

    Attributes:
        turns: How many turns each kind of client has taken.
        counts: How often each of `FAULTS`, and `EXCUSED`, has happened.
        examples: The first faults, in a few words each.
        answered: Predictions that were right.
    """

    def __init__(self) -> None:
        self.turns: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self.answered = 0
        self._latencies_ms: list[float] = []
        self._lock = threading.Lock()

    def count_turn(self, kind: str) -> None:
        """A client has done what it does."""
        with self._lock:
            self.turns[kind] += 1

    def count_answer(self, latency_ms: float) -> None:
        """A right answer has come."""
        with self._lock:
            self.answered += 1
            self._latencies_ms.append(latency_ms)

    def count(self, fault: str, example: str) -> None:
        """Something has happened that must not, or that a kill excuses."""
        with self._lock:
            self.counts[fault] += 1
            if fault != EXCUSED and len(self.examples) < _MAX_EXAMPLES:
                self.examples.append(f"{fault}: {example}")

    def take_latencies(self) -> list[float]:
        """The latencies since the last call, in milliseconds."""
        with self._lock:
            taken, self._latencies_ms = self._latencies_ms, []
            return taken


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole soak.

    Attributes:
        before: The service before the traffic, when it had been warmed up.
        samples: Each second of the traffic.
        after: The service when all clients had left.
        counts: As in `Ledger`.
        answered: Predictions that were right.
        examples: As in `Ledger`.
        events: What was done to the service, with the seconds since the start.
    """

    before: Sample
    samples: Sequence[Sample]
    after: Sample
    counts: Counter[str]
    answered: int
    examples: Sequence[str] = ()
    events: Sequence[tuple[float, str]] = field(default=())

    @property
    def growth(self) -> float:
        """The growth of memory over the last half; 0.01 is one percent."""
        last = self.samples[len(self.samples) // 2 :]
        return growth([sample.pss_bytes for sample in last])


def summarize(latencies_ms: Sequence[float]) -> tuple[int, float, float]:
    """The number of latencies, their median and their 99th percentile."""
    return len(latencies_ms), percentile(latencies_ms, 0.5), percentile(latencies_ms, 0.99)


def growth(values: Sequence[float]) -> float:
    """How much a series grows from its beginning to its end, as a share of its median.

    The slope is the median of the slopes between all pairs of points, so that peaks, such as two
    versions in memory during a swap, do not matter.

    Source:
        Sen, P. K. (1968): Estimates of the regression coefficient based on Kendall's tau.
    """
    size = -(-len(values) // _MAX_POINTS) or 1
    points = [
        statistics.median(values[start : start + size]) for start in range(0, len(values), size)
    ]
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(points), 2)]
    if not slopes:
        return 0.0
    return statistics.median(slopes) * (len(points) - 1) / statistics.median(points)


def judge(outcome: Outcome) -> list[str]:
    """Each broken promise as a sentence; an empty list means that all were kept.

    A soak without answers counts as broken, because it shows nothing.
    """
    broken = [
        f"{outcome.counts[fault]} {what}" for fault, what in FAULTS.items() if outcome.counts[fault]
    ]
    if not outcome.answered:
        broken.append("no text was answered")
    if outcome.growth > MAX_GROWTH and len(outcome.samples) >= 2 * MIN_TREND_S:
        broken.append(
            f"memory grew by {outcome.growth:.1%} over the last half, at most {MAX_GROWTH:.0%}"
        )
    for what, before, after, spare in (
        ("processes", outcome.before.processes, outcome.after.processes, 0),
        ("threads", outcome.before.threads, outcome.after.threads, SPARE_THREADS),
        (
            "descriptors",
            outcome.before.descriptors,
            outcome.after.descriptors,
            SPARE_DESCRIPTORS,
        ),
    ):
        if after > before + spare:
            broken.append(f"{after} {what} at the end, {before} at the start")
    return broken


def describe(outcome: Outcome) -> str:
    """The figures, a line each, and the verdict."""
    samples = outcome.samples
    done = Counter(name for _, name in outcome.events)
    p99 = [sample.p99_ms for sample in samples if sample.answers]
    lines = [
        f"answered: {outcome.answered} predictions in {samples[-1].at_s:.0f} s"
        if samples
        else "answered: none",
        "done to it: "
        + (", ".join(f"{n} {name}" for name, n in sorted(done.items())) or "nothing"),
        ", ".join(f"{fault}: {outcome.counts[fault]}" for fault in (*FAULTS, EXCUSED)),
        f"p99 of a second: median {statistics.median(p99):.0f} ms, highest {max(p99):.0f} ms"
        if p99
        else "p99: unknown",
        f"memory: {outcome.before.pss_bytes / 1e6:.0f} MB before, "
        f"{outcome.after.pss_bytes / 1e6:.0f} MB after, {outcome.growth:+.1%} over the last half",
        f"threads: {outcome.before.threads} before, {outcome.after.threads} after; descriptors: "
        f"{outcome.before.descriptors} before, {outcome.after.descriptors} after",
        *(f"  {example}" for example in outcome.examples),
    ]
    broken = judge(outcome)
    lines += [f"BROKEN: {sentence}" for sentence in broken] or ["All promises were kept."]
    return "\n".join(lines) + "\n"
