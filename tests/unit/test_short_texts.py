import gzip
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from training.evaluation.short_texts import (
    ShortText,
    format_scores,
    read_short_texts,
    score_short_texts,
)

TEXTS = [
    ShortText("a", True, "ordinary brief"),
    ShortText("b", False, "ordinary brief"),
    ShortText("c", False, "ordinary film"),
    ShortText("d", None, "ordinary neutral"),
    ShortText("e", None, "ordinary neutral"),
]
PROBABILITIES = [0.9, 0.7, 0.85, 0.8, 0.81]


def test_scores_by_kind() -> None:
    """A set comes before its kinds; wrong answers above 0.8 and undecided neutrals are counted."""
    scores = score_short_texts(TEXTS, lambda _texts: np.array(PROBABILITIES))
    assert [
        (each.kind, each.polar, each.right, each.sure_and_wrong, each.neutral, each.undecided)
        for each in scores
    ] == [
        ("ordinary", 3, 1, 1, 2, 1),
        ("ordinary brief", 2, 1, 0, 0, 0),
        ("ordinary film", 1, 0, 1, 0, 0),
        ("ordinary neutral", 0, 0, 0, 2, 1),
    ]


def test_calibration_error() -> None:
    """The calibration error is the gap between probability and accuracy, weighted by texts."""
    scores = score_short_texts(TEXTS, lambda _texts: np.array(PROBABILITIES))
    assert scores[1].calibration_error == pytest.approx((0.1 + 0.7) / 2)
    assert scores[3].calibration_error == 0


def test_the_table() -> None:
    """The table has a row per kind, with empty cells where nothing was counted."""
    table = format_scores(score_short_texts(TEXTS, lambda _texts: np.array(PROBABILITIES)))
    lines = table.splitlines()
    assert lines[2].startswith("| ordinary | 1 of 3 | 33.3% | 1 |")
    assert lines[-1] == "| ordinary neutral |  |  |  |  | 1 of 2 |"


def test_files_are_read_by_their_names(tmp_path: Path) -> None:
    """Each file has its own shape; sets that are absent are left out."""
    (tmp_path / "ordinary.tsv").write_text(
        'label\tkind\ttext\npositive\tbrief\t"wow\nneutral\tneutral\tMonday.\n', encoding="utf-8"
    )
    with gzip.open(tmp_path / "amazon_cells.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("Good case.\t1\nIt broke.\t0\n")
    with gzip.open(tmp_path / "contrast_dev.tsv.gz", "wt", encoding="utf-8") as file:
        file.write('Sentiment\tText\nNegative\t"""Bad"", he said."\n')
    assert read_short_texts(tmp_path) == [
        ShortText('"wow', True, "ordinary brief"),
        ShortText("Monday.", None, "ordinary neutral"),
        ShortText("Good case.", True, "amazon_cells"),
        ShortText("It broke.", False, "amazon_cells"),
        ShortText('"Bad", he said.', False, "contrast_dev"),
    ]


def test_faulty_folders(tmp_path: Path) -> None:
    """A folder without any set is refused, and so is an unknown label."""
    with pytest.raises(DataError, match="Received: none"):
        read_short_texts(tmp_path)
    (tmp_path / "ordinary.tsv").write_text("label\tkind\ttext\ngood\tbrief\twow\n", "utf-8")
    with pytest.raises(DataError, match="Received: 'good'"):
        read_short_texts(tmp_path)
