import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from app.errors import InvalidInput
from training.distillation.answers import QUESTIONS, TeacherAnswers, three_soft_labels
from training.distillation.questions import NO_REVIEW, Question, write_questions

LOGITS = np.array([[0, 0], [2, 3], [-2, -3]], np.float32)
POSITIVE = expit(LOGITS[:, 0])


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


def test_a_larger_teacher_that_was_stopped(folder: Path) -> None:
    """A student waits for all its answers, before hours of work."""
    (folder / "large").mkdir()
    (folder / "large" / "teacher.json").write_text("{}", "utf-8")
    np.savez(folder / "large" / "train.npz", logits=LOGITS[:, 0])
    with pytest.raises(InvalidInput, match=r"Received: no large/validation\.npz"):
        answer(folder, "train, unlabelled, validation").require_complete(neutral=False)


def test_both_teachers_answer_passages(folder: Path) -> None:
    """Their logits are averaged; what the larger one was not asked about has the first one's."""
    kinds = ("sentence", "passage", "turned")
    questions = [Question(0, kind, text, text) for kind, text in zip(kinds, "abc", strict=True)]
    write_questions(folder / QUESTIONS, iter(questions))
    of_larger_teacher(folder, passages=2)
    np.savez(folder / "large" / "passages.npz", logits=np.array([4, -6], np.float32))
    answers = answer(folder, "train, unlabelled, validation")
    answers.require_complete(neutral=False)
    targets = np.stack([each.target for each in answers.pieces(1.0)])
    np.testing.assert_allclose(targets[:, 1], expit([0, 3, -4]), rtol=1e-6)
    before = answers.fingerprint()
    of_larger_teacher(folder, passages=1)
    assert TeacherAnswers(folder).fingerprint() != before
    with pytest.raises(InvalidInput, match=r"each of the 2 passages\. Received: 1"):
        TeacherAnswers(folder).require_complete(neutral=False)


def test_words_of_passages_count_once(folder: Path) -> None:
    """Passages weigh as much as reviews, but their words, those of the reviews, are not counted."""
    kinds = ("passage", "turned", "sentence")
    questions = [Question(0, kind, text, text) for kind, text in zip(kinds, "abc", strict=True)]
    write_questions(folder / QUESTIONS, iter(questions))
    answers = TeacherAnswers(folder)
    found = [(each.text, each.weight) for each in answers.pieces(0.5)]
    assert found == [("a", 1.0), ("b", 1.0), ("c", 0.5)]
    assert list(answers.texts()) == ["c"]
    assert len(answers.texts()) == 1


def test_three_answers(folder: Path) -> None:
    """Of ten people, six found praise, three nothing, one blame: the three shares come back."""
    logits = logit(np.array([[0.75, 0.7], [0.5, 0.0001], [0.9999, 0.9999]]))
    expected = [[0.1, 0.3, 0.6], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(three_soft_labels(logits), expected, atol=1e-3)
    targets = [each.target for each in TeacherAnswers(folder).pieces(1.0, classes=3)]
    np.testing.assert_allclose(np.stack(targets), three_soft_labels(LOGITS), rtol=1e-6)


def test_reviews_are_calibrated(folder: Path) -> None:
    """The logits of reviews are divided by the temperature."""
    np.testing.assert_allclose(TeacherAnswers(folder).reviews("train")[:, 1], POSITIVE, rtol=1e-6)


def of_larger_teacher(folder: Path, *, passages: int) -> None:
    """Write answers of a larger teacher."""
    (folder / "large").mkdir(exist_ok=True)
    (folder / "large" / "teacher.json").write_text("{}", "utf-8")
    for name in ("train", "validation", "unlabelled"):
        np.savez(folder / "large" / f"{name}.npz", logits=LOGITS[:, 0])
    np.savez(folder / "large" / "passages.npz", logits=np.zeros(passages, np.float32))


def answer(folder: Path, splits: str) -> TeacherAnswers:
    """Answer the reviews of these splits alone: 3 of training, 1 unlabelled, 2 of validation."""
    for split, rows in (("train", 3), ("unlabelled", 1), ("validation", 2)):
        path = folder / "reviews" / f"{split}.npz"
        path.unlink(missing_ok=True)
        if split in splits:
            np.savez(path, logits=LOGITS[:rows])
    return TeacherAnswers(folder)


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ("train, unlabelled, validation", [3, 1, 2]),
        ("train, validation", [3, 0, 2]),
        ("unlabelled, validation", [0, 1, 2]),
        ("validation", [0, 0, 0]),
        ("", [0, 0, 0]),
    ],
)
def test_answers_about_splits(folder: Path, splits: str, sizes: list[int]) -> None:
    """A split has all soft labels and opinions, or none; those of validation never stand alone."""
    answers = answer(folder, splits)
    assert answers.of_reviews().sizes() == sizes
    assert [len(each) for each in answers.opinions_of_reviews()] == sizes
    answers.require_complete(neutral=False)


@pytest.mark.parametrize(
    ("splits", "neutral", "missing"),
    [
        ("train", False, "validation"),
        ("unlabelled", False, "validation"),
        ("train, unlabelled", False, "validation"),
        ("", True, "train"),
        ("unlabelled, validation", True, "train"),
        ("train, unlabelled", True, "validation"),
        ("train, validation", True, None),
    ],
)
def test_reviews_that_must_be_answered(
    folder: Path, splits: str, neutral: bool, missing: str | None
) -> None:
    """Those of validation if any are, and those of training for a neutral class."""
    answers = answer(folder, splits)
    if missing is None:
        answers.require_complete(neutral=neutral)
        return
    with pytest.raises(InvalidInput, match=f"Received: no reviews/{missing}.npz"):
        answers.require_complete(neutral=neutral)


def test_answers_to_other_questions(folder: Path) -> None:
    """There is one answer to each question."""
    answers = answer(folder, "")
    np.savez(folder / "answers" / "0001.npz", logits=LOGITS)
    with pytest.raises(InvalidInput, match=r"each of the 3 questions .* Received: 5"):
        answers.require_complete(neutral=False)


def test_the_fingerprint_is_that_of_the_answers(folder: Path) -> None:
    """Another answer is another fingerprint; other files in the folder make no difference."""
    before = TeacherAnswers(folder).fingerprint()
    (folder / "round-1.pt").write_bytes(b"weights")
    assert TeacherAnswers(folder).fingerprint() == before
    np.savez(folder / "answers" / "0001.npz", logits=-LOGITS[2:])
    assert TeacherAnswers(folder).fingerprint() != before


def test_texts_of_no_review(tmp_path: Path) -> None:
    """Everyday and rated sentences are the teacher's own; pieces are of reviews."""
    questions = [Question(3, "sentence", "a", "a"), Question(NO_REVIEW, "rated", "b", "b")]
    write_questions(tmp_path / QUESTIONS, iter(questions))
    assert list(TeacherAnswers(tmp_path).own_texts()) == ["b"]


@pytest.mark.parametrize("name", ["answers/0001.npz", QUESTIONS, "calibration.json"])
def test_unfinished_teachers_are_refused(folder: Path, name: str) -> None:
    """A missing part is an error that says how to make it."""
    answers = answer(folder, "")
    (folder / name).unlink()
    with pytest.raises(InvalidInput, match=f"no {name}; the command that made the folder"):
        answers.require_complete(neutral=False)
