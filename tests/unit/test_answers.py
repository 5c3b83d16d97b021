import json
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from training.distillation.answers import QUESTIONS, TeacherAnswers
from training.distillation.questions import Question, write_questions

LOGITS = np.array([0, 2, -2], np.float32)
POSITIVE = 1 / (1 + np.exp(-LOGITS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A teacher that answered three questions in two parts, and two reviews."""
    questions = [Question(0, "sentence", text, text) for text in "abc"]
    write_questions(tmp_path / QUESTIONS, iter(questions))
    (tmp_path / "answers").mkdir()
    np.savez(tmp_path / "answers" / "0000.npz", logits=LOGITS[:2])
    np.savez(tmp_path / "answers" / "0001.npz", logits=LOGITS[2:])
    (tmp_path / "reviews").mkdir()
    np.savez(tmp_path / "reviews" / "train.npz", logits=3 * LOGITS)
    (tmp_path / "calibration.json").write_text(json.dumps({"temperature": 3.0}), "utf-8")
    return tmp_path


def test_pieces_are_training_examples(folder: Path) -> None:
    """Every question is an example with the class probabilities that the teacher gave."""
    pieces = TeacherAnswers(folder).pieces(0.5)
    assert len(pieces) == 3
    assert [(each.text, each.weight) for each in pieces] == [("a", 0.5), ("b", 0.5), ("c", 0.5)]
    targets = np.stack([each.target for each in pieces])
    np.testing.assert_allclose(targets, np.stack([1 - POSITIVE, POSITIVE], axis=1), rtol=1e-6)


def test_reviews_are_calibrated(folder: Path) -> None:
    """The logits of reviews are divided by the temperature."""
    np.testing.assert_allclose(TeacherAnswers(folder).reviews("train")[:, 1], POSITIVE, rtol=1e-6)


@pytest.mark.parametrize("name", ["answers/0001.npz", QUESTIONS, "calibration.json"])
def test_unfinished_teachers_are_refused(folder: Path, name: str) -> None:
    """A missing part is an error that says how to make it."""
    (folder / name).unlink()
    answers = TeacherAnswers(folder)
    with pytest.raises(DataError, match=f"no {name}; the command that made the folder"):
        (answers.reviews("train"), answers.pieces(1.0))
