"""The answers of the pretrained teacher as files: `teach` writes them, a student reads them.

Reading needs neither PyTorch nor the pretrained model, so a student may be trained on another
machine than its teacher.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import DataError
from training.data.corpus import LazySequence
from training.data.shards import TrainingExample
from training.distillation.questions import read_questions
from training.support.arrays import Float32Array

QUESTIONS: Final = "questions.tsv.gz"
CALIBRATION: Final = "calibration.json"
REVIEWS: Final = ("train", "validation", "unlabelled")


def review_logits_file(split: str) -> str:
    """Return the name of the file with the logits of the reviews of a split."""
    return f"reviews/{split}.npz"


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
        logits = self._read(review_logits_file(split))
        return soft_labels(logits / np.float32(self._temperature))

    def pieces(self, weight: float) -> LazySequence[TrainingExample]:
        """Return all questions as training examples with soft labels.

        Args:
            weight: Their sample weight.
        """
        parts = self._piece_logits

        def examples() -> Iterator[TrainingExample]:
            questions = read_questions(self.folder / QUESTIONS)
            for question, target in zip(questions, soft_labels(parts), strict=True):
                yield TrainingExample(question.text, target, weight)

        return LazySequence(examples, len(parts))

    @cached_property
    def _piece_logits(self) -> Float32Array:
        """Logits of all questions, float32 (questions,)."""
        asked = sum(1 for _ in read_questions(self._complete(QUESTIONS)))
        parts: list[Float32Array] = []
        for part in count():
            if sum(map(len, parts)) >= asked:
                return np.concatenate(parts) if parts else np.zeros(0, np.float32)
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
            raise DataError(
                f"{self.folder}: a teacher must have answered everything. Received: no {name}; the "
                "command that made the folder resumes it"
            )
        return path


def soft_labels(logits: Float32Array) -> Float32Array:
    """Return class probabilities, float32 (texts, 2), from logits of the second class."""
    positive = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return np.stack([1 - positive, positive], axis=1).astype(np.float32)
