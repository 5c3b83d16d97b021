"""Replicas in virtual time, against queues whose waits are known."""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.serving.request_queue import BatchPolicy
from app.settings import Settings
from load_tests.simulation.autoscaler import Scaling
from load_tests.simulation.cluster import (
    METHODS,
    NOTICE_S,
    REPLACE_S,
    Cluster,
    Method,
    Outcome,
    Pods,
    Target,
    Traffic,
)
from load_tests.simulation.replica import DEADLINE_S, POLICY
from load_tests.simulation.service_times import Lengths, ServiceTimes, fit, read_measured

DOCS = Path(__file__).parents[2] / "docs"
ALONE = BatchPolicy(max_items=1, max_tokens=10**6, max_queue_delay_s=0, max_queue_items=10**6)
CONSTANT = ServiceTimes(run_s=0.01, token_s=0, request_s=0, text_s=0, outside_s=0)
REAL = ServiceTimes(run_s=0.004, token_s=2e-6, request_s=0.0003, text_s=0.0, outside_s=0.001)
VARIED = ServiceTimes(run_s=0, token_s=3e-5, request_s=0, text_s=0, outside_s=0)  # 10 ms
WORDS = Lengths([10, 200, 300, 800])


def flow(rate: float, lengths: Lengths = WORDS) -> Traffic:
    return Traffic(lambda _: rate, rate, lengths)


def offer(
    rate: float,
    seconds: float,
    *,
    times: ServiceTimes = CONSTANT,
    replicas: int = 1,
    method: Method = "random",
    policy: BatchPolicy = ALONE,
) -> Outcome:
    cluster = Cluster(times, cores=1, replicas=replicas, method=method, seed=1, policy=policy)
    return cluster.run(flow(rate), seconds, warm_up_s=2)


def test_one_server_with_constant_times() -> None:
    """The mean wait is that of M/D/1: load / (2 (1 - load)) service times."""
    load = 0.7
    outcome = offer(load / 0.01, 120)
    wait_s = statistics.fmean(outcome.latencies_s) - 0.01
    assert wait_s == pytest.approx(0.01 * load / (2 * (1 - load)), rel=0.1)
    assert outcome.counters.busy_s / outcome.seconds == pytest.approx(load, rel=0.05)
    # Little's law
    in_flight = outcome.in_flight_s / outcome.seconds
    assert in_flight == pytest.approx(load / 0.01 * (wait_s + 0.01), rel=0.05)


def test_the_event_loop_goes_before_the_engine() -> None:
    """A run takes longer by what arrives meanwhile: the core works no more than it can."""
    times = ServiceTimes(run_s=0.01, token_s=0, request_s=0.005, text_s=0, outside_s=0.002)
    outcome = offer(50, 40, times=times)
    assert min(outcome.latencies_s) == pytest.approx(0.017)
    assert outcome.counters.busy_s / outcome.seconds == pytest.approx(0.75, rel=0.05)


def test_random_balancing_splits_the_arrivals() -> None:
    """Replicas behind a random balancer are independent queues of the same load."""
    outcome = offer(4 * 60, 25, replicas=4)
    wait_s = statistics.fmean(outcome.latencies_s) - 0.01
    assert wait_s == pytest.approx(0.01 * 0.6 / 0.8, rel=0.12)


def test_better_balancers_wait_less() -> None:
    """Round robin waits less than random, and the fewest requests in flight less than both."""
    waits = {
        method: statistics.fmean(
            offer(4 * 80, 8, times=VARIED, replicas=4, method=method).latencies_s
        )
        for method in METHODS
    }
    assert waits["least-requests"] < waits["round-robin"] < waits["random"]


def test_batches_form_under_load() -> None:
    """With the service's policy, a busy engine takes up to eight texts, so it can do more."""
    lone = offer(190, 5, times=REAL)
    batched = offer(190, 5, times=REAL, policy=POLICY)
    assert lone.counters.busy_s > 1.1 * batched.counters.busy_s
    assert batched.quantile_s(0.99) < lone.quantile_s(0.99)


def test_overload_is_refused() -> None:
    """At twice what it can do, the admission refuses the rest, and answers come in time."""
    outcome = offer(200, 30)
    assert outcome.refused / outcome.sent == pytest.approx(0.5, abs=0.08)
    assert max(outcome.latencies_s) <= DEADLINE_S


def test_the_same_seed_has_the_same_outcome() -> None:
    """A simulation can be repeated."""
    one, other = (offer(80, 5, replicas=2, method="least-requests") for _ in range(2))
    assert one.latencies_s == other.latencies_s


