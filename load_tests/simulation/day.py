"""A day of traffic, second by second: what an autoscaler makes of it.

A request takes milliseconds and a day has a billion of them, so a second is the smallest step here.
Within one the replicas behave as they do at a constant rate, which `make_table` has simulated by
discrete events. Only what takes longer is followed: pods that start, windows of the autoscaler,
spikes, and nodes that are lost.
"""

import bisect
import math
import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from load_tests.simulation.alarm import WINDOW_S, Alarm, Counters
from load_tests.simulation.autoscaler import (
    SYNC_S,
    Autoscaler,
    Average,
    Metric,
    Utilization,
    Value,
)
from load_tests.simulation.cluster import Pods, Target
from load_tests.simulation.steady import Row

DAY_S: Final = 86_400
_QUIET_HOUR: Final = 4
"""The hour with the least traffic."""
_RAMP_S: Final = 60.0
_P99: Final = 0.99
_SYNCS: Final = round(WINDOW_S / SYNC_S)
"""The queries of the component keda look back at a minute."""


@dataclass(frozen=True, slots=True)
class Spike:
    """More traffic for a while.

    Attributes:
        at_s: When it begins to grow, for a minute.
        seconds: How long it lasts.
        factor: The traffic, divided by that of the hour.
    """

    at_s: float
    seconds: float
    factor: float

    def at(self, time: float) -> float:
        """The factor at a time."""
        into, left = time - self.at_s, self.at_s + self.seconds - time
        share = min(1.0, max(0.0, min(into, left) / _RAMP_S))
        return 1 + (self.factor - 1) * share


@dataclass(frozen=True, slots=True)
class Profile:
    """The traffic of a day: a wave between the lowest and the highest rate, and spikes.

    Attributes:
        highest: Requests per second at the busiest hour, without spikes.
        lowest: At the quietest.
        spikes: Each multiplies the traffic.
    """

    highest: float
    lowest: float
    spikes: Sequence[Spike] = ()

    def rate(self, time: float) -> float:
        """Requests per second at a time of the day, in seconds."""
        angle = 2 * math.pi * (time / DAY_S - _QUIET_HOUR / 24)
        rate = self.lowest + (self.highest - self.lowest) * (1 - math.cos(angle)) / 2
        for spike in self.spikes:
            rate *= spike.at(time)
        return rate


