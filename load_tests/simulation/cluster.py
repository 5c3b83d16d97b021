"""A cluster in virtual time: arrivals, a balancer, replicas, an autoscaler, nodes that are lost."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from app.serving.request_queue import BatchPolicy
from load_tests.simulation.alarm import WINDOW_S, Alarm, Counters
from load_tests.simulation.autoscaler import (
    SYNC_S,
    Autoscaler,
    Average,
    Metric,
    Scaling,
    Utilization,
    Value,
)
from load_tests.simulation.replica import POLICY, Replica
from load_tests.simulation.service_times import Lengths, ServiceTimes
from load_tests.simulation.virtual_time import VirtualTime
from load_tests.slo import percentile

Method = Literal["random", "round-robin", "least-requests"]
METHODS: Final[tuple[Method, ...]] = ("random", "round-robin", "least-requests")
Rate = Callable[[float], float]
"""Requests per second at a time, in seconds."""

NOTICE_S: Final = 50.0
"""A node that says nothing for so long gets no more requests.

Source:
    kube-controller-manager: the default of --node-monitor-grace-period since Kubernetes 1.32.
"""
REPLACE_S: Final = NOTICE_S + 300
"""Then its pods wait for so long until others are started in their place.

Source:
    Kubernetes, "Taints and Tolerations": tolerationSeconds of node.kubernetes.io/unreachable that
    the cluster adds to pods without one.
"""


@dataclass(frozen=True, slots=True)
class Pods:
    """What becomes of pods.

    Attributes:
        start_s: From the decision until a pod is ready.
        notice_s: From the loss of a node until its pods get no more requests.
        replace_s: From the loss of a node until its pods are started elsewhere.
        nodes: The number of nodes.
    """

    start_s: float = 10.0
    notice_s: float = NOTICE_S
    replace_s: float = REPLACE_S
    nodes: int = 3


@dataclass(frozen=True, slots=True)
class Target:
    """What the autoscaler follows.

    Attributes:
        scaling: Bounds and behaviour.
        utilization: The target for the CPU, in percent of the request; None: it is not followed.
        in_flight: The target for the requests in flight on a pod; None: they are not followed.
        alarm: When a queue multiplies the pods; None: never.
    """

    scaling: Scaling
    utilization: float | None = None
    in_flight: float | None = None
    alarm: Alarm | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests.

    Attributes:
        rate: Requests per second over time.
        highest: The most that it ever is.
        lengths: Draws the tokens of a text.
        list_share: The share of requests with several texts.
        list_size: How many these have.
    """

    rate: Rate
    highest: float
    lengths: Lengths
    list_share: float = 0.0
    list_size: int = 1


