"""A larger teacher: it learns reviews, and answers those that the first teacher is unsure about."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra teacher")

from app.artifact import DataCard
from app.errors import InvalidInput
from tests.pretrained import tiny_teacher
from training.data.accounting import Rows
from training.data.corpus import Corpus, Example
from training.data.dataset import Dataset
from training.distillation import review_teacher
from training.distillation.answers import CALIBRATION, QUESTIONS, TeacherAnswers
from training.distillation.pretrained import FitConfig
from training.distillation.questions import Question, write_questions
from training.distillation.review_teacher import ReviewTeacher, ReviewTeacherConfig

FIRST = {
    "train": np.linspace(-2, 2, 960, dtype=np.float32),
    "validation": np.linspace(-9, 9, 40, dtype=np.float32),
    "unlabelled": np.linspace(0.2, 5, 60, dtype=np.float32),
}
"""Logits of the first teacher; half of those of training and unlabelled texts are asked about."""
CONFIG = ReviewTeacherConfig(
    fit=FitConfig(learning_rate=1e-2, head_rate=1e-2, batch_pieces=64),
    frozen=0,
    share=0.5,
    longest=16,
    checkpoint_every_s=1e9,
)


def corpus(name: str, count: int) -> Corpus:
    """Bad and good texts in turn, about one letter."""
    words = ("bad", "good")
    texts = (
        Example(f"A {words[n % 2]} film of {name[0]}.", ("negative", "positive")[n % 2])
        for n in range(count)
    )
    return Corpus(name, tuple(texts), ("negative", "positive"))


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        train=corpus("train", 960),
        unlabelled=corpus("unlabelled", 60),
        validation=corpus("validation", 40),
        test=None,
        card=DataCard(name="x", fingerprint="0" * 64, counts={}, splits={}),
        rows=Rows(0, {}, {}),
    )


def answered(dataset: Dataset, folder: Path, config: ReviewTeacherConfig = CONFIG) -> ReviewTeacher:
    teacher = ReviewTeacher(dataset, folder, *tiny_teacher(), config)
    teacher.fit()
    teacher.answer(FIRST)
    return teacher


def test_the_least_sure_reviews_are_answered(dataset: Dataset, tmp_path: Path) -> None:
    """It answers its share, where the first teacher is least sure, and all of validation."""
    answered(dataset, tmp_path)
    answers = TeacherAnswers(tmp_path)
    logits = {split: answers.larger_logits(split) for split in FIRST}
    assert np.isfinite(logits["validation"]).all()
    asked = {split: np.isfinite(logits[split]) for split in ("train", "unlabelled")}
    assert asked["train"].sum() + asked["unlabelled"].sum() == 510
    most = max(np.abs(FIRST[split][asked[split]]).max() for split in asked)
    assert most <= min(np.abs(FIRST[split][~asked[split]]).min() for split in asked)
    right = logits["validation"] > 0
    assert (right == np.array(dataset.validation.targets()).astype(bool)).mean() > 0.9


def test_soft_labels_of_both_teachers(dataset: Dataset, tmp_path: Path) -> None:
    """A student reads them in the order of the texts, and other answers are another teacher."""
    for name in (QUESTIONS, CALIBRATION):
        (tmp_path / name).write_bytes(b"")
    before = TeacherAnswers(tmp_path)
    alone = before.fingerprint()
    assert before.larger_reviews() is None
    answered(dataset, tmp_path)
    found = TeacherAnswers(tmp_path).larger_reviews()
    assert found is not None
    assert found.sizes() == [960, 60, 40]
    np.testing.assert_allclose(found.validation.sum(axis=1), 1, atol=1e-6)
    assert TeacherAnswers(tmp_path).fingerprint() != alone


def test_a_stopped_run_goes_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts on disk are not made again, and those that are missing are."""
    monkeypatch.setattr(review_teacher, "_SHARD", 100)
    answered(dataset, tmp_path)
    parts = sorted((tmp_path / "large" / "parts").glob("*.npz"))
    assert len(parts) > 5
    before = TeacherAnswers(tmp_path).larger_logits("train")
    (tmp_path / "large" / "train.npz").unlink()
    parts[0].unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[!.]*") if path.is_file()}
    answered(dataset, tmp_path)
    now = {path: path.stat().st_mtime_ns for path in kept}
    assert now == kept
    np.testing.assert_allclose(TeacherAnswers(tmp_path).larger_logits("train"), before, atol=1e-6)


def test_a_folder_belongs_to_one_teacher(dataset: Dataset, tmp_path: Path) -> None:
    """Other data, another recipe or other weights need another folder; a share does not matter."""
    ReviewTeacher(dataset, tmp_path, *tiny_teacher(), CONFIG)
    same = replace(CONFIG, checkpoint_every_s=1, share=0.4)
    ReviewTeacher(dataset, tmp_path, *tiny_teacher(), same)
    other = replace(dataset, validation=corpus("other", 40))
    model, pieces = tiny_teacher()
    model.encoder.embeddings.word_embeddings.weight.data += 1
    for data, config, teacher in (
        (other, CONFIG, tiny_teacher()),
        (dataset, replace(CONFIG, longest=15), tiny_teacher()),
        (dataset, CONFIG, (model, pieces)),
    ):
        with pytest.raises(InvalidInput, match="choose another folder"):
            ReviewTeacher(data, tmp_path, *teacher, config)


def test_a_larger_share(dataset: Dataset, tmp_path: Path) -> None:
    """More reviews may be asked about later, and answers go to the reviews that they are about."""
    teacher = answered(dataset, tmp_path, replace(CONFIG, share=0.25))
    few = TeacherAnswers(tmp_path).larger_logits("train")
    changed = FIRST | {"train": FIRST["train"][::-1].copy()}
    teacher.answer(changed)
    answered(dataset, tmp_path, replace(CONFIG, share=1.0))
    whole = TeacherAnswers(tmp_path).larger_logits("train")
    assert np.isfinite(whole).all()
    asked = np.isfinite(few)
    assert asked.sum() < 300
    np.testing.assert_allclose(few[asked], whole[asked], atol=1e-5)


def test_passages_are_answered(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the passages among the questions, in their order; they may become others."""
    monkeypatch.setattr(review_teacher, "_SHARD", 2)
    teacher = answered(dataset, tmp_path)
    for words in ("bad", "good", "bad"), ("good", "bad"), ():
        made = (Question(0, "turned", each, f"A {each} film of u.") for each in words)
        write_questions(tmp_path / QUESTIONS, chain([Question(0, "sentence", "a", "b")], made))
        teacher.answer_passages()
        logits = TeacherAnswers(tmp_path).larger_passages()
        assert (logits > 0).tolist() == [each == "good" for each in words]


@pytest.mark.parametrize("steps", [0, -5])
def test_the_number_of_batches(steps: int) -> None:
    """A teacher that learns nothing would answer everything alike."""
    with pytest.raises(InvalidInput, match=f"must be 1 or more. Received: {steps}"):
        ReviewTeacherConfig(steps=steps)


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_the_share_of_the_reviews(share: float) -> None:
    """It is above 0 and at most 1."""
    with pytest.raises(InvalidInput, match=f"at most 1. Received: {share}"):
        ReviewTeacherConfig(share=share)
