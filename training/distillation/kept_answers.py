"""All answers of a pretrained teacher in one file of a megabyte, for students without that teacher.

The file has logits and no text. The questions are made again from the same data, which gives the
same ones, so neither PyTorch nor hours are needed. It is refused for other data or questions.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import DataError, InvalidInput
from training.distillation.answers import (
    CALIBRATION,
    IDENTITY,
    LARGE,
    PART,
    PASSAGES_FILE,
    QUESTIONS,
    REVIEWS,
    TeacherAnswers,
    answers_file,
    larger_file,
    review_logits_file,
)
from training.distillation.questions import (
    PASSAGES,
    Question,
    QuestionShares,
    all_questions,
    read_questions,
    write_questions,
)
from training.distillation.rated import RatedText
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.files import atomic_path, remove
from training.support.progress import print_line

_PASSAGES = "passages"


def keep_answers(folder: Path, file: Path) -> None:
    """Write the answers of a folder into one file, in half precision.

    Args:
        folder: The output folder of `teach`, complete.
        file: Is written atomically.

    Raises:
        InvalidInput: Answers are missing.
    """
    answers = TeacherAnswers(folder)
    answers.require_complete(neutral=False)
    logits = {"questions": answers.piece_logits}
    logits |= {split: answers.review_logits(split) for split in answers.splits()}
    about = {
        "teacher": json.loads((folder / IDENTITY).read_text(encoding="utf-8")),
        "questions": _digest(read_questions(folder / QUESTIONS)),
        "calibration": json.loads((folder / CALIBRATION).read_text(encoding="utf-8")),
    }
    if answers.has_larger:
        logits |= {f"{LARGE}/{each}": answers.larger_logits(each) for each in REVIEWS}
        logits[f"{LARGE}/{_PASSAGES}"] = answers.larger_passages()
        about[LARGE] = json.loads((folder / LARGE / IDENTITY).read_text(encoding="utf-8"))
    half: dict[str, Any] = {name: each.astype(np.float16) for name, each in logits.items()}
    with atomic_path(file) as partial, partial.open("wb") as opened:
        np.savez_compressed(opened, about=np.array(json.dumps(about)), **half)


def unpack_answers(
    file: Path,
    folder: Path,
    *,
    sides: Sequence[str],
    texts: Sequence[str],
    rated: Sequence[RatedText],
) -> None:
    """Write what `teach` writes for a student, from a file of `keep_answers`.

    Args:
        file: The answers.
        folder: The output folder; nothing is in it yet.
        sides: The fingerprints of the training, validation and unlabelled texts.
        texts: The training and the unlabelled texts.
        rated: Texts that people rated.

    Raises:
        DataError: The file is no file of answers.
        InvalidInput: It is about other data or other questions, or the folder has answers already.
    """
    about, logits = _read(file)
    if about["teacher"]["data"] != list(sides):
        raise InvalidInput(
            "kept answers must be about the texts of this data, divided by the same recipe. "
            f"Received: {file}, about others"
        )
    if (folder / IDENTITY).exists():
        raise InvalidInput(f"kept answers need a new output folder. Received: {folder}")
    config = about["teacher"]["config"]
    questions = list(
        all_questions(texts, rated, QuestionShares(**config["shares"]), seed=config["fit"]["seed"])
    )
    if _digest(questions) != about["questions"]:
        raise InvalidInput(
            f"{file} must have answers to the questions that this release asks about the rated "
            "texts (--ratings) and the short texts (--short) given. Received: others"
        )
    passages = sum(each.kind in PASSAGES for each in questions)
    answered = len(logits.get(f"{LARGE}/{_PASSAGES}", ()))
    if LARGE in about and answered != passages:
        raise InvalidInput(
            f"{file} must have an answer of the larger teacher to each of {passages:,} passages. "
            f"Received: {answered:,}"
        )
    parts = [
        (answers_file(number), logits["questions"][start : start + PART])
        for number, start in enumerate(range(0, len(questions), PART))
    ]
    parts += [(review_logits_file(each), logits[each]) for each in REVIEWS if each in logits]
    texts_of = {CALIBRATION: "calibration"}
    if LARGE in about:
        parts += [(f"{LARGE}/{larger_file(each)}", logits[f"{LARGE}/{each}"]) for each in REVIEWS]
        parts.append((f"{LARGE}/{PASSAGES_FILE}", logits[f"{LARGE}/{_PASSAGES}"]))
        texts_of |= {f"{LARGE}/{IDENTITY}": LARGE}
    texts_of[IDENTITY] = "teacher"  # the last file: with it, the folder is complete
    for name in ("answers", "reviews", LARGE, QUESTIONS, CALIBRATION):
        remove(folder / name)  # of an unpacking that was stopped, perhaps of another file
    _cache(folder / QUESTIONS).path(QUESTIONS, lambda path: write_questions(path, iter(questions)))
    for name, found in parts:
        path = folder / name
        _cache(path).arrays(path.name, partial(dict, logits=found))
    for name, part in texts_of.items():
        path = folder / name
        _cache(path).path(path.name, partial(_write_json, about[part]))
    print_line(f"{len(questions):,} questions and their answers of {file}")


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Float32Array]]:
    try:
        with np.load(file) as arrays:
            logits = {name: arrays[name].astype(np.float32) for name in arrays if name != "about"}
            return json.loads(str(arrays["about"])), logits
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{file} must be a file of kept answers. Received: another one") from error


def _cache(path: Path) -> DiskCache:
    """Return a cache for a file: it writes a checksum beside it, as `teach` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return DiskCache(path.parent)


def _write_json(content: object, path: Path) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _digest(questions: Iterator[Question] | Sequence[Question]) -> str:
    """Return the sha256 of what is asked, in order."""
    found = sha256()
    for each in questions:
        row = (each.review, each.kind, each.text, each.asked, each.known, each.opinion)
        found.update(repr(row).encode())
    return found.hexdigest()
