import pytest

from app.artifact import read_manifest
from tests.deferred import deferred
from tests.figures import figured_report
from tests.published import SOURCE

with deferred():
    from training.quality.figures import version_figures, with_quality
    from training.reports.report import Report


def test_figures_by_kind_of_text() -> None:
    """The test split, each short set and each kind of one have their figures."""
    assert version_figures(figured_report(0.9)) == {
        "imdb test": {
            "texts": 100,
            "accuracy": 0.9,
            "interval": pytest.approx([0.8256, 0.9448]),
            "calibration_error": 0.01,
        },
        "ordinary": {
            "texts": 4,
            "accuracy": 0.75,
            "interval": [0.3, 0.95],
            "calibration_error": 0.1,
            "sure_and_wrong": 0.25,
            "neutral_texts": 2,
            "undecided": 0.5,
        },
        "ordinary neutral": {"texts": 0, "neutral_texts": 2, "undecided": 0.5},
    }


def test_names_are_plain() -> None:
    """A name has small letters, digits and a few signs, and at most 60 characters."""
    scores = figured_report(0.9).short_texts["sets"]["ordinary"]
    sets = {"_Ü(X)" * 40: {**scores, "kinds": {}}}
    report = Report("lstm 1", ("negative", "positive"), short_texts={"sets": sets})
    assert list(version_figures(report)) == ["x_" * 30]


def test_what_was_not_measured_is_absent() -> None:
    """A report without a test split and without short texts gives no figures."""
    assert version_figures(Report("lstm 1", ("negative", "positive"))) == {}


def test_the_manifest_has_them() -> None:
    """The figures of a report go into the manifest, from where cards show them."""
    manifest = with_quality(read_manifest(SOURCE), figured_report(0.9))
    assert manifest.quality["ordinary"].accuracy == 0.75
    assert manifest.quality["imdb test"].texts == 100
