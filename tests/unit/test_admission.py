"""What is admitted and what is refused: the rules one by one, and the policy in virtual time."""

import math
import random
from collections.abc import Sequence

import pytest

from app.serving.admission import Admission, EngineLoad
from tests.fakes import ManualClock
from tests.simulated import Arrival, Lengths, Outcome, Simulation, count_texts, poisson

# --- the rules ---


class Bench:
    """An admission whose queue is a number, on a manual clock."""

    def __init__(self, load: EngineLoad | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.load = load or EngineLoad(1)
        self.waiting = 0
        self.admission = Admission(
            self.load, pending_tokens=lambda: self.waiting, max_items=8, clock=self.clock
        )

    def run(self, tokens: int, seconds: float, *, rows: int = 8, times: int = 1) -> None:
        """Let the engine compute."""
        for _ in range(times):
            run = self.admission.begin(tokens, rows)
            self.clock.advance(seconds)
            self.admission.end(run)

    def is_late(self, tokens: int, seconds: float) -> bool:
        """Whether a request with a deadline in so many seconds is refused."""
        return self.admission.lateness_s(tokens, self.clock.now + seconds) > 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_known(bench: Bench) -> None:
    """While nothing is known of a model, every request is admitted."""
    assert not bench.is_late(10**6, 0.001)


def test_no_deadline(bench: Bench) -> None:
    """A request without a deadline is never late."""
    bench.run(1000, 1.0, times=9)
    assert bench.admission.lateness_s(10**9, math.inf) == -math.inf


@pytest.mark.parametrize(
    ("waiting", "tokens", "slots", "late"),
    [
        (0, 1000, 1, False),
        (5000, 1000, 1, False),
        (8000, 1000, 1, True),  # 9 s of 10; four tenths of it are margin
        (0, 9000, 1, True),
        (8000, 1000, 2, False),
        (16000, 1000, 2, True),
    ],
)
def test_work_that_waits(waiting: int, tokens: int, slots: int, late: bool) -> None:
    """The tokens that wait, at the learned pace and divided by the slots, decide."""
    bench = Bench(EngineLoad(slots))
    bench.run(100_000, 100.0, times=9)
    bench.waiting = waiting
    assert bench.is_late(tokens, 10) == late


def test_work_that_runs(bench: Bench) -> None:
    """What is left of the current run counts, and less the longer it has run."""
    bench.run(10_000, 10.0, times=9)
    bench.admission.begin(10_000, 8)
    assert bench.is_late(0, 10)
    bench.clock.advance(5)
    assert not bench.is_late(0, 10)


def test_work_that_is_tokenized(bench: Bench) -> None:
    """Texts that are being tokenized count as waiting."""
    bench.run(10_000, 10.0, times=9)
    bench.admission.tokenizing(9000)
    assert bench.is_late(1000, 10)
    bench.admission.tokenizing(-9000)
    assert not bench.is_late(1000, 10)


def test_hanging_run(bench: Bench) -> None:
    """A run that takes much longer than expected makes new requests late before it ends."""
    bench.run(1000, 0.1, times=9)
    bench.admission.begin(1000, 8)
    bench.waiting = 1000
    assert not bench.is_late(10, 1)
    bench.clock.advance(0.5)
    assert bench.is_late(10, 1)


def test_short_stall(bench: Bench) -> None:
    """A run that is held up for a moment refuses no request that has seconds left."""
    bench.run(100, 0.001, times=9)
    bench.waiting = 10_000  # 0.1 s of work
    bench.admission.begin(100, 8)
    bench.clock.advance(0.1)  # a hundred times as long as expected
    assert not bench.is_late(100, 10)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_pace_follows(bench: Bench, factor: float) -> None:
    """Five runs at another pace are enough to be within a fifth of it."""
    bench.run(1000, 0.1, times=20)
    bench.run(1000, 0.1 * factor, times=5)
    pace = bench.admission.best_pace(bench.clock.now)
    assert pace == pytest.approx(0.0001 * factor, rel=0.45)


def test_one_odd_run(bench: Bench) -> None:
    """A run during which the process was suspended changes the pace by a bounded factor."""
    bench.run(1000, 0.001, times=20)
    bench.run(1000, 60.0)
    assert bench.admission.pace <= 4.001e-6


def test_small_runs_say_little_of_full_ones(bench: Bench) -> None:
    """After single texts only, a full batch is hoped to take the time of one text."""
    bench.run(100, 0.1, rows=1, times=20)
    assert bench.admission.best_pace(bench.clock.now) == pytest.approx(0.001 / 8, rel=0.3)


def test_old_knowledge_fades(bench: Bench) -> None:
    """A model that was slow long ago gets another chance."""
    bench.run(1000, 10.0, times=20)
    assert bench.is_late(1000, 1)
    bench.clock.advance(60)
    assert not bench.is_late(1000, 1)


@pytest.mark.parametrize(("other_waits", "late"), [(0, False), (100, False), (1000, True)])
def test_other_models(other_waits: int, late: bool) -> None:
    """Models take turns: another one delays by at most a batch for each batch of this one."""
    one = Bench()
    other = Bench(one.load, one.clock)
    for bench in 9 * (one, other):
        bench.run(1000, 1.0)
    one.waiting, other.waiting = 4000, other_waits * 10
    assert one.is_late(1000, 10) == late
    assert not one.is_late(1000, 20)  # however long the other queue is
    other.waiting = 10**9
    assert not one.is_late(1000, 20)


def test_background() -> None:
    """In the background all that waits comes before; it delays nothing itself."""
    load = EngineLoad(1)
    bench = Bench(load)
    background = Admission(
        load,
        pending_tokens=lambda: 5000,
        max_items=8,
        clock=bench.clock,
        background=True,
    )
    bench.run(100_000, 100.0, times=9)
    deadline = bench.clock.now + 10
    assert background.lateness_s(1000, deadline) <= 0
    assert not bench.is_late(5000, 10)
    bench.waiting = 8000
    assert background.lateness_s(1000, deadline) > 0


def test_closed_model() -> None:
    """A model that serves no more delays no other."""
    one = Bench()
    other = Bench(one.load, one.clock)
    other.run(1000, 1.0, times=9)
    other.waiting = 10**6
    other.admission.close()
    assert one.admission.wait_s(0) == 0


@pytest.mark.parametrize(
    ("seen", "chars", "tokens"),
    [((), 100, 21), ((100, 20), 100, 21), ((100, 50), 100, 51), ((100, 50), 10_000, 400)],
)
def test_estimated_tokens(
    bench: Bench, seen: tuple[int, int] | tuple[()], chars: int, tokens: int
) -> None:
    """Tokens are estimated from characters as in texts seen before, up to what a model reads."""
    if seen:
        bench.admission.learn_tokens(*seen)
    assert bench.admission.estimate_tokens([chars], 400) == pytest.approx(tokens)
    assert bench.admission.estimate_tokens([chars, chars], 400) == pytest.approx(2 * tokens)


def test_room_for_a_list(bench: Bench) -> None:
    """After a list was refused, single texts leave room until a list as long has come."""
    bench.run(1000, 1.0, times=9)
    bench.waiting = 6000
    assert bench.is_late(3000, 10)
    assert bench.is_late(100, 10)
    bench.waiting = 4500
    assert bench.is_late(100, 10)
    bench.waiting = 3000
    assert not bench.is_late(3000, 10)
    assert not bench.is_late(100, 10)


def test_room_is_not_kept_for_ever(bench: Bench) -> None:
    """The room for a refused list is given up if the client does not come back."""
    bench.run(1000, 1.0, times=9)
    bench.waiting = 6000
    bench.is_late(3000, 10)
    bench.clock.advance(3)
    assert not bench.is_late(100, 10)


# --- the policy in virtual time ---

PATIENCE_S = 0.2
LOADS = (0.5, 0.95, 1.1, 1.5, 2, 3, 4, 10)
TEXT_S = 0.008
LSTM_CAPACITY = 2600
"""Texts per second of `run_lstm`, with the lengths of reviews and a queue that is never empty."""


def run_texts(_now: float, lengths: Sequence[int]) -> float:
    """A model that takes 8 ms for each text, whatever its length."""
    return TEXT_S * len(lengths)


def run_lstm(_now: float, lengths: Sequence[int]) -> float:
    """The shape of an LSTM: a constant, the steps of the longest text, and all tokens."""
    longest = max(lengths)
    return 0.0005 + longest * (2.5e-6 + 1.2e-6 * len(lengths))


def one_text(_rng: random.Random) -> tuple[int, ...]:
    return (100,)


def review(rng: random.Random) -> tuple[int, ...]:
    """A text with the length of a film review."""
    return (max(4, min(400, round(rng.lognormvariate(math.log(180), 0.77)))),)


def with_lists(size: int, share: float) -> Lengths:
    """Reviews, a share of the requests with a list of them."""

    def draw(rng: random.Random) -> tuple[int, ...]:
        count = size if rng.random() < share else 1
        return tuple(review(rng)[0] for _ in range(count))

    return draw


def goodput(outcome: Outcome, offered: float, capacity: float) -> float:
    """Texts per second answered in time, over what could be."""
    assert not outcome.late
    return outcome.texts_per_s / min(offered, capacity)


@pytest.mark.parametrize(
    ("load", "expected"), [(0.95, (0.9, 1)), (1.1, (0.2, 0.6)), (1.5, (0, 0.1)), (3, (0, 0.02))]
)
def test_without_admission(load: float, expected: tuple[float, float]) -> None:
    """A queue that admits everything answers almost nothing in time."""
    arrivals = poisson(load / TEXT_S, 30, one_text, patience_s=PATIENCE_S)
    outcome = Simulation(run_texts, admits_all=True).run(arrivals)
    low, high = expected
    assert low <= goodput(outcome, load / TEXT_S, 1 / TEXT_S) <= high


@pytest.mark.parametrize("load", LOADS)
def test_goodput(load: float) -> None:
    """At any load the service answers what it can in time, and refuses the rest at once."""
    arrivals = poisson(load / TEXT_S, 15, one_text, patience_s=PATIENCE_S)
    outcome = Simulation(run_texts).run(arrivals)
    assert goodput(outcome, load / TEXT_S, 1 / TEXT_S) >= 0.95
    assert len(outcome.dropped) <= 0.01 * len(outcome.answered)


@pytest.mark.parametrize("load", LOADS)
def test_goodput_of_mixed_lengths(load: float) -> None:
    """The same with texts of mixed lengths, and a model that is faster in batches."""
    rate = load * LSTM_CAPACITY
    outcome = Simulation(run_lstm).run(poisson(rate, 2, review, patience_s=PATIENCE_S))
    assert goodput(outcome, rate, LSTM_CAPACITY) >= 0.95
    assert len(outcome.dropped) <= 0.01 * len(outcome.answered)


@pytest.mark.parametrize("load", [1.5, 3])
@pytest.mark.parametrize("factor", [3, 1 / 3])
def test_another_speed(factor: float, load: float) -> None:
    """A model that becomes three times slower or faster costs little goodput in that moment."""

    def run(now: float, lengths: Sequence[int]) -> float:
        return run_texts(now, lengths) * (factor if now > 5 else 1)

    fastest = max(1, 1 / factor) / TEXT_S
    outcome = Simulation(run).run(poisson(load * fastest, 10, one_text, patience_s=PATIENCE_S))
    capacity = (1 + 1 / factor) / 2 / TEXT_S
    assert goodput(outcome, math.inf, capacity) >= 0.95


@pytest.mark.parametrize("load", [1.5, 3])
@pytest.mark.parametrize("factor", [3, 1 / 3])
def test_another_speed_of_batches(factor: float, load: float) -> None:
    """The same with mixed lengths, and a model that is faster in batches."""

    def run(now: float, lengths: Sequence[int]) -> float:
        return run_lstm(now, lengths) * (factor if now > 1 else 1)

    rate = load * LSTM_CAPACITY * max(1, 1 / factor)
    outcome = Simulation(run).run(poisson(rate, 2, review, patience_s=PATIENCE_S))
    assert goodput(outcome, math.inf, (1 + 1 / factor) / 2 * LSTM_CAPACITY) >= 0.95


@pytest.mark.parametrize("load", [0.7, 1.1, 1.5, 3])
@pytest.mark.parametrize(("size", "share"), [(16, 0.1), (64, 0.02)])
def test_lists_beside_single_texts(size: int, share: float, load: float) -> None:
    """With lists beside single texts the goodput holds, and neither starves the other."""
    requests = load * LSTM_CAPACITY / (1 + share * (size - 1))
    arrivals = [*poisson(requests, 2, with_lists(size, share), patience_s=2 * PATIENCE_S)]
    outcome = Simulation(run_lstm).run(arrivals)
    assert goodput(outcome, count_texts(arrivals) / 2, LSTM_CAPACITY) >= 0.9
    for is_list in (True, False):
        of_kind = [arrival for arrival in arrivals if (len(arrival.lengths) > 1) == is_list]
        answered = [a for a in outcome.answered if (len(a.lengths) > 1) == is_list]
        assert len(answered) >= 0.25 * len(of_kind) / max(load, 1)


@pytest.mark.parametrize("work_s", [0.05, 0.1, 0.5])
def test_bursts(work_s: float) -> None:
    """Of a burst all is answered that fits into half of the deadline, however long it is."""
    size = round(work_s / TEXT_S)
    arrivals = [
        Arrival(start + n / 1e6, (100,), PATIENCE_S) for start in range(10) for n in range(size)
    ]
    outcome = Simulation(run_texts).run(arrivals)
    assert len(outcome.answered) >= 10 * min(size, 0.6 * PATIENCE_S / TEXT_S)
    assert not outcome.late


def test_several_slots() -> None:
    """With several slots the capacity is that of all of them."""
    rate = 3 * 2 / TEXT_S
    outcome = Simulation(run_texts, slots=2).run(poisson(rate, 10, one_text, patience_s=PATIENCE_S))
    assert goodput(outcome, rate, 2 / TEXT_S) >= 0.95


@pytest.mark.parametrize(("slow_until", "run_s"), [(0.5, 0.5), (5, 1.0)], ids=["first", "some"])
def test_slow_runs_are_forgotten(slow_until: float, run_s: float) -> None:
    """After runs longer than every deadline, requests one by one are soon answered again."""

    def run(now: float, lengths: Sequence[int]) -> float:
        return run_s if now < slow_until else run_texts(now, lengths)

    arrivals = [Arrival(float(second), (100,), PATIENCE_S) for second in range(60)]
    assert len(Simulation(run).run(arrivals).answered) >= 50


def test_different_deadlines() -> None:
    """Requests with little and with much patience are both answered under overload."""
    arrivals = [
        arrival
        for patience_s in (0.1, 1.0)
        for arrival in poisson(0.75 / TEXT_S + patience_s, 10, one_text, patience_s=patience_s)
    ]
    outcome = Simulation(run_texts).run(arrivals)
    assert goodput(outcome, 1.5 / TEXT_S, 1 / TEXT_S) >= 0.95
