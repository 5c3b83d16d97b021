import pytest

from load_tests.bench.figures import ModelFigures, Round, Sample, Scenario, median, merge

ONE, BUSY = Scenario(1, 1), Scenario(1, 64)


def sample(rate: float, p50_ms: float = 1.0, p99_ms: float = 2.0) -> Sample:
    return Sample(rate, rate, p50_ms, p99_ms)


def figures(*rounds: Round) -> ModelFigures:
    return ModelFigures("lstm", 1, "onnx", "int8", rounds=list(rounds))


def test_median_skips_none() -> None:
    """The median ignores None; without values it is None."""
    assert median([3.0, None, 1.0, 2.0]) == 2.0
    assert median([None]) is None


def test_merge() -> None:
    """Samples of several rounds are merged into medians, and their errors into sums."""
    rows = [
        Sample(10, 20, 1, 5, cpu_ms_per_text=None, real_share=0.8, errors={"status 503": 1}),
        Sample(30, 60, 3, 9, cpu_ms_per_text=0.5, real_share=0.9, errors={"status 503": 2}),
        Sample(20, 40, 2, 7, cpu_ms_per_text=0.7, real_share=0.7),
    ]
    assert merge(rows) == Sample(
        20, 40, 2, 7, cpu_ms_per_text=0.6, real_share=0.8, errors={"status 503": 3}
    )
    assert merge([]) is None


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """A round in which the whole machine was slow does not change a ratio."""
    measured = figures(
        *(
            Round(ceiling={8: ceiling}, samples={BUSY: sample(rate)})
            for rate, ceiling in ((600, 1000), (60, 100), (590, 1000))
        )
    )
    assert measured.of_ceiling(BUSY) == pytest.approx(0.6)


def test_the_ceiling_is_that_of_the_best_batch() -> None:
    """Every round is compared with the batch size that has the highest median."""
    measured = figures(
        Round(ceiling={4: 900, 8: 1000}, samples={BUSY: sample(500)}),
        Round(ceiling={4: 2000, 8: 1000}, samples={BUSY: sample(500)}),
        Round(ceiling={4: 900, 8: 1000}, samples={BUSY: sample(500)}),
    )
    assert (measured.batch_size, measured.ceiling) == (8, 1000)
    assert measured.of_ceiling(BUSY) == 0.5


def test_tail_and_added_time() -> None:
    """p99 divided by p50, and p50 minus the in-process time, are computed per round."""
    measured = figures(
        Round(in_process_ms=0.4, samples={ONE: sample(1, 0.7, 1.4)}),
        Round(in_process_ms=0.5, samples={ONE: sample(1, 0.7, 2.1)}),
    )
    assert measured.tail(ONE) == pytest.approx(2.5)
    assert measured.added_ms(ONE) == pytest.approx(0.25)


def test_of_floor() -> None:
    """The service is compared with the bare route at the same number of connections."""
    floor = {("starlette", 64): sample(20_000), ("starlette", 1): sample(1)}
    measured = figures(Round(samples={BUSY: sample(9_000)}, floor=floor))
    assert measured.of_floor("starlette", 64) == pytest.approx(0.45)
    assert measured.of_floor("fastapi", 64) is None


def test_nothing_measured() -> None:
    """Without rounds every figure is None."""
    empty = figures()
    assert (empty.ceiling, empty.batch_size, empty.in_process_ms) == (None, None, None)
    assert (empty.of_ceiling(BUSY), empty.tail(BUSY), empty.added_ms(BUSY)) == (None, None, None)
    assert empty.sample(BUSY) is None


def test_unanswered_requests_have_no_latency() -> None:
    """Without answers there are no latencies and no ratios."""
    measured = figures(
        Round(
            samples={BUSY: sample(0, 0, 0)},
            ceiling={8: 0},
            floor={
                ("starlette", 64): sample(0),
            },
        )
    )
    assert (measured.tail(BUSY), measured.added_ms(BUSY)) == (None, None)
    assert (measured.of_ceiling(BUSY), measured.of_floor("starlette", 64)) == (None, None)


def test_errors_are_named() -> None:
    """All failures are counted by scenario and kind, those of the references included."""
    bad = Sample(1, 1, 1, 1, errors={"status 503": 2})
    measured = figures(
        Round(samples={BUSY: bad}, floor={("starlette", 64): bad}), Round(samples={BUSY: bad})
    )
    measured.errors = {"probabilities sum to 1": 1}
    assert measured.count_errors() == {
        "lstm on onnx (int8): probabilities sum to 1": 1,
        "lstm on onnx (int8): 1 text per request, 64 connections: status 503": 4,
        "lstm on onnx (int8): starlette route, 64 connections: status 503": 2,
    }
