from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra teacher")

from scipy.special import expit

from app.artifact import DataCard
from app.errors import InvalidInput
from tests.pretrained import tiny_teacher
from training.data.accounting import Rows
from training.data.corpus import Corpus, Example
from training.data.dataset import Dataset
from training.distillation import pretrained_run
from training.distillation import questions as questions_module
from training.distillation.answers import REVIEWS, TeacherAnswers
from training.distillation.pretrained import FitConfig
from training.distillation.pretrained_run import TeachConfig, TeacherRun, fit_logit_temperature
from training.distillation.questions import NO_REVIEW, Question, QuestionShares
from training.distillation.rated import RatedText

WORDS = (("x", 0.95, 0.95), ("y", 0.05, 0.95), ("z", 0.5, 0.05))
CONFIG = TeachConfig(
    fit=FitConfig(learning_rate=1e-2, head_rate=1e-2, batch_pieces=128),
    copies=3,
    shares=QuestionShares(1.0, 1.0, 1.0, 0.3, 1.0, 1.0, everyday=20),
    checkpoint_every_s=1e9,
)


@pytest.mark.parametrize(
    ("steps", "rounds"),
    [((), [None, None, None]), ((800,), [800, 800, 800]), ((800, 1600), [800, 1600, 1600])],
)
def test_steps_of_each_round(steps: tuple[int, ...], rounds: list[int | None]) -> None:
    """The last number is for all further rounds; without one, every example is seen once."""
    config = TeachConfig(steps=steps)
    assert [config.steps_of(number) for number in (1, 2, 3)] == rounds


def corpus(name: str, word: str, count: int, *, labels: bool = True) -> Corpus:
    """Texts of one word per label, about one letter."""
    examples = tuple(
        Example(
            f"A {('bad', 'good')[n % 2]} film of {word}. It is {('bad', 'good')[n % 2]} {n}!",
            ("negative", "positive")[n % 2] if labels else "",
        )
        for n in range(count)
    )
    return Corpus(name, examples, ("negative", "positive") if labels else ())


@pytest.fixture(autouse=True)
def few_short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask about two emoji and learn twenty everyday sentences instead of thousands."""
    few = [Question(NO_REVIEW, "emoji", sign, sign) for sign in ("👍", ":(")]
    monkeypatch.setattr(questions_module, "emoji_questions", lambda: iter(few))
    monkeypatch.setattr(pretrained_run, "_FIRST_EVERYDAY", 20)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        train=corpus("train", "t", 120),
        unlabelled=corpus("unlabelled", "u", 60, labels=False),
        validation=corpus("validation", "v", 40),
        test=None,
        card=DataCard(name="x", fingerprint="0" * 64, counts={}, splits={}),
        rows=Rows(0, {}, {}),
    )


def test_a_run_from_end_to_end(dataset: Dataset, tmp_path: Path) -> None:
    """A run fine-tunes in two rounds, and answers reviews and pieces; a second call reads them."""
    run = TeacherRun(dataset, tmp_path, *tiny_teacher(), CONFIG)
    run.fit()
    run.answer()
    positive = np.array(dataset.validation.targets()) > 0
    assert ((run.review_logits("validation")[:, 0] > 0) == positive).mean() > 0.9
    assert [len(run.review_logits(split)) for split in REVIEWS] == [120, 40, 60]
    again = TeacherRun(dataset, tmp_path, *tiny_teacher(), CONFIG)
    answers = TeacherAnswers(tmp_path)
    assert answers.reviews("unlabelled").shape == (60, 2)
    assert len(answers.pieces(0.5)) == len(list(run.answers()))
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again.fit()
    assert list(again.answers()) == list(run.answers())
    assert changed == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}


def test_no_validation_text_is_learned_or_asked_about(dataset: Dataset, tmp_path: Path) -> None:
    """Questions are pieces of training and unlabelled texts, and equal ones have equal answers."""
    run = TeacherRun(dataset, tmp_path, *tiny_teacher(), replace(CONFIG, rounds=1))
    run.fit()
    answers = list(run.answers())
    assert {question.review < 120 for question, _ in answers} == {True, False}
    assert not any("of v" in question.text for question, _ in answers)
    by_text = {question.text: logits for question, logits in answers}
    for question, logits in answers:
        if question.known is not None:
            assert expit(logits) == pytest.approx([question.known, question.opinion])
        assert by_text.get(question.asked, logits) == pytest.approx(logits, abs=1e-5)


def test_rated_texts_are_learned_and_asked_about(dataset: Dataset, tmp_path: Path) -> None:
    """A word that only rated texts have gets their polarity; one they find dull, no opinion."""
    rated = [RatedText(f"{word} {n}", p, o) for n in range(40) for word, p, o in WORDS]
    config = replace(CONFIG, rounds=1, fit=replace(CONFIG.fit, batch_pieces=64))
    run = TeacherRun(dataset, tmp_path, *tiny_teacher(), config, rated)
    run.fit()
    assert run.probabilities(["x", "y"]).tolist() == pytest.approx([0.9, 0.1], abs=0.25)
    assert run.opinions(["x", "z"]).tolist() == pytest.approx([0.9, 0.1], abs=0.25)
    kinds = Counter(question.kind for question, _ in run.answers())
    assert kinds["rated"] == len(rated)


def test_a_review_is_read_to_its_end(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict in the middle of a long review counts; reviews are answered in parts."""
    monkeypatch.setattr(pretrained_run, "_REVIEW_SHARD", 16)
    config = replace(CONFIG, rounds=1, longest=12)
    run = TeacherRun(dataset, tmp_path, *tiny_teacher(), config)
    run.fit()
    around = "it was a film of t " * 4
    good, bad = run.probabilities(
        [f"{around} {verdict} film {around}" for verdict in ("good", "bad")]
    )
    assert good > bad
    assert run.review_logits("validation").shape == (40, 2)
    assert len(list((tmp_path / "reviews" / "validation").glob("*.npz"))) == 3


