"""A teacher's answers in one small file, for students without that teacher."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError, InvalidInput
from training.distillation import questions as questions_module
from training.distillation.answers import TeacherAnswers
from training.distillation.kept_answers import keep_answers, unpack_answers
from training.distillation.questions import (
    PASSAGES,
    QuestionShares,
    all_questions,
    read_questions,
    write_questions,
)
from training.distillation.rated import RatedText
from training.support.arrays import Float32Array
from training.support.cache import DiskCache

TEXTS = [
    "A good film, funny, moving and clever. I liked the cast. It was short.",
    "A dull film with a weak end. I left early. Never again."
    + 30 * " Part of it was bad and stupid.",
]
RATED = [RatedText("The parcel came today.", 0.5, 0.1)]
SHARES = QuestionShares(paragraphs=1.0, sentences=1.0, everyday=5, turned=1.0)
SIDES = ["a", "b", "c"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher that answered its questions about two reviews, and the reviews."""
    # Emoji are those of a package of the extra `teacher`, which is not installed for tests.
    monkeypatch.setattr(questions_module, "emoji_questions", lambda: iter(()))
    folder = tmp_path / "teacher"
    for name in ("answers", "reviews"):
        (folder / name).mkdir(parents=True)
    questions = list(all_questions(TEXTS, RATED, SHARES, seed=3))
    write_questions(folder / "questions.tsv.gz", iter(questions))
    logits = np.linspace(-4, 4, 2 * len(questions), dtype=np.float32).reshape(-1, 2)
    np.savez(folder / "answers" / "0000.npz", logits=logits)
    for split in ("train", "validation"):
        np.savez(folder / "reviews" / f"{split}.npz", logits=logits[:1])
    config = {"shares": asdict(SHARES), "fit": {"seed": 3}}
    (folder / "teacher.json").write_text(json.dumps({"config": config, "data": SIDES}), "utf-8")
    (folder / "calibration.json").write_text(json.dumps({"temperature": 1.5}), "utf-8")
    return folder


def of_larger_teacher(folder: Path, logits: Float32Array) -> None:
    """Write answers of a larger teacher about the reviews of each split, and about passages."""
    (folder / "large").mkdir()
    (folder / "large" / "teacher.json").write_text('{"config": {"steps": 9}}', "utf-8")
    for split in ("train", "validation", "unlabelled"):
        np.savez(folder / "large" / f"{split}.npz", logits=logits)
    asked = [each.kind for each in read_questions(folder / "questions.tsv.gz")]
    passages = sum(kind in PASSAGES for kind in asked)
    assert passages > 2
    np.savez(folder / "large" / "passages.npz", logits=np.linspace(-3, 5, passages))


def unpack(file: Path, to: Path, **changes: object) -> TeacherAnswers:
    options = {"sides": SIDES, "texts": TEXTS, "rated": RATED} | changes
    unpack_answers(file, to, **options)  # type: ignore[arg-type]
    return TeacherAnswers(to)


def test_a_student_gets_the_same_answers(folder: Path, tmp_path: Path) -> None:
    """Questions, answers and reviews come back; logits to three digits, and no text is kept."""
    file = tmp_path / "kept.npz"
    keep_answers(folder, file)
    before, after = TeacherAnswers(folder), unpack(file, tmp_path / "again")
    after.require_complete(neutral=True)
    after.require_same(SIDES)
    assert list(after.texts()) == list(before.texts())
    np.testing.assert_allclose(after.piece_logits, before.piece_logits, rtol=1e-3)
    assert after.splits() == ("train", "validation")
    np.testing.assert_allclose(after.reviews("train"), before.reviews("train"), atol=1e-3)
    with np.load(file) as arrays:
        assert not any(word in str(arrays["about"]) for word in ("liked", "parcel"))


