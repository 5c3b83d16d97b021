from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from tests.corpus import write
from tests.deferred import deferred

with deferred():
    from training.quality.assess import Quality, assess, choose_sets
    from training.reports.report import Report

LABELS = ("negative", "positive")


def ask(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A model that finds everything positive."""
    return np.tile([0.1, 0.9], (len(texts), 1)), np.full(len(texts), 3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of data with short texts in it, of two kinds of labels."""
    write(tmp_path / "data" / "short" / "mine.csv", "text,label\nFine,positive\nBad,negative\n")
    write(tmp_path / "data" / "short" / "stars.csv", "text,label\nFine,5\n")
    return tmp_path / "data"


def test_what_a_version_is_asked(data: Path) -> None:
    """The sets whose labels it has, and the capabilities; the engine is named."""
    sets = choose_sets(None, data, LABELS)
    found = assess(LABELS, sets, ask, engine="onnx")
    assert list(found.short_texts["sets"]) == ["mine"]
    assert found.short_texts["sets"]["mine"]["right"] == 1
    assert found.short_texts["engine"] == found.capabilities["engine"] == "onnx"
    assert "negation" in found.capabilities["capabilities"]


def test_other_labels_are_asked_nothing(tmp_path: Path) -> None:
    """A model of other labels, without short texts, has no such figures, and needs none."""
    found = assess(("1", "5"), (), ask, engine="onnx")
    assert found == Quality()
    assert found.is_current(("1", "5"), ())


def test_a_named_folder_must_fit(data: Path, tmp_path: Path) -> None:
    """Of a folder that was found, sets with other labels are left out; a named one is refused."""
    assert choose_sets(None, data, ("a", "b")) == ()
    with pytest.raises(DataError, match="among those of the model"):
        choose_sets(data / "short", tmp_path, ("a", "b"))


def test_figures_are_of_these_texts(data: Path) -> None:
    """Figures are out of date when a short text changes, and no others are needed without sets."""
    sets = choose_sets(None, data, LABELS)
    found = assess(LABELS, sets, ask, engine="onnx")
    write(data / "short" / "mine.csv", "text,label\nBetter,positive\n")
    assert found.is_current(LABELS, sets)
    assert found.is_current(LABELS, ())
    assert not found.is_current(LABELS, choose_sets(None, data, LABELS))
    assert not Quality().is_current(LABELS, ())


def test_a_report_keeps_what_is_not_known_anew() -> None:
    """Figures replace earlier ones of a report; where there are none, the earlier ones stay."""
    earlier = Report("lstm 1", LABELS, short_texts={"sets": {}}, capabilities={"n": 1})
    report = Quality(capabilities={"n": 2}).into(earlier)
    assert (report.short_texts, report.capabilities) == ({"sets": {}}, {"n": 2})
    assert Quality.of(report) == Quality({"sets": {}}, {"n": 2})
