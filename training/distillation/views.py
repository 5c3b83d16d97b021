"""What the pretrained teacher is fine-tuned on: views of reviews, pieces of them, its own answers.

A review is seen whole, cut in its middle, or through a window; and once more as a short piece. A
piece has the label of its review. That is often wrong, and right as a likelihood: a piece that says
nothing is found in as many good as bad reviews, so its fitted probability is even.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from app.text.padding import Int32Array
from training.distillation.pieces import paragraphs, replace_film_words, sample_piece, sentences
from training.distillation.pretrained import TeacherExamples, WordPieces
from training.distillation.questions import Question
from training.distillation.readable import readable
from training.support.arrays import Float32Array
from training.support.progress import track

SHORT_VIEW: Final = 128
LONG_VIEW: Final = 256
"""Lengths of views in word pieces."""
_PIECE: Final = 96
_LONG_SHARE, _WINDOW_SHARE = 0.15, 0.25
_WINDOW_SENTENCES: Final = 6
_FILM_WORDS_REPLACED: Final = 0.25
_PIECE_WEIGHT: Final = 0.5
_KNOWN_WEIGHT: Final = 1.0
_CLEAR_SHARE: Final = 0.3
_EVEN_SHARE: Final = 0.1
"""These shares of the answers, at either end and in the middle, are opinions and none."""
_SHARPER: Final = 2.0


def make_examples(
    texts: Sequence[str],
    targets: Float32Array,
    pieces: WordPieces,
    *,
    copies: int,
    pieces_too: bool,
    seed: int,
) -> TeacherExamples:
    """Return examples with labels: for each review and copy a view, and a piece.

    Args:
        texts: Reviews.
        targets: The probability that each is positive, float32 (texts,).
        pieces: The tokenizer.
        copies: How often each review is seen, each time in another view.
        pieces_too: Whether there are pieces.
        seed: Of all choices.
    """
    random = Random(seed)
    chosen: list[str] = []
    limits: list[int] = []
    labels: list[float] = []
    weights: list[float] = []

    def add(text: str, limit: int, target: float, weight: float) -> None:
        if not text:
            return
        if random.random() < _FILM_WORDS_REPLACED:
            text = replace_film_words(text, random)
        chosen.append(readable(text))
        limits.append(limit)
        labels.append(target)
        weights.append(weight)

    for _ in range(copies):
        for text, target in zip(track(texts, "Cutting reviews"), targets.tolist(), strict=True):
            view, limit = _view(text, random)
            add(view, limit, target, 1.0)
            if pieces_too:
                add(sample_piece(text, random), _PIECE, target, _PIECE_WEIGHT)
    # A whole review has an opinion; a piece of it may have none.
    opinions = np.where(np.array(weights) == 1, 1.0, np.nan)
    return _pack(pieces.encode(chosen, limits), labels, opinions, weights)


def own_answers(
    questions: Sequence[Question], logits: Float32Array, pieces: WordPieces
) -> TeacherExamples:
    """Return examples from the teacher's own answers, without those where it cannot say.

    The label of a whole review says less about a sentence than the sentence does, so the first
    round makes the teacher too unsure, and more of praise, which bad reviews contain too, than of
    blame. Pieces of as many good as bad reviews are about as often good as bad. So the highest and
    the lowest logits are taken as opinions, and doubled from their median on; those around the
    median are none, and halved. An answer that was known is learned as it is, and it alone says
    whether there is an opinion.

    Args:
        questions: What it was asked.
        logits: What it answered, or what is known, float32 (questions, 2).
        pieces: The tokenizer.
    """
    known = np.array([question.known is not None for question in questions], np.bool_)
    polarity, opinion = logits.T
    rank = np.zeros(len(logits))  # from -0.5 to 0.5
    asked = np.flatnonzero(~known)
    rank[asked[np.argsort(polarity[asked], kind="stable")]] = np.linspace(-0.5, 0.5, len(asked))
    clear = np.abs(rank) >= 0.5 - _CLEAR_SHARE
    kept = np.flatnonzero(known | clear | (np.abs(rank) <= _EVEN_SHARE / 2))
    middle = np.median(polarity[asked]) if len(asked) else 0.0
    scaled = np.where(clear, _SHARPER, 1 / _SHARPER) * (polarity - middle)
    scaled[known] = polarity[known]
    rows = pieces.encode([readable(questions[row].text) for row in kept.tolist()], _PIECE)
    return _pack(
        rows,
        expit(scaled[kept]),
        np.where(known, expit(opinion), np.nan)[kept],
        np.where(known, _KNOWN_WEIGHT, _PIECE_WEIGHT)[kept],
    )


def join_examples(*parts: TeacherExamples) -> TeacherExamples:
    """Return the examples of all parts, one after another."""
    first = np.cumsum([0, *(len(part.ids) for part in parts)])
    return TeacherExamples(
        ids=np.concatenate([part.ids for part in parts]),
        ends=np.concatenate([at + part.ends for at, part in zip(first, parts, strict=False)]),
        targets=np.concatenate([part.targets for part in parts]),
        opinions=np.concatenate([part.opinions for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
    )


def _pack(
    rows: Sequence[Int32Array],
    targets: ArrayLike,
    opinions: ArrayLike,
    weights: ArrayLike,
) -> TeacherExamples:
    return TeacherExamples(
        ids=np.concatenate(rows) if len(rows) else np.zeros(0, np.int32),
        ends=np.cumsum([len(row) for row in rows], dtype=np.int64),
        targets=np.asarray(targets, np.float32),
        opinions=np.asarray(opinions, np.float32),
        weights=np.asarray(weights, np.float32),
    )


def _view(text: str, random: Random) -> tuple[str, int]:
    """Return a review, whole or from a random sentence on, and its length in word pieces."""
    kind = random.random()
    if kind < _LONG_SHARE:
        return text, LONG_VIEW
    if kind < _LONG_SHARE + _WINDOW_SHARE:
        found = [each for paragraph in paragraphs(text) for each in sentences(paragraph)]
        first = random.randrange(len(found)) if found else 0
        return " ".join(found[first : first + _WINDOW_SENTENCES]), SHORT_VIEW
    return text, SHORT_VIEW
