"""The answers of a made-up teacher about a tiny corpus, as `teach` would leave them."""

import json
from pathlib import Path

import numpy as np
from scipy.special import logit

from tests.corpus import NEGATIVE, POSITIVE
from training.data.dataset import Dataset
from training.distillation.answers import (
    CALIBRATION,
    QUESTIONS,
    answers_file,
    review_logits_file,
)
from training.distillation.questions import NO_REVIEW, Question, write_questions

PIECES = [
    *((f"overpriced and {word}", 0.1, 0.9) for word in NEGATIVE),
    *((f"such {word} value", 0.9, 0.9) for word in POSITIVE),
    *((f"it opens at {hour}", 0.5, 0.05) for hour in range(11, 19)),
]
"""Texts, and the probabilities that they are positive and that they have an opinion."""


def write_answers(folder: Path, dataset: Dataset, *, reviews: bool = True) -> Path:
    """Write answers about `PIECES` and, if wanted, about all texts of a data set of two labels."""
    for name in ("answers", "reviews"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    questions = [Question(NO_REVIEW, "everyday", text, text) for text, _, _ in PIECES]
    write_questions(folder / QUESTIONS, iter(questions))
    known = np.array([answer for _, *answer in PIECES], np.float32)
    np.savez(folder / answers_file(0), logits=logit(known))
    (folder / CALIBRATION).write_text(json.dumps({"temperature": 1.0}), encoding="utf-8")
    if reviews:
        for split in ("train", "validation", "unlabelled"):
            positive = [0.1 if label <= 0 else 0.9 for label in getattr(dataset, split).targets()]
            both = np.stack([positive, np.full(len(positive), 0.99)], axis=1)
            np.savez(folder / review_logits_file(split), logits=logit(both).astype(np.float32))
    return folder
