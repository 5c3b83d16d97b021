"""The second trigger of the component keda: the queue delay, while the engines are busy.

A long queue alone does not ask for more pods. The texts of a list arrive together and leave in
batches, so one client that sends lists makes a queue on an idle cluster.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.telemetry.metrics import SECONDS
from load_tests.simulation.autoscaler import Value

WINDOW_S: Final = 60.0
"""What Prometheus looks back at."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """When a queue multiplies the pods, and by how much.

    Attributes:
        busy: The share of the engine threads that must have a batch, over all pods.
        quantile: Of the queue delays of all texts, from 0 to 1.
        most_s: A longer delay counts as this one, which bounds the factor.
        target_s: The delay that changes nothing.
    """

    busy: float = 0.5
    quantile: float = 0.95
    most_s: float = 0.1
    target_s: float = 0.05

    def metric(self, delays: Sequence[float], busy: float) -> Value:
        """What the autoscaler sees.

        Args:
            delays: Texts by bucket of their queue delay, as in `Counters`.
            busy: The share of the engine threads that had a batch.
        """
        delay_s = histogram_quantile(self.quantile, delays) if busy > self.busy else 0.0
        return Value(min(delay_s, self.most_s), self.target_s)


@dataclass(slots=True)
class Counters:
    """What pods have counted so far.

    Attributes:
        busy_s: Processor time.
        engine_s: Seconds of engine threads that had a batch.
        delays: Texts by bucket of their queue delay, the last one without an upper bound.
    """

    busy_s: float = 0.0
    engine_s: float = 0.0
    delays: list[float] = field(default_factory=lambda: [0.0] * (len(SECONDS) + 1))

    def count_delay(self, delay_s: float) -> None:
        """Count a text that has left the queue."""
        self.delays[bisect.bisect_left(SECONDS, delay_s)] += 1

    def add(self, other: "Counters", weight: float = 1.0) -> None:
        """Add what others have counted, so many times."""
        self.busy_s += other.busy_s * weight
        self.engine_s += other.engine_s * weight
        for index, count in enumerate(other.delays):
            self.delays[index] += count * weight

    def since(self, before: "Counters") -> "Counters":
        """What was counted after an earlier time."""
        found = Counters()
        found.add(self)
        found.add(before, -1.0)
        return found


def histogram_quantile(quantile: float, counts: Sequence[float]) -> float:
    """As Prometheus has it: linear within a bucket, the highest bound above all; 0 of nothing.

    Args:
        quantile: From 0 to 1.
        counts: By bucket, not cumulative.
    """
    rank, seen, lower = quantile * sum(counts), 0.0, 0.0
    for count, upper in zip(counts, SECONDS, strict=False):
        if count and seen + count >= rank:
            return lower + (upper - lower) * (rank - seen) / count
        seen += count
        lower = upper
    return lower if seen < rank else 0.0