def test_a_passage_is_read_to_its_end(dataset: Dataset, tmp_path: Path) -> None:
    """A passage among the questions is read as a review is, others have the middle cut out."""
    config = replace(CONFIG, rounds=1, longest=12)
    run = TeacherRun(dataset, tmp_path, *tiny_teacher(), config)
    run.fit()
    around = "it was a film of t " * 4
    text = f"{around} good film {around}"
    asked = [Question(0, "sentence", text, text), Question(0, "turned", text, text)]
    known = Question(NO_REVIEW, "everyday", "x", "x", 0.9, 0.5)
    logits = run._answers("some.npz", [known, *asked, known])
    assert expit(logits[2, 0]) == pytest.approx(run.probabilities([text])[0], abs=1e-5)
    assert logits[1, 0] != pytest.approx(logits[2, 0], abs=1e-3)
    assert expit(logits[[0, 3], 0]) == pytest.approx([0.9, 0.9])


def test_answers_are_made_in_parts(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the answers that is on disk is not made again after a stop."""
    monkeypatch.setattr(pretrained_run, "PART", 50)
    run = TeacherRun(dataset, tmp_path, *tiny_teacher(), replace(CONFIG, rounds=1))
    run.fit()
    stopped = run.answers()
    for _ in range(60):
        next(stopped)
    parts = sorted(path.name for path in (tmp_path / "answers").glob("*.npz"))
    assert parts == ["0000.npz", "0001.npz"]
    kept = (tmp_path / "answers" / "0000.npz").stat().st_mtime_ns
    assert len(list(run.answers())) > 100
    assert (tmp_path / "answers" / "0000.npz").stat().st_mtime_ns == kept


def test_a_folder_belongs_to_one_teacher(dataset: Dataset, tmp_path: Path) -> None:
    """A folder is refused for other data or another recipe; threads do not matter."""
    TeacherRun(dataset, tmp_path, *tiny_teacher(), CONFIG)
    TeacherRun(dataset, tmp_path, *tiny_teacher(), replace(CONFIG, threads=1))
    with pytest.raises(InvalidInput, match=r"choose another folder"):
        TeacherRun(dataset, tmp_path, *tiny_teacher(), replace(CONFIG, copies=1))
    with pytest.raises(InvalidInput, match=r"choose another folder"):
        TeacherRun(dataset, tmp_path, *tiny_teacher(), CONFIG, [RatedText("a", 1, 1)])
    other = replace(dataset, validation=corpus("validation", "w", 40))
    with pytest.raises(InvalidInput, match=r"choose another folder"):
        TeacherRun(other, tmp_path, *tiny_teacher(), CONFIG)


def test_three_labels_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The teacher has one logit for both labels, so its texts have two."""
    train = replace(dataset.train, labels=("negative", "neutral", "positive"))
    with pytest.raises(InvalidInput, match="two labels"):
        TeacherRun(replace(dataset, train=train), tmp_path, *tiny_teacher(), CONFIG)


def test_the_temperature() -> None:
    """Logits that are three times too large have temperature 3."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 20_000).astype(np.float32)
    positive = (rng.random(20_000) < 1 / (1 + np.exp(-true))).astype(np.float32)
    assert fit_logit_temperature(3 * true, positive) == pytest.approx(3, rel=0.05)
