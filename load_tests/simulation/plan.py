"""A rate that no machine here can offer: replicas, p99, refusals, cost, and what breaks first."""

import math
from dataclasses import dataclass
from typing import Any, Final

from load_tests.capacity.replicas import Capacity, Need, Scale, plan_scale
from load_tests.capacity.replicas import plan as plan_replicas
from load_tests.simulation.alarm import Alarm
from load_tests.simulation.autoscaler import Direction, Policy, Scaling
from load_tests.simulation.cluster import Method, Outcome, Pods, Target
from load_tests.simulation.day import Day, Profile, Table, make_spikes, simulate_day
from load_tests.simulation.service_times import Measured
from load_tests.simulation.steady import Row, make_table, simulate, simulated_knee

SHARES: Final = (0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.5)
"""The shares of the knee at which a replica is simulated."""

_TOGETHER: Final = 4
"""Replicas that are simulated together for the table: the balancer makes them depend on another."""
_PEAK_S: Final = 16 * 3600.0
"""The busiest second of a day."""
UP: Final = Direction((Policy("Percent", 100, 30), Policy("Pods", 4, 30)), 0)
DOWN: Final = Direction((Policy("Pods", 1, 120),), 600)
"""The behaviour that the components hpa and keda of k8s have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is planned for.

    Attributes:
        rate: Requests per second at the busiest hour.
        lowest_share: The traffic of the quietest hour, as a share of it.
        spikes: Spikes of the day.
        spike_factor: Their height.
        cores: Of a replica.
        method: How requests are balanced.
        pods: What becomes of pods.
        price: Of a core for an hour.
        seconds: What is simulated request by request, with all nodes. With one lost, it is longer
            by the time until that is noticed.
        seed: Determines everything that is random.
    """

    rate: float
    lowest_share: float
    spikes: int
    spike_factor: float
    cores: int
    method: Method
    pods: Pods
    price: float
    seconds: float
    seed: int


@dataclass(slots=True)
class Found:
    """What the simulation says.

    Attributes:
        rate_of_one: The knee of a replica, in requests per second.
        need: Replicas for the busiest hour.
        scale: Bounds and targets of the autoscaler.
        rows: What a replica does by rate.
        whole: All replicas at that rate, by discrete events.
        lost: The same, with a node lost after a third of the time.
        days: By autoscaler.
        costs: Of a million texts, by autoscaler.
    """

    rate_of_one: float
    need: Need
    scale: Scale
    rows: list[Row]
    whole: Outcome
    lost: Outcome
    days: dict[str, Day]
    costs: dict[str, float]


def find(measured: Measured, wanted: Wanted) -> Found:
    """Simulate everything, with the times that were measured."""
    start = max(each["rate"] / each["cores"] for each in measured.content["cores"]) * wanted.cores
    settings: dict[str, Any] = {
        "cores": wanted.cores,
        "method": wanted.method,
        "seed": wanted.seed,
    }
    knee = simulated_knee(measured, replicas=1, start=start, **settings)
    rates = [share * knee.low for share in SHARES]
    rows = make_table(measured, rates, replicas=_TOGETHER, **settings)
    table = Table(rows)
    at_knee = table.at(knee.low)
    capacity = Capacity(
        cores=wanted.cores,
        rate=knee.low,
        cores_at_knee=at_knee.utilization / 100 * wanted.cores,
        latencies_ms=[(row.rate, 1e3 * row.in_flight / row.rate) for row in rows],
    )
    nodes = wanted.pods.nodes
    need = plan_replicas(wanted.rate, capacity, nodes)
    least = plan_replicas(wanted.rate * wanted.lowest_share, capacity, nodes)
    scale = plan_scale(least, need, capacity, nodes)
    whole = simulate(
        *(measured, wanted.rate), replicas=need.replicas, seconds=wanted.seconds, **settings
    )
    lost = simulate(
        *(measured, wanted.rate),
        replicas=need.replicas,
        seconds=wanted.seconds + wanted.pods.notice_s,
        node_lost_at=wanted.seconds / 3,
        pods=wanted.pods,
        **settings,
    )
    days = _days(measured, wanted, table, need, scale)
    texts = 1 + measured.list_share * (measured.list_size - 1)
    costs = {
        name: day.pod_hours * wanted.cores * wanted.price / ((day.sent - day.failed) * texts) * 1e6
        for name, day in days.items()
    }
    return Found(knee.low, need, scale, rows, whole, lost, days, costs)


def _days(
    measured: Measured, wanted: Wanted, table: Table, need: Need, scale: Scale
) -> dict[str, Day]:
    """Days with each autoscaler of k8s and with none, with spikes and with a node lost."""
    lowest = wanted.rate * wanted.lowest_share
    scaling = Scaling(scale.least, scale.most, UP, DOWN)
    constant = Scaling(need.replicas, need.replicas)
    spikes = make_spikes(wanted.spikes, wanted.spike_factor, wanted.seed)
    calm, wild = Profile(wanted.rate, lowest), Profile(wanted.rate, lowest, spikes)
    utilization = float(scale.utilization or 1)
    cpu = Target(scaling, utilization=utilization)
    kinds = {
        "HPA": (wild, cpu, None),
        "KEDA": (wild, Target(scaling, in_flight=scale.in_flight, alarm=Alarm()), None),
        "fixed": (wild, Target(constant, utilization=utilization), None),
        "HPA, no spikes": (calm, cpu, None),
        "HPA, no spikes, a node lost": (calm, cpu, _PEAK_S),
    }
    return {
        name: simulate_day(
            *(profile, table, target, wanted.pods),
            limit_ms=measured.limit_ms,
            replicas=_at_midnight(profile, target.scaling, need),
            node_lost_at=lost_at,
            avoids_lost=wanted.method == "least-requests",
        )
        for name, (profile, target, lost_at) in kinds.items()
    }


def _at_midnight(profile: Profile, scaling: Scaling, need: Need) -> int:
    """As many replicas as the autoscaler would have found before."""
    fitting = math.ceil(need.replicas * profile.rate(0) / need.rate)
    return min(max(fitting, scaling.least), scaling.most)
