"""How far the texts of the last hour are from those a version was validated on."""

import json
import math
from dataclasses import dataclass, field

import pytest

from app.telemetry.drift import MIN_COUNT, WINDOW_S, population_stability_index
from app.telemetry.metrics import CONFIDENCES, Metrics
from tests.fakes import LABELS, ManualClock, sample

BASELINE = {"label": (50, 50), "truncated": (90, 10), "unknown": (980, 20)}


@dataclass
class Traffic:
    """A model that answers texts, on a clock that the test moves."""

    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.clock)
        self.watch(1)

    def watch(self, version: int, **changes: tuple[int, ...]) -> None:
        self.metrics.watch_drift("lstm", version, LABELS, BASELINE | changes)

    def answer(self, texts: int, *, positive: float = 0.5, unknown: float = 0.02) -> None:
        """Count texts as the predictor does."""
        of_model = self.metrics.for_model("lstm")
        series = self.metrics.for_labels("lstm", 1, LABELS)
        series["positive"].inc(texts * positive)
        series["negative"].inc(texts * (1 - positive))
        for _ in range(texts):
            of_model.confidence.observe(0.9)
        of_model.tokens.inc(texts * 10)
        of_model.unknown_tokens.inc(texts * 10 * unknown)
        of_model.truncated_texts.inc(texts * 0.1)

    def drift(self, feature: str) -> float | None:
        return sample(self.metrics, "model_drift_psi", model="lstm", feature=feature)


@pytest.mark.parametrize(
    ("expected", "observed", "index"),
    [
        ((50, 50), (500, 500), 0.0),
        ((0.5, 0.5), (600, 400), 0.0405),
        ((50, 50), (900, 100), 0.8789),
        ((90, 10), (1000, 0), 0.7006),  # an empty bin counts as one in ten thousand
        ((50, 50), (MIN_COUNT - 2, 1), math.nan),
        ((0, 0), (500, 500), math.nan),
    ],
)
def test_index(expected: tuple[float, ...], observed: tuple[float, ...], index: float) -> None:
    """The sum of (o - e) ln(o / e) over the shares; NaN where there is too little to compare."""
    found = population_stability_index(expected, observed, sum(observed))
    assert found == pytest.approx(index, abs=1e-4, nan_ok=True)


def test_texts_as_in_validation() -> None:
    """Texts like those of the validation have an index near 0 for each feature."""
    traffic = Traffic()
    traffic.answer(2000)
    for feature in BASELINE:
        assert traffic.drift(feature) == pytest.approx(0, abs=1e-6)


def test_each_feature_has_its_own_index() -> None:
    """Other labels are no other words."""
    traffic = Traffic()
    traffic.answer(2000, positive=0.9)
    label, unknown = traffic.drift("label"), traffic.drift("unknown")
    assert label == pytest.approx(0.8789, abs=1e-4)
    assert unknown == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("feature", ["label", "truncated", "unknown"])
def test_too_few_texts(feature: str) -> None:
    """The series is there from the start, and has no value before there are enough texts.

    A thousand tokens may be five reviews of one author.
    """
    traffic = Traffic()
    traffic.answer(MIN_COUNT - 1, positive=1, unknown=0.5)
    index = traffic.drift(feature)
    assert index is not None
    assert math.isnan(index)
    assert traffic.drift("confidence") is None  # the baseline does not have it
    traffic.answer(1)
    assert not math.isnan(traffic.drift(feature) or 0)


def test_old_texts_leave_the_window() -> None:
    """What was answered more than an hour ago counts no more."""
    traffic = Traffic()
    traffic.answer(2000, positive=0.9)
    for _ in range(2):
        traffic.clock.advance(WINDOW_S / 2)
        traffic.drift("label")
    traffic.answer(2000)
    traffic.drift("label")
    traffic.clock.advance(WINDOW_S / 2)
    assert traffic.drift("label") == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("version", "changes"), [(2, {}), (1, {"label": (60, 40)})])
def test_another_version_begins_anew(version: int, changes: dict[str, tuple[int, int]]) -> None:
    """The texts of another version are compared with its own baseline, from its first text on.

    Files that replace those of a version are another one.
    """
    traffic = Traffic()
    traffic.answer(2000, positive=0.9)
    traffic.watch(1)
    assert traffic.drift("label") == pytest.approx(0.8789, abs=1e-4)
    traffic.watch(version, **changes)
    label = traffic.drift("label")
    assert label is not None
    assert math.isnan(label)


def test_a_released_version_has_no_index() -> None:
    """The drift of a version goes with it; a later one of that number begins anew."""
    traffic = Traffic()
    traffic.answer(2000)
    traffic.metrics.forget_version("lstm", 1)
    assert traffic.drift("label") is None
    traffic.watch(1)
    traffic.answer(2000)
    assert traffic.drift("label") == pytest.approx(0, abs=1e-6)


def test_workers_are_compared_together() -> None:
    """Of two workers the texts count together, so that each may have seen too few."""
    workers = Traffic(), Traffic()
    workers[0].answer(MIN_COUNT - 100, positive=1)
    workers[1].answer(MIN_COUNT - 100, positive=0.8)
    tally = workers[0].metrics.tally
    snapshots = [json.loads(json.dumps(each.metrics.tally.snapshot())) for each in workers]
    page = tally.render(tally.merge(snapshots)).decode()
    (line,) = [each for each in page.splitlines() if 'feature="label"' in each]
    assert float(line.split()[-1]) == pytest.approx(0.8789, abs=1e-4)


def test_workers_between_two_versions() -> None:
    """While a version with other labels takes over, the workers that have others are left out."""
    workers = Traffic(), Traffic()
    other = {"label": (1,) * 3, "confidence": (1,) * (len(CONFIDENCES) + 1)}
    workers[1].metrics.watch_drift("lstm", 2, ("a", "b", "c"), other)
    workers[0].answer(2000)
    tally = workers[0].metrics.tally
    page = tally.render(tally.merge([each.metrics.tally.snapshot() for each in workers])).decode()
    assert 'valence_model_drift_psi{feature="label",model="lstm"} 0.0' in page.splitlines()