def test_answers_of_a_larger_teacher(folder: Path, tmp_path: Path) -> None:
    """They are kept, too, with the gaps where it was not asked, and what it was made from."""
    logits = np.array([1.5, np.nan, -2], np.float32)
    of_larger_teacher(folder, logits)
    keep_answers(folder, tmp_path / "kept.npz")
    after = unpack(tmp_path / "kept.npz", tmp_path / "again")
    after.require_complete(neutral=False)
    np.testing.assert_array_equal(after.larger_logits("unlabelled"), logits)
    before = [each.target for each in TeacherAnswers(folder).pieces(1.0)]
    np.testing.assert_allclose([each.target for each in after.pieces(1.0)], before, atol=1e-3)
    identity = json.loads((tmp_path / "again" / "large" / "teacher.json").read_text("utf-8"))
    assert identity == {"config": {"steps": 9}}


def test_answers_of_a_larger_teacher_are_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with fewer of its answers than there are passages is refused, and nothing written."""
    of_larger_teacher(folder, np.ones(2, np.float32))
    np.savez(folder / "large" / "passages.npz", logits=np.ones(1, np.float32))
    with monkeypatch.context() as patched:
        patched.setattr(TeacherAnswers, "require_complete", lambda _, neutral: None)
        keep_answers(folder, tmp_path / "kept.npz")
    with pytest.raises(InvalidInput, match=r"to each of 3 passages\. Received: 1"):
        unpack(tmp_path / "kept.npz", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_unpacking_that_was_stopped(folder: Path, tmp_path: Path) -> None:
    """What it left is replaced, also by another file's; the folder is complete only at the end."""
    keep_answers(folder, tmp_path / "first.npz")
    of_larger_teacher(folder, np.ones(2, np.float32))
    with np.load(folder / "answers" / "0000.npz") as arrays:
        other = arrays["logits"] + 1
    np.savez(folder / "answers" / "0000.npz", logits=other)
    keep_answers(folder, tmp_path / "second.npz")
    unpack(tmp_path / "second.npz", tmp_path / "again")
    (tmp_path / "again" / "teacher.json").unlink()  # as after a kill
    after = unpack(tmp_path / "first.npz", tmp_path / "again")
    np.testing.assert_allclose(after.piece_logits, other - 1, rtol=1e-2, atol=1e-2)
    assert not after.has_larger


def test_the_files_are_those_of_a_run(folder: Path, tmp_path: Path) -> None:
    """Each has a checksum beside it, so that `teach` on this folder finds none of them damaged."""
    keep_answers(folder, tmp_path / "kept.npz")
    unpack(tmp_path / "kept.npz", tmp_path / "again")
    files = [path for path in (tmp_path / "again").rglob("*") if path.is_file()]
    of_content = [path for path in files if path.suffix != ".crc32"]
    for path in of_content:
        stored = path.with_name(f".{path.name}.crc32")
        assert DiskCache(path.parent).path(path.name, lambda _: pytest.fail("damaged")) == path
        assert stored.exists()
    assert len(files) == 2 * len(of_content)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sides": ["a", "b", "other"]}, "about others"),
        ({"texts": TEXTS[:1]}, "Received: others"),
        ({"rated": []}, "Received: others"),
    ],
)
def test_other_data_is_refused(
    changes: dict[str, object], sentence: str, folder: Path, tmp_path: Path
) -> None:
    """Answers about other texts or questions teach nothing, and nothing is written."""
    keep_answers(folder, tmp_path / "kept.npz")
    with pytest.raises(InvalidInput, match=sentence):
        unpack(tmp_path / "kept.npz", tmp_path / "again", **changes)
    assert not (tmp_path / "again").exists()


def test_a_folder_with_answers_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """Answers are not unpacked over those of a run."""
    keep_answers(folder, tmp_path / "kept.npz")
    with pytest.raises(InvalidInput, match="new output folder"):
        unpack(tmp_path / "kept.npz", folder)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """What is no file of answers is said in a sentence."""
    file = tmp_path / "kept.npz"
    file.write_text("text", encoding="utf-8")
    with pytest.raises(DataError, match="must be a file of kept answers"):
        unpack(file, tmp_path / "again")
