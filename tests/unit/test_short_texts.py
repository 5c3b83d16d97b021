import gzip
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from tests.corpus import write
from tests.deferred import deferred

with deferred():
    from training.quality.short_texts import (
        ShortSet,
        ShortText,
        find_short_folder,
        fingerprint,
        read_short_sets,
        score_short_sets,
        usable_sets,
    )

TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")
POSITIVE = (0.9, 0.7, 0.85, 0.8, 0.81)


@pytest.fixture
def ordinary() -> "ShortSet":
    """Three texts with an opinion, two neutral ones."""
    return ShortSet(
        "ordinary",
        (
            ShortText("a", "positive", "brief"),
            ShortText("b", "negative", "brief"),
            ShortText("c", "negative", "film"),
            ShortText("d", "neutral", "neutral"),
            ShortText("e", "neutral", "neutral"),
        ),
    )


def two_classes() -> np.ndarray:
    """Answers of a model without a neutral label."""
    positive = np.array(POSITIVE)
    return np.column_stack((1 - positive, positive))


def test_scores_by_kind(ordinary: "ShortSet") -> None:
    """Wrong answers above 0.8 and neutral texts without one are counted, in all and by kind."""
    found = score_short_sets([ordinary], TWO, two_classes())["sets"]["ordinary"]
    names = ("n", "right", "wrong_and_sure", "neutral", "neutral_unsure")
    rows = {name: tuple(each[key] for key in names) for name, each in found["kinds"].items()}
    assert tuple(found[key] for key in names) == (3, 1, 1, 2, 1)
    assert rows == {"brief": (2, 1, 0, 0, 0), "film": (1, 0, 1, 0, 0), "neutral": (0, 0, 0, 2, 1)}
    assert found["wrong_and_sure_share"] == pytest.approx(1 / 3)


def test_intervals_and_calibration(ordinary: "ShortSet") -> None:
    """The error is the gap between confidence and accuracy by bin; a share has its interval."""
    brief = score_short_sets([ordinary], TWO, two_classes())["sets"]["ordinary"]["kinds"]["brief"]
    assert brief["calibration_error"] == pytest.approx((0.1 + 0.7) / 2)
    assert brief["low"] < brief["accuracy"] == 0.5 < brief["high"]


def test_three_classes(ordinary: "ShortSet") -> None:
    """A model with a neutral label may be sure of it; of a text with an opinion it is wrong."""
    answers = np.array(
        [[0.0, 0.1, 0.9], [0.0, 0.9, 0.1], [0.9, 0.1, 0.0], [0.0, 0.95, 0.05], [0.05, 0.1, 0.85]]
    )
    found = score_short_sets([ordinary], THREE, answers)["sets"]["ordinary"]
    assert (found["n"], found["right"], found["wrong_and_sure"]) == (3, 2, 1)
    assert (found["neutral"], found["neutral_unsure"], found["neutral_right"]) == (2, 1, 1)


def test_reliability_is_of_short_texts(ordinary: "ShortSet") -> None:
    """Texts of more than 64 tokens, and those without a known label, are not in the curve."""
    tokens = np.array([3, 64, 65, 3, 3])
    assert (
        sum(score_short_sets([ordinary], TWO, two_classes(), tokens)["reliability"]["counts"]) == 2
    )
    assert "reliability" not in score_short_sets([ordinary], TWO, two_classes(), tokens + 100)


def test_any_table_is_a_set(tmp_path: Path) -> None:
    """Columns are told by their names; two columns without a header are texts, then labels."""
    write(
        tmp_path / "ordinary.tsv", 'label\tkind\ttext\npositive\tbrief\twow "!"\nneutral\tx\tOk.\n'
    )
    write(tmp_path / "mine.csv", "Text,Sentiment,more\nFine,Positive,1\n")
    write(tmp_path / "rows.jsonl", '{"text": "Bad", "label": "negative"}\n')
    write(tmp_path / "README.md", "not a table\n")
    with gzip.open(tmp_path / "cells.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("Good case.\t1\nIt broke.\t0\n")
    assert read_short_sets(tmp_path) == (
        ShortSet(
            "cells", (ShortText("Good case.", "positive"), ShortText("It broke.", "negative"))
        ),
        ShortSet("mine", (ShortText("Fine", "positive"),)),
        ShortSet(
            "ordinary",
            (ShortText('wow "!"', "positive", "brief"), ShortText("Ok.", "neutral", "x")),
        ),
        ShortSet("rows", (ShortText("Bad", "negative"),)),
    )


def test_faulty_folders(tmp_path: Path) -> None:
    """A folder without a table is refused, and so is a table with a bad row."""
    with pytest.raises(DataError, match="Received: none"):
        read_short_sets(tmp_path)
    write(tmp_path / "mine.csv", "text,label\n,positive\n")
    with pytest.raises(DataError, match="row 2: the text must not be empty"):
        read_short_sets(tmp_path)


@pytest.mark.parametrize(
    ("data", "short"),
    [
        ("data", "data/short"),
        ("data", "short"),
        ("data/mine.csv", "data/short"),
        ("data/mine.csv", None),
        ("-", None),
    ],
)
def test_the_folder_is_found(tmp_path: Path, data: str, short: str | None) -> None:
    """It is in the folder of the data or beside it; for a single file, beside the file."""
    write(tmp_path / "data" / "mine.csv", "text,label\n")
    write(tmp_path / (short or "short") / "ordinary.csv", "text,label\n")
    found = find_short_folder(Path(data) if data == "-" else tmp_path / data)
    assert found == (tmp_path / short if short else None)


def test_a_folder_without_tables_is_another_folder(tmp_path: Path) -> None:
    """A folder that happens to have the name is left alone."""
    write(tmp_path / "short" / "notes.md", "short notes")
    assert find_short_folder(tmp_path) is None


def test_labels_of_the_model(ordinary: "ShortSet") -> None:
    """Sets with other labels are left out; neutral texts can be asked of any model."""
    stars = ShortSet("stars", (ShortText("a", "5"),))
    assert usable_sets([stars, ordinary], TWO) == (ordinary,)
    assert usable_sets([stars, ordinary], ("1", "5")) == (stars,)
    with pytest.raises(DataError, match="among those of the model"):
        usable_sets([stars], TWO)


def test_fingerprint(ordinary: "ShortSet") -> None:
    """Another text, label, kind or name is another set."""
    changed = ShortSet("ordinary", (*ordinary.texts[:-1], ShortText("e", "neutral", "other")))
    prints = [fingerprint([each]) for each in (ordinary, changed, ShortSet("x", ordinary.texts))]
    assert len(set(prints)) == 3
