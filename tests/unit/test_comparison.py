"""Several models on the same texts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.deferred import deferred

with deferred():
    from PIL import Image

    from tests.unit.test_scores import LABELS, scored
    from training.reports.comparison import Entry, make_table, rank, write_comparison
    from training.reports.scores import Interval, Scored, bootstrap, confusion_matrix, measure


@pytest.fixture(scope="module")
def answers() -> Scored:
    """Answers of a fair model."""
    return scored()


@pytest.fixture(scope="module")
def good(answers: Scored) -> Entry:
    """An entry that scores well."""
    given, expected = answers.probabilities, answers.y_true
    return Entry.score("good", given, expected, LABELS, seconds=61.4, note="a|b")


@pytest.fixture(scope="module")
def poor(answers: Scored) -> Entry:
    """An entry that scores badly."""
    return Entry.score("poor", answers.probabilities[::-1], answers.y_true, LABELS)


def test_an_entry_is_what_the_answers_score(answers: Scored, good: Entry) -> None:
    """Figures and intervals are those of the answers."""
    assert good.metrics == measure(answers.probabilities, answers.y_true, LABELS)
    matrix = confusion_matrix(answers.y_true, answers.probabilities)
    assert good.intervals == bootstrap(matrix)


def test_the_best_is_first(good: Entry, poor: Entry) -> None:
    """Models stand by the figure that was asked for; of equals the surer one comes first."""
    surer = replace(poor, name="surer", metrics={**poor.metrics, "log_loss": 0.1})
    fair = replace(poor, name="fair", metrics={**poor.metrics, "macro_f1": 0.99})
    names = [entry.name for entry in rank([poor, fair, good, surer])]
    assert names == ["good", "surer", "fair", "poor"]
    assert rank([poor, fair, good], by="macro_f1")[0].name == "fair"


def test_what_is_written(tmp_path: Path, good: Entry, poor: Entry) -> None:
    """A table for a page, the figures for programs and a picture, in place of earlier ones."""
    write_comparison(tmp_path / "out", "old", [poor])
    write_comparison(tmp_path / "out", "Two models", [poor, good])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    title, _, head, _, first, second = markdown.splitlines()
    assert (title, head.count("|")) == ("Two models", 9)
    assert first.startswith(f"| good | {good.metrics['accuracy']:.2%} |")
    assert first.endswith("| 61 | a\\|b |")
    assert second.startswith("| poor |")
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [model["name"] for model in record["models"]] == ["good", "poor"]
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width >= 400


@pytest.mark.parametrize(
    ("claimed", "difference", "shown"),
    [
        ((0.9, 0.9), -0.1, "| 90% | 80.00% |"),
        ((0.7, 0.7525), 0.0475, "| 70 to 75.25% | 80.00% |"),
        ((0.75, 0.85), 0.0, "| 75 to 85% | 80.00% |"),
        (None, None, "| x |  | 80.00% |"),
    ],
)
def test_beside_a_claim(
    tmp_path: Path, good: Entry, claimed: Interval | None, difference: float | None, shown: str
) -> None:
    """What somebody claims stands beside what was reached, and so does the distance between."""
    entry = Entry("x", {"accuracy": 0.8}, {"accuracy": (0.79, 0.81)}, claimed=claimed)
    assert entry.difference() == (None if difference is None else pytest.approx(difference))
    write_comparison(tmp_path / "out", "x", [entry, replace(good, claimed=(0.5, 0.5))])
    assert shown in (tmp_path / "out" / "comparison.md").read_text()


def test_the_table_for_a_terminal(good: Entry, poor: Entry) -> None:
    """Every model has its row, with figures that are never cut off in 80 columns."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print(make_table("Two models", [poor, good]))
    text = capture.get()
    for entry in (poor, good):
        assert f"{entry.metrics['accuracy']:.2%}" in text
        assert f"{entry.metrics['expected_calibration_error']:.4f}" in text
    assert text.index("good") < text.index("poor")


@pytest.mark.parametrize("count", [1, 30])
def test_pictures_of_few_and_of_many(tmp_path: Path, answers: Scored, count: int) -> None:
    """One model is a picture as thirty are, also of one long name and without a mistake."""
    perfect = np.eye(3)[answers.y_true]
    entry = Entry.score("x" * 90, perfect, answers.y_true, LABELS)
    write_comparison(tmp_path / "out", "all", [entry] * count)
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 1000
