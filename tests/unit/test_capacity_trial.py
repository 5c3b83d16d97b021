"""What one load says about its rate."""

from collections import Counter

import pytest

from load_tests.bench.scrape import Counted
from load_tests.capacity.generator import Observed
from load_tests.capacity.trial import Verdict, describe


def observed(
    latency_ms: float, *, lag_ms: float = 0.1, cpu_s: float = 1.0, **more: int
) -> Observed:
    failed = Counter({int(status[1:]): count for status, count in more.items()})
    return Observed(10, 100, failed, [latency_ms] * 100, [lag_ms] * 100, cpu_s=cpu_s)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (observed(50), Verdict.KEPT),
        (observed(51), Verdict.BROKEN),
        (observed(10, s429=1), Verdict.BROKEN),
        (observed(10, s0=1), Verdict.BROKEN),
        (observed(40, lag_ms=5.1), Verdict.VOID),  # over a tenth of the limit
        (observed(40, lag_ms=4.9), Verdict.KEPT),
        (observed(52, lag_ms=3), Verdict.VOID),  # whose fault is it?
        (observed(60, lag_ms=6), Verdict.BROKEN),  # the service's, whatever the generator did
        (observed(40, cpu_s=9.5), Verdict.VOID),
    ],
)
def test_verdicts(seen: Observed, verdict: Verdict) -> None:
    """At most 50 ms at p99, nothing refused or lost, and a generator that is in time."""
    assert describe(10, seen).judge(50) is verdict


def test_nothing_answered() -> None:
    """A load without an answer breaks every limit."""
    assert describe(10, Observed(10, 100, Counter({0: 100}))).judge(1e9) is Verdict.BROKEN


def test_stages_add_up() -> None:
    """What `Server-Timing` does not name is the rest of the latency."""
    seen = observed(20)
    seen.stages_ms = {"queue": [4.0] * 100, "infer": [10.0] * 100}
    trial = describe(10, seen)
    assert {name: stage.mean_ms for name, stage in trial.stages.items()} == {
        "queue": 4.0,
        "infer": 10.0,
        "rest": 6.0,
    }


def test_runs_and_processor_time_are_rates() -> None:
    """Counters of the service become figures per second and per run."""
    counted = Counted(real_tokens=900, filler_tokens=100, batches=20, items=50, run_s=0.4)
    trial = describe(10, observed(20), server_cpu_s=5.0, runs=counted)
    assert (trial.server_cores, trial.runs_per_s) == (0.5, 2.0)
    assert (trial.run_ms, trial.run_items, trial.run_tokens) == (20.0, 2.5, 50.0)


def test_generators_add_up() -> None:
    """What two generators have seen of one load is one load."""
    total, other = observed(20, s429=1), observed(40, s429=2, s0=1)
    total.add(other)
    trial = describe(20, total, generators=2)
    assert (trial.sent, trial.answered, trial.failed) == (200, 200, {"0": 1, "429": 3})
    assert (trial.p50_ms, trial.p99_ms, trial.generator_cores) == (20, 40, 0.2)
