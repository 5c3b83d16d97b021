"""The answers of the pretrained teacher as files: `teach` writes them, a student reads them.

Reading needs neither PyTorch nor the pretrained model, so a student may be trained on another
machine than its teacher.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from app.errors import InvalidInput
from training.data.corpus import LazySequence
from training.data.shards import TrainingExample
from training.distillation.questions import (
    NO_REVIEW,
    PASSAGES,
    everyday_questions,
    read_questions,
)
from training.distillation.soft_labels import SoftLabels
from training.support.arrays import Float32Array

IDENTITY: Final = "teacher.json"
QUESTIONS: Final = "questions.tsv.gz"
CALIBRATION: Final = "calibration.json"
REVIEWS: Final = ("train", "validation", "unlabelled")
LARGE: Final = "large"
"""The folder of the larger teacher, which answers reviews and passages alone."""
PASSAGES_FILE: Final = "passages.npz"
"""The file in `LARGE` with its logits of questions that are passages, float32 (passages,)."""
PART: Final = 20_000
"""Questions in a file of answers: minutes of computing on a CPU."""
_SPLITS: Final = ("train", "unlabelled", "validation")
"""The splits in the order of the fields of `SoftLabels`."""


def review_logits_file(split: str) -> str:
    """Return the name of the file with the logits of the reviews of a split."""
    return f"reviews/{split}.npz"


def larger_file(split: str) -> str:
    """Return the name, in `LARGE`, of the file with the larger teacher's logits of a split."""
    return f"{split}.npz"


def answers_file(part: int) -> str:
    """Return the name of the file with the logits of a part of the questions."""
    return f"answers/{part:04}.npz"