@dataclass(slots=True)
class Outcome:
    """What became of the requests.

    Attributes:
        latencies_s: Of those that were answered, in the order of their answers.
        refused: Refused or dropped by a replica.
        lost: Sent to a replica that was lost, or to none.
        pods: The time and the number of ready pods, at each change.
        counters: What all replicas have counted.
        in_flight_s: The sum over all requests of the time they were in flight.
        seconds: The duration.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    lost: int = 0
    pods: list[tuple[float, int]] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    in_flight_s: float = 0.0
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """The number of requests."""
        return len(self.latencies_s) + self.refused + self.lost

    @property
    def failed_share(self) -> float:
        """The share of requests that got no prediction."""
        return (self.refused + self.lost) / self.sent if self.sent else 0.0

    def quantile_s(self, share: float) -> float:
        """A nearest-rank quantile of the latency; 0 without answers."""
        return percentile(self.latencies_s, share)


class Cluster:
    """Replicas behind a balancer.

    Args:
        times: Of each replica.
        cores: Of each replica.
        replicas: How many there are at first.
        method: How requests are balanced.
        seed: Determines everything that is random.
        pods: What becomes of pods.
        target: What the autoscaler follows; None: the number of replicas is fixed.
        policy: How batches are formed.
    """

    def __init__(
        self,
        times: ServiceTimes,
        *,
        cores: int,
        replicas: int,
        method: Method,
        seed: int,
        pods: Pods | None = None,
        target: Target | None = None,
        policy: BatchPolicy = POLICY,
    ) -> None:
        self._times = times
        self._cores = cores
        self._method = method
        self._pods = pods or Pods()
        self._policy = policy
        self._rng = random.Random(seed)  # noqa: S311 - the same run for the same seed
        self._time = VirtualTime()
        self._turn = 0
        self._wanted = replicas
        self._starting = 0
        self._placed = 0
        self._replicas: list[Replica] = []  # those that get requests
        self._unnoticed: list[Replica] = []  # lost, of which the balancer does not know
        self._gone = Counters()  # of replicas that were removed or lost
        self._outcome = Outcome()
        self._counted_from = 0.0
        self._target = target
        self._autoscaler = Autoscaler(target.scaling) if target else None
        self._busy_before_s: dict[Replica, float] = {}
        self._counted = Counters()  # at the last sync
        self._recent: deque[tuple[Counters, int]] = deque(maxlen=round(WINDOW_S / SYNC_S))
        for _ in range(replicas):
            self._add(None)
            self._busy_before_s[self._replicas[-1]] = 0.0

    def run(
        self,
        traffic: Traffic,
        seconds: float,
        *,
        warm_up_s: float = 0.0,
        node_lost_at: float | None = None,
    ) -> Outcome:
        """Let requests arrive for a time, and wait for the last answers.

        Args:
            traffic: The requests.
            seconds: The duration, without the warm-up.
            warm_up_s: For so long before it requests are sent and not counted.
            node_lost_at: When the node with number 0 is lost, after the warm-up.
        """
        self._traffic = traffic
        self._counted_from = warm_up_s
        self._ends_at = warm_up_s + seconds
        self._time.at(0.0, self._arrive, True)
        if self._autoscaler is not None:
            self._time.at(SYNC_S, self._sync, None)
        if node_lost_at is not None:
            self._time.at(warm_up_s + node_lost_at, self._lose_node, 0)
        self._time.run(warm_up_s)
        before = self._count()
        self._time.run(self._ends_at)
        outcome = self._outcome
        outcome.counters = self._count().since(before)
        outcome.seconds = seconds
        self._time.run()
        return outcome

    def _count(self) -> Counters:
        total = Counters()
        total.add(self._gone)
        for replica in self._replicas:
            total.add(replica.count())
        return total

    # --- requests

    def _arrive(self, first: bool) -> None:
        """A request may arrive now, and another one later: a Poisson process that is thinned."""
        traffic, rng, now = self._traffic, self._rng, self._time.now
        if not first and rng.random() * traffic.highest < traffic.rate(now - self._counted_from):
            self._send(now)
        later = now + rng.expovariate(traffic.highest)
        if later < self._ends_at:
            self._time.at(later, self._arrive, False)

    def _send(self, now: float) -> None:
        traffic, rng, outcome = self._traffic, self._rng, self._outcome
        size = traffic.list_size if rng.random() < traffic.list_share else 1
        lengths = [traffic.lengths.draw(rng) for _ in range(size)]
        counted = now >= self._counted_from
        replica = self._choose()
        if replica is None:
            outcome.lost += counted
            return

        def answered(good: bool) -> None:
            if not counted:
                return
            latency_s = self._time.now - now + self._times.outside_s
            outcome.in_flight_s += self._time.now - now
            if good:
                outcome.latencies_s.append(latency_s)
            elif replica.lost:
                outcome.lost += 1
            else:
                outcome.refused += 1

        replica.send(lengths, answered)

    def _choose(self) -> Replica | None:
        """The replica that gets the next request."""
        known = [*self._replicas, *self._unnoticed] if self._unnoticed else self._replicas
        if not known:
            return None
        if self._method == "random":
            return known[int(self._rng.random() * len(known))]
        self._turn += 1
        if self._method == "round-robin":
            return known[self._turn % len(known)]
        start = self._turn % len(known)  # of equals another one each time
        least = min(replica.in_flight for replica in known)
        for index in range(len(known)):
            replica = known[(start + index) % len(known)]
            if replica.in_flight == least:
                return replica
        raise AssertionError("one of them has the least")

    # --- pods

    def _add(self, _: None) -> None:
        """A pod is ready."""
        node = self._placed % self._pods.nodes
        self._placed += 1
        replica = Replica(
            self._time, self._times, self._cores, self._rng, node=node, policy=self._policy
        )
        self._replicas.append(replica)
        self._note_pods()

    def _start_pods(self, count: int) -> None:
        self._starting += count
        for _ in range(count):
            self._time.at(self._time.now + self._pods.start_s, self._become_ready, None)

    def _become_ready(self, _: None) -> None:
        self._starting -= 1
        if len(self._replicas) < self._wanted:
            self._add(None)

    def _remove(self, count: int) -> None:
        """Pods that are removed finish what they have: only the balancer forgets them."""
        for _ in range(min(count, len(self._replicas) - 1)):
            self._forget(self._replicas.pop())
        self._note_pods()

    def _forget(self, replica: Replica) -> None:
        self._gone.add(replica.count())
        self._busy_before_s.pop(replica, None)

    def _lose_node(self, node: int) -> None:
        """All pods of a node end with what they have; the balancer learns it later."""
        lost = [replica for replica in self._replicas if replica.node == node]
        for replica in lost:
            replica.lost = True
            self._replicas.remove(replica)
            self._forget(replica)
        self._unnoticed += lost
        self._note_pods()
        self._time.at(self._time.now + self._pods.notice_s, self._notice, lost)
        self._time.at(self._time.now + self._pods.replace_s, self._replace, len(lost))

    def _notice(self, lost: Sequence[Replica]) -> None:
        self._unnoticed = [replica for replica in self._unnoticed if replica not in lost]

    def _replace(self, count: int) -> None:
        missing = self._wanted - len(self._replicas) - self._starting
        self._start_pods(max(0, min(count, missing)))

    def _note_pods(self) -> None:
        self._outcome.pods.append((self._time.now - self._counted_from, len(self._replicas)))

    # --- the autoscaler

    def _sync(self, _: None) -> None:
        assert self._autoscaler is not None  # noqa: S101 - it is why this is called
        metrics = self._metrics()
        decided = self._autoscaler.decide(self._time.now, self._wanted, metrics)
        if decided > self._wanted:
            self._start_pods(decided - self._wanted)
        elif decided < self._wanted:
            self._remove(len(self._replicas) - decided)
        self._wanted = decided
        if self._time.now + SYNC_S < self._ends_at:
            self._time.at(self._time.now + SYNC_S, self._sync, None)

    def _metrics(self) -> list[Metric]:
        target = self._target
        assert target is not None  # noqa: S101 - as above
        metrics: list[Metric] = []
        used = []
        for replica in self._replicas:
            before, busy_s = self._busy_before_s.get(replica), replica.count().busy_s
            if before is not None:
                used.append(100 * (busy_s - before) / SYNC_S / self._cores)
            self._busy_before_s[replica] = busy_s
        if target.utilization is not None:
            unready = len(self._replicas) - len(used) + self._starting
            metrics.append(Utilization(used, unready, target.utilization))
        if target.in_flight is not None:
            total = sum(replica.in_flight for replica in self._replicas)
            metrics.append(Average(total, target.in_flight))
        if target.alarm is not None:
            metrics.append(self._look_at_queues(target.alarm))
        return metrics

    def _look_at_queues(self, alarm: Alarm) -> Value:
        counted = self._count()
        self._recent.append((counted.since(self._counted), len(self._replicas) * self._cores))
        self._counted = counted
        seen, threads = Counters(), 0
        for counters, number in self._recent:
            seen.add(counters)
            threads += number
        return alarm.metric(seen.delays, seen.engine_s / (threads * SYNC_S) if threads else 0.0)