def make_spikes(count: int, factor: float, seed: int) -> list[Spike]:
    """Spikes of ten minutes at random times."""
    rng = random.Random(seed)  # noqa: S311 - the same day for the same seed
    return [Spike(rng.uniform(0, DAY_S - 600), 600, factor) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Trouble:
    """A time in which the objective was broken.

    Attributes:
        at_s: Its beginning.
        seconds: Its duration.
        cause: A word for what was missing.
        worst_p99_ms: The highest p99 of a second.
        failed: Requests without a prediction.
    """

    at_s: float
    seconds: int
    cause: str
    worst_p99_ms: float
    failed: float


@dataclass(slots=True)
class Day:
    """What became of a day.

    Attributes:
        sent: Requests.
        failed: Those without a prediction.
        p99_ms: Of all answers of the day.
        broken_s: Seconds with a p99 above the limit or a failed request.
        pod_hours: Of all pods that were there, ready or not.
        most_pods: The most of them.
        troubles: When the objective was broken, in order.
        rates, pods, p99s_ms: Of each minute, for the picture.
    """

    sent: float = 0.0
    failed: float = 0.0
    p99_ms: float = 0.0
    broken_s: int = 0
    pod_hours: float = 0.0
    most_pods: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    pods: list[int] = field(default_factory=list)
    p99s_ms: list[float] = field(default_factory=list)

    @property
    def failed_share(self) -> float:
        """The share of requests without a prediction."""
        return self.failed / self.sent if self.sent else 0.0


class At(NamedTuple):
    """What a replica does at a rate, between two rows of the table.

    Attributes:
        left: The row with the next lower rate.
        share: How near the rate is to the row after it, from 0 to 1.
        failed_share: The share of requests without a prediction.
        utilization: In percent of the cores.
        in_flight: Requests in flight.
        p99_ms: The 99th percentile of the latency.
    """

    left: int
    share: float
    failed_share: float
    utilization: float
    in_flight: float
    p99_ms: float


class Table:
    """What a replica does at any rate, between and beyond the rows.

    Below the first row and beyond the last it does what it does there; what exceeds the last row
    fails.

    Args:
        rows: By increasing rate, at least two.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._rates = [row.rate for row in rows]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def at(self, rate: float) -> At:
        """Read the table."""
        rates, rows = self._rates, self._rows
        left = min(max(bisect.bisect_right(rates, rate) - 1, 0), len(rates) - 2)
        low, high = rows[left], rows[left + 1]
        share = min(1.0, max(0.0, (rate - low.rate) / (high.rate - low.rate)))
        failed = low.failed_share + (high.failed_share - low.failed_share) * share
        if rate > rates[-1]:
            failed = 1 - (1 - failed) * rates[-1] / rate
        return At(
            left,
            share,
            failed,
            low.utilization + (high.utilization - low.utilization) * share,
            low.in_flight + (high.in_flight - low.in_flight) * share,
            low.p99_ms + (high.p99_ms - low.p99_ms) * share,
        )

    def count(self, seconds: Sequence[float]) -> Counters:
        """What the metrics of pods count.

        Args:
            seconds: For each row, in which a pod does what it has.

        Returns:
            The counts for each core of a pod.
        """
        total = Counters()
        for row, weight in zip(self._rows, seconds, strict=True):
            if weight:
                total.add(row.counters, weight)
        return total

    def quantile_ms(self, weights: Sequence[float], share: float) -> float:
        """A quantile of the latencies of all answers.

        Args:
            weights: The number of answers for each row.
            share: From 0 to 1.
        """
        pairs = sorted(
            (latency, weight / len(row.sample_ms))
            for row, weight in zip(self._rows, weights, strict=True)
            for latency in row.sample_ms
            if weight
        )
        total, seen = sum(weight for _, weight in pairs), 0.0
        for latency, weight in pairs:
            seen += weight
            if seen >= share * total:
                return latency
        return 0.0


def simulate_day(
    profile: Profile,
    table: Table,
    target: Target,
    pods: Pods,
    *,
    limit_ms: float,
    replicas: int,
    node_lost_at: float | None = None,
    avoids_lost: bool = False,
    seconds: int = DAY_S,
) -> Day:
    """Let an autoscaler follow a day.

    Args:
        profile: The traffic.
        table: What a replica does.
        target: What the autoscaler follows.
        pods: What becomes of pods.
        limit_ms: The objective for p99.
        replicas: How many there are at midnight.
        node_lost_at: When a node is lost, in seconds; None: never.
        avoids_lost: Whether the balancer stops sending to pods that do not answer, before the
            cluster has noticed: one that prefers few requests in flight does.
        seconds: From midnight.
    """
    day = _Day(profile, table, target, pods, limit_ms, replicas, avoids_lost)
    return day.run(node_lost_at, seconds)


class _Day:
    def __init__(
        self,
        profile: Profile,
        table: Table,
        target: Target,
        pods: Pods,
        limit_ms: float,
        replicas: int,
        avoids_lost: bool,
    ) -> None:
        self._avoids_lost = avoids_lost
        self._profile = profile
        self._table = table
        self._target = target
        self._pods = pods
        self._limit_ms = limit_ms
        self._autoscaler = Autoscaler(target.scaling)
        self._wanted = self._ready = replicas
        self._dead = 0  # lost, of which the balancer does not know
        self._unreplaced = 0  # lost, of which the cluster does not know
        self._starting: deque[tuple[float, int]] = deque()
        self._used = self._flying = 0.0  # sums since the last sync: for a ready pod, and for all
        self._means_flying: deque[float] = deque(maxlen=_SYNCS)
        self._pod_seconds = [0.0] * len(table)  # since the last sync, by row
        self._counted: deque[tuple[Counters, float]] = deque(maxlen=_SYNCS)  # and pod seconds
        self._weights = [0.0] * len(table)
        self._day = Day()
        self._trouble: Trouble | None = None

    def run(self, node_lost_at: float | None, seconds: int) -> Day:
        """Follow the day."""
        day, pods = self._day, self._pods
        for second in range(seconds):
            if node_lost_at is not None:
                if second == int(node_lost_at):
                    self._dead = self._unreplaced = math.ceil(self._ready / pods.nodes)
                    self._ready -= self._dead
                if second == int(node_lost_at + pods.notice_s):
                    self._dead = 0
                if second == int(node_lost_at + pods.replace_s):
                    self._start(second, self._unreplaced)
                    self._unreplaced = 0
            while self._starting and self._starting[0][0] <= second:
                self._ready += self._starting.popleft()[1]
            self._ready = min(self._ready, max(0, self._wanted - self._unreplaced))
            self._live_through(second)
            if second % SYNC_S == SYNC_S - 1:
                self._sync(second)
        self._end_trouble()
        day.p99_ms = self._table.quantile_ms(self._weights, _P99)
        return day

    def _live_through(self, second: int) -> None:
        day, table = self._day, self._table
        rate = self._profile.rate(second)
        asked = self._ready + (0 if self._avoids_lost else self._dead)
        reached = self._ready / asked if self._ready else 0.0
        at = table.at(rate * reached / self._ready if self._ready else 0.0)
        failed = rate * (1 - reached * (1 - at.failed_share))
        self._weights[at.left] += (rate - failed) * (1 - at.share)
        self._weights[at.left + 1] += (rate - failed) * at.share
        self._used += at.utilization
        self._flying += at.in_flight * self._ready
        self._pod_seconds[at.left] += self._ready * (1 - at.share)
        self._pod_seconds[at.left + 1] += self._ready * at.share
        count = self._ready + self._dead + sum(number for _, number in self._starting)
        day.sent += rate
        day.failed += failed
        day.pod_hours += count / 3600
        day.most_pods = max(day.most_pods, count)
        if second % 60 == 0:
            day.rates.append(rate)
            day.pods.append(self._ready)
            day.p99s_ms.append(at.p99_ms)
        if at.p99_ms > self._limit_ms or failed > rate * 1e-6:
            day.broken_s += 1
            self._note_trouble(second, at.p99_ms, failed)
        else:
            self._end_trouble()

    def _note_trouble(self, second: int, p99_ms: float, failed: float) -> None:
        if self._dead or self._unreplaced:
            cause = "a node is lost"
        elif self._starting:
            cause = "pods are starting"
        elif self._wanted >= self._target.scaling.most:
            cause = "there may be no more pods"
        else:
            cause = "the autoscaler has not noticed"
        before = self._trouble
        if before is None:
            self._trouble = Trouble(second, 1, cause, p99_ms, failed)
            return
        self._trouble = Trouble(  # the first cause is the one that matters
            before.at_s,
            before.seconds + 1,
            before.cause,
            max(before.worst_p99_ms, p99_ms),
            before.failed + failed,
        )

    def _end_trouble(self) -> None:
        if self._trouble is not None:
            self._day.troubles.append(self._trouble)
            self._trouble = None

    def _start(self, second: int, count: int) -> None:
        if count:
            self._starting.append((second + self._pods.start_s, count))

    def _sync(self, second: int) -> None:
        target, metrics = self._target, list[Metric]()
        starting = sum(number for _, number in self._starting)
        used = self._used / SYNC_S
        self._means_flying.append(self._flying / SYNC_S)
        self._used = self._flying = 0.0
        if target.utilization is not None:
            metrics.append(Utilization([used] * self._ready, starting, target.utilization))
        if target.in_flight is not None:
            metrics.append(Average(statistics.fmean(self._means_flying), target.in_flight))
        if target.alarm is not None:
            metrics.append(self._look_at_queues(target.alarm))
        decided = self._autoscaler.decide(second, self._wanted, metrics)
        if decided > self._wanted:
            self._start(second, decided - self._wanted)
        self._wanted = decided

    def _look_at_queues(self, alarm: Alarm) -> Value:
        seconds = self._pod_seconds
        self._counted.append((self._table.count(seconds), sum(seconds)))
        self._pod_seconds = [0.0] * len(seconds)
        total, pod_s = Counters(), 0.0
        for counters, lived_s in self._counted:
            total.add(counters)
            pod_s += lived_s
        return alarm.metric(total.delays, total.engine_s / pod_s if pod_s else 0.0)