@dataclass(frozen=True)
class TeacherAnswers:
    """What a teacher said about texts of two classes.

    Attributes:
        folder: The output folder of `teach`.
    """

    folder: Path

    def reviews(self, split: str) -> Float32Array:
        """Return soft labels of the reviews of a split in the order of the data set.

        Args:
            split: `train`, `validation` or `unlabelled`.

        Returns:
            Class probabilities, calibrated on validation reviews: float32 (texts, 2).
        """
        logits = self.review_logits(split)[:, 0]
        return soft_labels(logits / np.float32(self._temperature))

    def review_logits(self, split: str) -> Float32Array:
        """Return both logits of the reviews of a split, float32 (texts, 2)."""
        return self._read(review_logits_file(split))

    def of_reviews(self) -> SoftLabels:
        """Return the soft labels of the reviews of all splits; none where they are missing."""
        none = np.zeros((0, 2), np.float32)
        there = self.splits()
        return SoftLabels(*(self.reviews(each) if each in there else none for each in _SPLITS))

    def opinions_of_reviews(self) -> list[Float32Array]:
        """Return the probability that each review has an opinion, by split as in `of_reviews`."""
        none = np.zeros((0, 2), np.float32)
        there = self.splits()
        files = {each: review_logits_file(each) for each in _SPLITS}
        return [
            expit((self._read(files[each]) if each in there else none)[:, 1]) for each in _SPLITS
        ]

    @property
    def has_larger(self) -> bool:
        """Whether a larger teacher was started in this folder."""
        return (self.folder / LARGE / IDENTITY).exists()

    def larger_reviews(self) -> SoftLabels | None:
        """Return the soft labels of the larger teacher; nan for a text that it did not answer.

        None without such a teacher.
        """
        if not self.has_larger:
            return None
        return SoftLabels(*(soft_labels(self.larger_logits(split)) for split in _SPLITS))

    def larger_logits(self, split: str) -> Float32Array:
        """Return the larger teacher's logits of a split, float32 (texts,); nan if not answered."""
        return self._read(f"{LARGE}/{larger_file(split)}")

    def larger_passages(self) -> Float32Array:
        """Return the larger teacher's logits of questions that are passages, (passages,)."""
        return self._read(f"{LARGE}/{PASSAGES_FILE}")

    def splits(self) -> tuple[str, ...]:
        """Return the splits whose reviews are answered; those of validation weight the teachers."""
        there = [each for each in REVIEWS if (self.folder / review_logits_file(each)).exists()]
        return tuple(there) if {"train", "unlabelled"} & {*there} else ()

    def require_complete(self, *, neutral: bool) -> None:
        """Check that everything is there that a student needs, before hours of work.

        All questions must be answered. The reviews of a split may all be without answers, but those
        of validation must have some if any have, and for a neutral class those of training, too.
        A larger teacher that was started must have answered.

        Args:
            neutral: Whether the student has a neutral class.

        Raises:
            InvalidInput: A file is missing, or the answers are about other questions.
        """
        for name in (QUESTIONS, CALIBRATION):
            self._complete(name)
        if len(self.piece_logits) != self._asked:
            raise InvalidInput(
                f"{self.folder}: each of the {self._asked:,} questions must have one answer. "
                f"Received: {len(self.piece_logits):,}"
            )
        needed = ("train", "validation") if neutral else ("validation",) if self.splits() else ()
        for split in needed:
            self._complete(review_logits_file(split))
        if self.has_larger:
            for split in REVIEWS:
                self._complete(f"{LARGE}/{larger_file(split)}")
            asked, answered = int(self._passages.sum()), len(self.larger_passages())
            if asked != answered:
                raise InvalidInput(
                    f"{self.folder}: the larger teacher must have one answer about each of the "
                    f"{asked:,} passages. Received: {answered:,}"
                )

    def own_texts(self) -> LazySequence[str]:
        """Return the texts of those questions that come from no review."""
        path = self._complete(QUESTIONS)

        def texts() -> Iterator[str]:
            return (each.text for each in read_questions(path) if each.review == NO_REVIEW)

        return LazySequence(texts, sum(1 for _ in texts()))

    def texts(self) -> LazySequence[str]:
        """Return the texts of all questions but passages, whose words are those of the reviews."""
        path = self._complete(QUESTIONS)

        def texts() -> Iterator[str]:
            return (each.text for each in read_questions(path) if each.kind not in PASSAGES)

        return LazySequence(texts, sum(1 for _ in texts()))

    def require_same(self, sides: Sequence[str]) -> None:
        """Check that the teacher was made with the data of a student, divided in the same way.

        Otherwise it may have learned the labels of validation texts.

        Args:
            sides: The fingerprints of the training, validation and unlabelled texts.

        Raises:
            InvalidInput: It was made with others.
        """
        path = self.folder / IDENTITY
        if not path.exists():
            return  # answers that something else has written
        if json.loads(path.read_text(encoding="utf-8"))["data"] != list(sides):
            raise InvalidInput(
                "answers must be about the texts of this training, divided by the same recipe. "
                f"Received: {self.folder}, about others"
            )

    def fingerprint(self) -> str:
        """Return the sha256 of all questions and answers."""
        found = sha256()
        names = [PASSAGES_FILE, *map(larger_file, REVIEWS)]
        large = [self.folder / LARGE / name for name in names]
        for path in sorted(self.folder.glob("**/*.npz")):
            if path.parent.name in ("answers", "reviews") or path in large:
                found.update(path.read_bytes())
        for name in (QUESTIONS, CALIBRATION):
            found.update(self._complete(name).read_bytes())
        return found.hexdigest()

    def pieces(self, weight: float, *, classes: int = 2) -> LazySequence[TrainingExample]:
        """Return all questions as training examples with soft labels.

        Args:
            weight: The sample weight of each; passages, as long as reviews, have 1.
            classes: 3 for an even class between the two others: texts that have no opinion.
        """
        labels = _soft_labels_of(self._mixed_logits(), classes)

        def examples() -> Iterator[TrainingExample]:
            questions = read_questions(self.folder / QUESTIONS)
            for question, target in zip(questions, labels, strict=True):
                counts = 1.0 if question.kind in PASSAGES else weight
                yield TrainingExample(question.text, target, counts)

        return LazySequence(examples, len(labels))

    def _mixed_logits(self) -> Float32Array:
        """Return both logits of all questions.

        The first logit of a passage is the mean of both teachers' if there is a larger one.
        """
        if not self.has_larger:
            return self.piece_logits
        mixed = self.piece_logits.copy()
        mixed[self._passages, 0] = (mixed[self._passages, 0] + self.larger_passages()) / 2
        return mixed

    @property
    def _asked(self) -> int:
        """The number of questions."""
        return len(self._passages)

    @cached_property
    def _passages(self) -> NDArray[np.bool_]:
        """Which questions are passages, bool (questions,)."""
        questions = read_questions(self._complete(QUESTIONS))
        return np.array([each.kind in PASSAGES for each in questions], bool)

    @cached_property
    def piece_logits(self) -> Float32Array:
        """Both logits of the first teacher of all questions, float32 (questions, 2)."""
        parts: list[Float32Array] = []
        for part in count():
            if sum(map(len, parts)) >= self._asked:
                return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
            parts.append(self._read(answers_file(part)))
        raise AssertionError

    @cached_property
    def _temperature(self) -> float:
        text = self._complete(CALIBRATION).read_text(encoding="utf-8")
        return float(json.loads(text)["temperature"])

    def _read(self, name: str) -> Float32Array:
        with np.load(self._complete(name)) as arrays:
            logits: Float32Array = arrays["logits"]
        return logits

    def _complete(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise InvalidInput(
                f"{self.folder}: a teacher must have answered everything that a student learns. "
                f"Received: no {name}; the command that made the folder resumes it"
            )
        return path


def everyday_examples(
    count: int, weight: float, *, classes: int = 2, seed: int
) -> list[TrainingExample]:
    """Return everyday sentences and ratings with soft labels of what they are known to mean.

    Args:
        count: The most sentences.
        weight: Their sample weight.
        classes: As in `TeacherAnswers.pieces`.
        seed: Of all choices.
    """
    questions = [*everyday_questions(count, seed=seed)]
    logits = logit(np.array([[each.known, each.opinion] for each in questions], np.float64))
    labels = _soft_labels_of(logits.astype(np.float32), classes)
    pairs = zip(questions, labels, strict=True)
    return [TrainingExample(question.text, target, weight) for question, target in pairs]


def _soft_labels_of(logits: Float32Array, classes: int) -> Float32Array:
    return soft_labels(logits[:, 0]) if classes == 2 else three_soft_labels(logits)


def soft_labels(logits: Float32Array) -> Float32Array:
    """Return class probabilities, float32 (texts, 2), from logits of the second class."""
    positive = expit(logits.astype(np.float64))
    return np.stack([1 - positive, positive], axis=1).astype(np.float32)


def three_soft_labels(logits: Float32Array) -> Float32Array:
    """Return the probabilities of a bad, no, and a good opinion, float32 (texts, 3).

    Args:
        logits: Of being positive, and of having an opinion: float32 (texts, 2).
    """
    positive, opinion = expit(logits.astype(np.float64)).T
    # Whoever found no opinion is divided evenly in `positive`; what is left over is the others'.
    good = np.clip(positive - (1 - opinion) / 2, 0, opinion)
    return np.stack([opinion - good, 1 - opinion, good], axis=1).astype(np.float32)