def test_a_lost_node() -> None:
    """What is sent to a lost node is lost until it is noticed; then the others have everything."""
    cluster = Cluster(
        *(CONSTANT,),
        cores=1,
        replicas=4,
        method="round-robin",
        seed=1,
        pods=Pods(start_s=5, notice_s=2, replace_s=10, nodes=2),
        policy=ALONE,
    )
    outcome = cluster.run(flow(100), 30, node_lost_at=10)
    assert outcome.lost == pytest.approx(100, rel=0.3)  # two seconds of half of the requests
    assert [count for _, count in outcome.pods] == [1, 2, 3, 4, 2, 3, 4]
    assert [round(at) for at, _ in outcome.pods[4:]] == [10, 25, 25]


def test_the_documents_have_the_times_of_a_lost_node() -> None:
    """The simulation loses a node as docs/kubernetes.md and docs/capacity.md say."""
    wait = REPLACE_S - NOTICE_S
    cluster = (DOCS / "kubernetes.md").read_text(encoding="utf-8")
    assert f"| {NOTICE_S:g} s: no traffic; then {wait:g} s until its pods are replaced" in cluster
    capacity = (DOCS / "capacity.md").read_text(encoding="utf-8")
    assert f"noticed after {NOTICE_S:g} s, its pods are replaced {wait:g} s later" in capacity
    assert (Pods().notice_s, Pods().replace_s) == (NOTICE_S, REPLACE_S)


def test_the_autoscaler_follows() -> None:
    """Pods are added until each is at the target, and become ready after their start."""
    target = Target(Scaling(1, 20), utilization=50.0)
    cluster = Cluster(
        CONSTANT, cores=1, replicas=2, method="least-requests", seed=1, target=target, policy=ALONE
    )
    outcome = cluster.run(flow(150), 45)
    assert 3 <= outcome.pods[-1][1] <= 4
    assert outcome.pods[2][0] == pytest.approx(15 + 10)
    assert outcome.refused == outcome.lost == 0


def test_the_policy_is_that_of_the_service(tmp_path: Path) -> None:
    """The simulated service has the default settings."""
    settings = Settings(models_dir=tmp_path)
    assert settings.max_batch_items == POLICY.max_items
    assert settings.max_batch_tokens == POLICY.max_tokens
    assert settings.max_queue_delay_ms == POLICY.max_queue_delay_s * 1e3
    assert settings.max_queue_items == POLICY.max_queue_items
    assert settings.request_timeout_ms == DEADLINE_S * 1e3


PARTS = ServiceTimes(run_s=0.002, token_s=5e-6, request_s=0.001, text_s=0, outside_s=0)


def loads(times: ServiceTimes) -> list[dict[str, Any]]:
    """Loads of one worker, in which each run has one text, as a capacity run describes them."""
    curve = []
    for rate in (50.0, 100.0, 150.0, 200.0):
        tokens = 400 * (1 + rate / 100)
        # The event loop makes a run longer.
        run_s = (times.run_s + tokens * times.token_s) / (1 - rate * times.request_s)
        cpu_s = rate * (times.request_s + run_s * (1 - rate * times.request_s))
        curve.append(
            {
                "rate": rate,
                "server_cores": cpu_s,
                "runs_per_s": rate,
                "run_ms": run_s * 1e3,
                "run_tokens": tokens,
                "stages": {"rest": {"mean_ms": 1.5}, "tokenize": {"mean_ms": 0.1}},
            }
        )
    return curve


def test_times_are_found_again() -> None:
    """From the processor time, the runs and the rates of loads, the times of the parts follow."""
    found = fit({"workers": 1, "curve": loads(PARTS)}, texts_per_request=1.0)
    assert found.run_s == pytest.approx(PARTS.run_s)
    assert found.token_s == pytest.approx(PARTS.token_s)
    assert found.request_s + found.text_s == pytest.approx(PARTS.request_s)
    assert found.outside_s == pytest.approx(0.0006)


@pytest.mark.parametrize(("cores", "run_s"), [(1, 0.002), (2, 0.003), (4, 0.002)])
def test_times_of_a_number_of_cores(cores: int, run_s: float, tmp_path: Path) -> None:
    """Cores that were measured are simulated with their times, others with those of the fewest."""
    content = {
        "run": {"texts_per_request": 1, "list_share": 0, "list_size": 16, "limit_ms": 100},
        "tokens": [10, 800],
        "cores": [
            {"cores": 1, "apart": True, "workers": 1, "curve": loads(PARTS)},
            {"cores": 2, "apart": False, "workers": 1, "curve": loads(replace(PARTS, run_s=0.003))},
        ],
    }
    file = tmp_path / "capacity.json"
    file.write_text(json.dumps(content))
    measured = read_measured(file).on(cores)
    assert measured.times.run_s == pytest.approx(run_s)
    assert measured.times_cores == (cores if cores < 4 else 1)
