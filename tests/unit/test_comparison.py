"""Several models on the same texts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.unit.test_scores import LABELS, scored
from training.reports.comparison import Entry, make_table, rank, write_comparison
from training.reports.scores import Interval, bootstrap, confusion_matrix, measure

ANSWERS = scored()
GOOD = Entry.score("good", ANSWERS.probabilities, ANSWERS.y_true, LABELS, seconds=61.4, note="a|b")
POOR = Entry.score("poor", ANSWERS.probabilities[::-1], ANSWERS.y_true, LABELS)


def test_an_entry_is_what_the_answers_score() -> None:
    """Figures and intervals are those of the answers."""
    assert GOOD.metrics == measure(ANSWERS.probabilities, ANSWERS.y_true, LABELS)
    matrix = confusion_matrix(ANSWERS.y_true, ANSWERS.probabilities)
    assert GOOD.intervals == bootstrap(matrix)


def test_the_best_is_first() -> None:
    """Models stand by the figure that was asked for; of equals the surer one comes first."""
    surer = replace(POOR, name="surer", metrics={**POOR.metrics, "log_loss": 0.1})
    fair = replace(POOR, name="fair", metrics={**POOR.metrics, "macro_f1": 0.99})
    names = [entry.name for entry in rank([POOR, fair, GOOD, surer])]
    assert names == ["good", "surer", "fair", "poor"]
    assert rank([POOR, fair, GOOD], by="macro_f1")[0].name == "fair"


def test_what_is_written(tmp_path: Path) -> None:
    """A table for a page, the figures for programs and a picture, in place of earlier ones."""
    write_comparison(tmp_path / "out", "old", [POOR])
    write_comparison(tmp_path / "out", "Two models", [POOR, GOOD])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    title, _, head, _, first, second = markdown.splitlines()
    assert (title, head.count("|")) == ("Two models", 9)
    assert first.startswith(f"| good | {GOOD.metrics['accuracy']:.2%} |")
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
    tmp_path: Path, claimed: Interval | None, difference: float | None, shown: str
) -> None:
    """What somebody claims stands beside what was reached, and so does the distance between."""
    entry = Entry("x", {"accuracy": 0.8}, {"accuracy": (0.79, 0.81)}, claimed=claimed)
    assert entry.difference() == (None if difference is None else pytest.approx(difference))
    write_comparison(tmp_path / "out", "x", [entry, replace(GOOD, claimed=(0.5, 0.5))])
    assert shown in (tmp_path / "out" / "comparison.md").read_text()


def test_the_table_for_a_terminal() -> None:
    """Every model has its row, with figures that are never cut off in 80 columns."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print(make_table("Two models", [POOR, GOOD]))
    text = capture.get()
    for entry in (POOR, GOOD):
        assert f"{entry.metrics['accuracy']:.2%}" in text
        assert f"{entry.metrics['expected_calibration_error']:.4f}" in text
    assert text.index("good") < text.index("poor")


@pytest.mark.parametrize("count", [1, 30])
def test_pictures_of_few_and_of_many(tmp_path: Path, count: int) -> None:
    """One model is a picture as thirty are, also of one long name and without a mistake."""
    perfect = np.eye(3)[ANSWERS.y_true]
    entry = Entry.score("x" * 90, perfect, ANSWERS.y_true, LABELS)
    write_comparison(tmp_path / "out", "all", [entry] * count)
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 1000
