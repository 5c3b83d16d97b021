"""A day of traffic, second by second."""

import pytest

from load_tests.simulation.autoscaler import Scaling
from load_tests.simulation.cluster import NOTICE_S, Pods, Target
from load_tests.simulation.day import DAY_S, Day, Profile, Spike, Table, make_spikes, simulate_day
from load_tests.simulation.steady import Row

HOUR_S = 3600
# A replica does 100 requests/s; at that rate p99 is 50 ms and its CPU is full.
TABLE = Table(
    [
        Row(rate, failed, rate, rate / 50, [latency] * 10, latency)
        for rate, failed, latency in (
            (1.0, 0.0, 10.0),
            (50.0, 0.0, 20.0),
            (100.0, 0.0, 50.0),
            (101.0, 0.01, 500.0),
            (200.0, 0.5, 5000.0),
        )
    ]
)


def live(
    profile: Profile,
    scaling: Scaling,
    *,
    lost_at: float | None = None,
    avoids_lost: bool = False,
    seconds: int = 2 * HOUR_S,
) -> Day:
    return simulate_day(
        *(profile, TABLE, Target(scaling, utilization=60.0), Pods(start_s=30, nodes=3)),
        limit_ms=100,
        replicas=scaling.least,
        node_lost_at=lost_at,
        avoids_lost=avoids_lost,
        seconds=seconds,
    )


def test_enough_pods() -> None:
    """With pods for all traffic nothing is broken, and each is paid for."""
    day = live(Profile(600, 600), Scaling(10, 10))
    assert (day.broken_s, day.failed, day.troubles) == (0, 0, [])
    assert day.pod_hours == pytest.approx(20)
    assert day.sent == pytest.approx(600 * 2 * HOUR_S)
    assert 20 <= day.p99_ms <= 50


def test_a_calm_day() -> None:
    """Pods follow the traffic of a day between the bounds, without breaking anything."""
    day = live(Profile(600, 100), Scaling(3, 20), seconds=DAY_S)
    assert day.broken_s == 0
    assert day.most_pods == pytest.approx(600 / 60, abs=2)
    assert min(day.pods) == 3
    assert day.pod_hours < 200  # 240 with ten all day
    assert day.sent == pytest.approx(350 * DAY_S, rel=0.01)


@pytest.mark.parametrize(
    ("factor", "most", "breaks", "worst"),
    [
        (1.2, 30, False, 0),
        (4.0, 30, True, 300),  # until pods that were started are ready
        (4.0, 8, True, 1000),  # all the time: there may be no more pods
    ],
)
def test_a_spike(factor: float, most: int, breaks: bool, worst: int) -> None:
    """A spike that the spare capacity holds breaks nothing; a higher one, until pods are ready."""
    spike = Spike(HOUR_S, 900, factor)
    day = live(Profile(300, 300, [spike]), Scaling(5, most))
    assert bool(day.troubles) == breaks
    assert day.broken_s <= worst
    if breaks:
        assert 0 < day.troubles[0].at_s - HOUR_S < 120
        assert day.failed > 0


def test_causes() -> None:
    """What breaks first has a name: no pod was asked for yet, none is ready, none is allowed."""
    spike = Spike(HOUR_S, 900, 20.0)
    first = live(Profile(300, 300, [spike]), Scaling(5, 100)).troubles[0]
    assert first.cause in ("the autoscaler has not noticed", "pods are starting")
    full = live(Profile(600, 600), Scaling(5, 5)).troubles
    assert [(trouble.cause, trouble.seconds) for trouble in full] == [
        ("there may be no more pods", 2 * HOUR_S)
    ]


def test_a_lost_node() -> None:
    """Requests to a lost node fail until it is noticed; what is left carries the rest."""
    day = live(Profile(400, 400), Scaling(9, 9), lost_at=HOUR_S)
    (trouble,) = day.troubles
    assert (trouble.cause, trouble.seconds) == ("a node is lost", NOTICE_S)
    assert trouble.failed == pytest.approx(400 * NOTICE_S / 3, rel=0.01)
    avoided = live(Profile(400, 400), Scaling(9, 9), lost_at=HOUR_S, avoids_lost=True)
    assert avoided.failed == 0


def test_beyond_the_table() -> None:
    """More than the last row fails entirely, and answers are as late as there."""
    assert TABLE.at(400).failed_share == pytest.approx(0.75)
    assert TABLE.at(400).p99_ms == 5000


def test_the_same_seed_has_the_same_spikes() -> None:
    """Spikes are within the day."""
    spikes = make_spikes(20, 1.5, seed=3)
    assert spikes == make_spikes(20, 1.5, seed=3)
    assert all(0 <= spike.at_s <= DAY_S - spike.seconds for spike in spikes)
