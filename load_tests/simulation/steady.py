"""What replicas do at constant rates, by discrete events: curves, knees, and a whole cluster."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from load_tests.capacity.search import Knee, find_knee
from load_tests.simulation.alarm import Counters
from load_tests.simulation.cluster import Cluster, Method, Outcome, Pods, Traffic
from load_tests.simulation.service_times import Measured

_WARM_UP_S: Final = 2.0
_LEAST_REQUESTS: Final = 5000
_SAMPLES: Final = 2000
_TOLERANCE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """What one replica does at a rate, as one of several.

    Attributes:
        rate: Requests per second and replica.
        failed_share: The share that got no prediction.
        utilization: In percent of its cores.
        in_flight: The mean number of requests in flight.
        sample_ms: Some of the latencies.
        p99_ms: Of all latencies.
        counters: What its metrics count in a second, for each of its cores.
    """

    rate: float
    failed_share: float
    utilization: float
    in_flight: float
    sample_ms: Sequence[float]
    p99_ms: float
    counters: Counters = field(default_factory=Counters)


def simulate(
    measured: Measured,
    rate: float,
    *,
    cores: int,
    replicas: int,
    method: Method,
    seed: int,
    seconds: float | None = None,
    node_lost_at: float | None = None,
    pods: Pods | None = None,
) -> Outcome:
    """Offer a constant rate to a fixed number of replicas.

    Args:
        measured: The times of a replica, and the texts.
        rate: Requests per second, over all replicas.
        cores: Of each replica.
        replicas: Their number.
        method: How requests are balanced.
        seed: Determines everything that is random.
        seconds: The duration; by default as long as some thousands of requests take.
        node_lost_at: When a node is lost; None: never.
        pods: What becomes of pods.
    """
    cluster = Cluster(
        measured.times, cores=cores, replicas=replicas, method=method, seed=seed, pods=pods
    )
    return cluster.run(
        constant(measured, rate),
        seconds or max(4.0, _LEAST_REQUESTS / rate),
        warm_up_s=_WARM_UP_S,
        node_lost_at=node_lost_at,
    )


def constant(measured: Measured, rate: float) -> Traffic:
    """Requests at a constant rate, with the measured lengths and lists."""
    return Traffic(lambda _: rate, rate, measured.lengths, measured.list_share, measured.list_size)


def simulated_knee(
    measured: Measured, *, cores: int, replicas: int, method: Method, seed: int, start: float
) -> Knee:
    """Search for the highest rate that keeps the measured limit, as the capacity run does."""
    rng = random.Random(seed)  # noqa: S311 - the same search for the same seed

    def is_kept(rate: float) -> bool:
        outcome = simulate(
            *(measured, rate),
            cores=cores,
            replicas=replicas,
            method=method,
            seed=rng.getrandbits(32),
        )
        kept = outcome.quantile_s(0.99) * 1e3 <= measured.limit_ms
        return kept and not outcome.refused and not outcome.lost

    return find_knee(is_kept, start=start, factor=1.3, tolerance=_TOLERANCE)


def make_table(
    measured: Measured,
    rates: Sequence[float],
    *,
    cores: int,
    replicas: int,
    method: Method,
    seed: int,
) -> list[Row]:
    """What a replica does at each of some rates, as one of so many.

    Args:
        measured: The times of a replica, and the texts.
        rates: Requests per second and replica, increasing.
        cores: Of each replica.
        replicas: How many are simulated together.
        method: How requests are balanced.
        seed: Determines everything that is random.
    """
    rows = []
    for number, rate in enumerate(rates):
        outcome = simulate(
            *(measured, rate * replicas),
            cores=cores,
            replicas=replicas,
            method=method,
            seed=seed + number,
        )
        latencies = sorted(outcome.latencies_s)
        every = max(1, len(latencies) // _SAMPLES)
        counters = Counters()
        counters.add(outcome.counters, 1 / outcome.seconds / cores / replicas)
        rows.append(
            Row(
                rate=rate,
                failed_share=outcome.failed_share,
                utilization=100 * counters.busy_s,
                in_flight=outcome.in_flight_s / outcome.seconds / replicas,
                sample_ms=[latency * 1e3 for latency in latencies[every // 2 :: every]],
                p99_ms=outcome.quantile_s(0.99) * 1e3,
                counters=counters,
            )
        )
    return rows
