"""The queue delay as KEDA's second trigger sees it."""

from dataclasses import replace

import pytest

from app.serving.request_queue import BatchPolicy
from app.telemetry.metrics import SECONDS
from load_tests.simulation.alarm import Alarm, Counters, histogram_quantile
from load_tests.simulation.autoscaler import Scaling
from load_tests.simulation.cluster import Cluster, Pods, Target, Traffic
from load_tests.simulation.day import Profile, Spike, Table, simulate_day
from load_tests.simulation.plan import DOWN, UP
from load_tests.simulation.replica import POLICY
from load_tests.simulation.service_times import Lengths, ServiceTimes
from load_tests.simulation.steady import Row

TIMES = ServiceTimes(run_s=0.004, token_s=2e-6, request_s=0.0003, text_s=0.0, outside_s=0.001)
WORDS = Lengths([10, 200, 300, 800])
SHIPPED = Scaling(3, 12, UP, DOWN)


def counts(**texts: int) -> list[float]:
    """Texts by bucket; `_0_05` has an upper bound of 0.05 s."""
    found = Counters()
    for bound, count in texts.items():
        for _ in range(count):
            found.count_delay(float(bound[1:].replace("_", ".")))
    return found.delays


@pytest.mark.parametrize(
    ("delays", "quantile", "seconds"),
    [
        (counts(_0_05=100), 0.5, 0.0375),  # half way between 0.025 and 0.05
        (counts(_0_05=50, _0_1=50), 0.75, 0.075),
        (counts(_0_0005=96, _0_1=4), 0.95, 0.0005 * 95 / 96),
        (counts(_11=1), 0.95, SECONDS[-1]),  # above all bounds: the highest
        (counts(), 0.95, 0.0),
    ],
)
def test_quantiles_are_those_of_prometheus(
    delays: list[float], quantile: float, seconds: float
) -> None:
    """A quantile is interpolated within its bucket."""
    assert histogram_quantile(quantile, delays) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("delays", "busy", "wish"),
    [
        (counts(_0_5=100), 0.5, 0),  # not busy enough, however long they wait
        (counts(_0_5=100), 0.51, 6),  # at most doubled
        (counts(_0_05=100), 0.9, 3),  # 49 ms: within a tenth of the target
        (counts(_0_005=100), 0.9, 1),
        (counts(), 0.9, 0),
    ],
)
def test_a_queue_counts_while_engines_are_busy(delays: list[float], busy: float, wish: int) -> None:
    """Pods are multiplied by the delay over its target, where the engines have much to do."""
    assert Alarm().metric(delays, busy).wish(3, 0.1) == wish


def pods_of(target: Target, traffic: Traffic, times: ServiceTimes, policy: BatchPolicy) -> int:
    """The number of pods after a minute."""
    cluster = Cluster(
        *(times,),
        cores=1,
        replicas=3,
        method="random",
        seed=1,
        pods=Pods(start_s=2),
        target=target,
        policy=policy,
    )
    return cluster.run(traffic, 60).pods[-1][1]


@pytest.mark.parametrize(("alarm", "most"), [(Alarm(), 3), (Alarm(busy=0.0), 12)])
def test_lists_add_no_pods(alarm: Alarm, most: int) -> None:
    """A client that sends a long list every other second adds no pod; its queue alone would."""
    lists = Traffic(lambda _: 0.5, 0.5, WORDS, list_share=1.0, list_size=64)
    assert pods_of(Target(SHIPPED, in_flight=1.58, alarm=alarm), lists, TIMES, POLICY) == most


def test_a_queue_of_busy_engines_adds_pods() -> None:
    """Where texts wait because all engines are busy, pods are added."""
    policy = replace(POLICY, max_items=1)
    times = replace(TIMES, run_s=0.04)  # less than 25 texts/s for each of 3 pods
    texts = Traffic(lambda _: 65, 65, WORDS)
    assert 6 <= pods_of(Target(SHIPPED, alarm=Alarm()), texts, times, policy) <= 12


def test_a_day_has_the_alarm() -> None:
    """A spike that fills the queues of all pods adds others, also without another target."""
    rows = []
    for rate, busy, delay_s in ((1.0, 0.01, 0.0), (50.0, 0.5, 0.01), (100.0, 1.0, 2.0)):
        counters = Counters(engine_s=busy)
        counters.delays = [rate * count for count in counts(**{f"_{delay_s}".replace(".", "_"): 1})]
        rows.append(Row(rate, 0.0, 100 * busy, 1.0, [10.0], 10.0, counters))
    day = simulate_day(
        *(Profile(60, 60, [Spike(600, 600, 4.5)]), Table(rows), Target(SHIPPED, alarm=Alarm())),
        Pods(start_s=15),
        limit_ms=100,
        replicas=3,
        seconds=1200,
    )
    assert day.pods[9] == 3
    assert 6 <= day.most_pods <= 12
