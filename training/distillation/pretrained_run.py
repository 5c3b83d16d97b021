"""All that the pretrained teacher does, in parts that are made once and kept on disk.

1. `round-1`: fine-tune on views and pieces of the training reviews, with their labels, on everyday
   sentences, and on sentences that people rated.
2. `round-2`: the teacher answers sentences, fragments and their alterations; it learns its own
   clear answers, sharpened, beside the rated sentences and the reviews again.
3. `calibration.json`: a temperature, fitted on validation reviews.
4. `answers/` and `reviews/`: its answers about every question and every review, for a student.

A stopped run resumes with the same command: after the last part that is complete, and in the middle
of a fine-tuning. No part learns from a validation or test review; unlabelled reviews that are also
test reviews are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.special import expit, logit

from app.errors import InvalidInput
from training.data.corpus import Corpus
from training.data.dataset import Dataset
from training.data.split import fingerprint
from training.distillation.answers import (
    CALIBRATION,
    IDENTITY,
    PART,
    QUESTIONS,
    REVIEWS,
    answers_file,
    review_logits_file,
)
from training.distillation.pretrained import (
    FitConfig,
    PretrainedTeacher,
    TeacherExamples,
    WordPieces,
    fit,
    load_weights,
    predict,
    predict_windows,
    save_weights,
)
from training.distillation.questions import (
    PASSAGES,
    Question,
    QuestionShares,
    all_questions,
    everyday_questions,
    rated_questions,
    read_questions,
    write_questions,
)
from training.distillation.rated import RatedText
from training.distillation.readable import readable
from training.distillation.views import LONG_VIEW, join_examples, make_examples, own_answers
from training.support.arrays import Float32Array, Float64Array
from training.support.cache import Arrays, DiskCache
from training.support.progress import print_line

_REVIEW_SHARD: Final = 2_500
_SELF_TAUGHT: Final = QuestionShares(
    paragraphs=0.05,
    sentences=0.05,
    fragments=0.4,
    alterations=0.6,
    contrasts=0.05,
    everyday=8_000,
    turned=0.0,
)
"""What the second round learns from."""
_FIRST_EVERYDAY: Final = 12_000
"""Everyday sentences in the first round."""
_RATED_COPIES: Final = 6
"""How often the rated texts are in a round: they are few, and say more than anything else."""
_TEMPERATURES: Final = np.geomspace(0.25, 4.0, 401)


@dataclass(frozen=True, slots=True)
class TeachConfig:
    """How the teacher is made.

    Attributes:
        fit: How it is fine-tuned.
        copies: How often it sees each review in a round, each time in another view.
        rounds: 1 without the answers of its own.
        steps: The most batches of each round, the last one for all further rounds; by default every
            example is seen once.
        shares: The questions that it answers for the student.
        longest: The most word pieces of a question, whose middle is cut out, and of a window of a
            review or passage.
        threads: Of PyTorch on a CPU; by default as many as there are cores.
        checkpoint_every_s: Seconds between checkpoints.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    copies: int = 1
    rounds: int = 2
    steps: tuple[int, ...] = ()
    shares: QuestionShares = field(default_factory=QuestionShares)
    longest: int = LONG_VIEW
    threads: int | None = None
    checkpoint_every_s: float = 300.0

    def steps_of(self, number: int) -> int | None:
        """Return the most batches of a round, counted from 1; None for every example once."""
        return self.steps[min(number, len(self.steps)) - 1] if self.steps else None


class TeacherRun:
    """The parts of one teacher; each is made when first asked for."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        model: PretrainedTeacher,
        pieces: WordPieces,
        config: TeachConfig,
        rated: Sequence[RatedText] = (),
    ) -> None:
        """Make nothing yet.

        Args:
            dataset: Two classes, the second one positive; with unlabelled texts.
            folder: Where the parts are; created if missing.
            model: The pretrained model.
            pieces: Its tokenizer.
            config: How the teacher is made.
            rated: Texts that people rated.

        Raises:
            InvalidInput: The data has another number of classes than two, or the parts in `folder`
                were made from other data or in another way.
        """
        if len(dataset.train.labels) != 2:
            raise InvalidInput(
                "the pretrained teacher learns texts of two labels. Received: "
                f"{len(dataset.train.labels)}"
            )
        if config.threads:
            torch.set_num_threads(config.threads)
        folder.mkdir(parents=True, exist_ok=True)
        self._dataset, self._config, self._rated = dataset, config, rated
        self._folder, self._model, self._pieces = folder, model, pieces
        self._cache = DiskCache(folder)
        self._claim()

    def fit(self) -> None:
        """Fine-tune the teacher in rounds, and load the weights of the last one."""
        for number in range(1, self._config.rounds + 1):
            name = f"round-{number}"
            weights = self._cache.path(f"{name}.pt", partial(self._tune, number))
        load_weights(self._model, weights)

    def load(self, weights: Path) -> None:
        """Load the weights of a part, or the averaged weights of a checkpoint."""
        load_weights(self._model, weights)

    def probabilities(self, texts: Sequence[str]) -> Float64Array:
        """Return the probability that each text is positive, with the loaded weights."""
        positive: Float64Array = expit(self._both(texts)[:, 0])
        return positive

    def opinions(self, texts: Sequence[str]) -> Float64Array:
        """Return the probability that each text has an opinion, with the loaded weights."""
        opinion: Float64Array = expit(self._both(texts)[:, 1])
        return opinion

    def _both(self, texts: Sequence[str]) -> Float64Array:
        return self._read_all(texts).astype(np.float64)

    def validation_line(self) -> str:
        """Return accuracy and log-loss on the validation texts, with the loaded weights."""
        positive = _positive(self._dataset.validation)
        found = self.probabilities(self._dataset.validation.texts())
        right = np.where(positive > 0, found, 1 - found)
        return (
            f"validation: {(right > 0.5).mean():.2%} of {len(right):,} texts right, log loss "
            f"{-np.log(np.maximum(right, 1e-9)).mean():.3f}"
        )

    def answer(self) -> None:
        """Answer all reviews and questions."""
        questions = sum(1 for _ in self.answers())
        temperature = self.temperature
        reviews = sum(len(self.review_logits(split)) for split in REVIEWS)
        print_line(
            f"temperature {temperature:.2f}; answers about {questions:,} questions and {reviews:,} "
            "reviews"
        )

    def review_logits(self, split: str) -> Float32Array:
        """Return the logits of the reviews of a split, one of `REVIEWS`: float32 (texts, 2)."""
        corpus: Corpus = getattr(self._dataset, split)
        return self._logits(review_logits_file(split), corpus.texts())

    @cached_property
    def temperature(self) -> float:
        """What the logits of reviews are divided by, fitted on validation reviews."""

        def write(path: Path) -> None:
            logits = self._logits(
                review_logits_file("validation"), self._dataset.validation.texts()
            )
            fitted = fit_logit_temperature(logits[:, 0], _positive(self._dataset.validation))
            path.write_text(json.dumps({"temperature": fitted}) + "\n", encoding="utf-8")

        path = self._cache.path(CALIBRATION, write)
        return float(json.loads(path.read_text(encoding="utf-8"))["temperature"])

    def answers(self) -> Iterator[tuple[Question, list[float]]]:
        """Yield every question with the teacher's two logits, made in parts of 20,000 questions."""
        path = self._cache.path(
            QUESTIONS,
            lambda path: write_questions(
                path, self._questions(self._config.shares, self._config.fit.seed)
            ),
        )
        questions = read_questions(path)
        number = 0
        while part := list(islice(questions, PART)):
            logits = self._answers(answers_file(number), part)
            yield from zip(part, logits.tolist(), strict=True)
            number += 1

    def _claim(self) -> None:
        """Store what the parts are made from, or check that it is the same."""
        config = asdict(self._config)
        for without_effect in ("threads", "checkpoint_every_s"):
            del config[without_effect]
        sides = self._dataset.learned_sides()
        identity: dict[str, object] = {
            "config": config,
            "data": [fingerprint(side) for side in sides],
            "reviews": "windows",  # earlier, the middle of a review was cut out
        }
        if self._rated:
            identity["rated"] = sha256(repr(self._rated).encode()).hexdigest()
        content = json.dumps(identity, indent=1) + "\n"
        path = self._cache.path(IDENTITY, lambda path: path.write_text(content, encoding="utf-8"))
        if path.read_text(encoding="utf-8") != content:
            raise InvalidInput(
                "a teacher must be resumed with the data and the options that it was started with. "
                f"Received: others than those in {path}; choose another folder"
            )

    def _questions(self, shares: QuestionShares, seed: int) -> Iterator[Question]:
        """Return questions about training and unlabelled reviews, and those from no review."""
        texts = [*self._dataset.train.texts(), *self._dataset.unlabelled.texts()]
        return all_questions(texts, self._rated, shares, seed=seed)

    def _tune(self, number: int, path: Path) -> None:
        name = f"round-{number}"
        if number > 1:
            load_weights(self._model, self._folder / f"round-{number - 1}.pt")
        made = self._cache.arrays(f"{name}-examples.npz", lambda: asdict(self._examples(number)))
        examples = TeacherExamples(**made)
        print_line(f"{name}: {len(examples.ends):,} texts, {len(examples.ids):,} word pieces")
        (self._folder / name).mkdir(exist_ok=True)
        fit(
            self._model,
            examples,
            self._folder / name,
            self._config.fit,
            steps=self._config.steps_of(number),
            checkpoint_every_s=self._config.checkpoint_every_s,
        )
        save_weights(self._model, path)

    def _examples(self, number: int) -> TeacherExamples:
        seed = self._config.fit.seed + number - 1
        corpus = self._dataset.train
        labelled = make_examples(
            corpus.texts(),
            _positive(corpus),
            self._pieces,
            copies=self._config.copies,
            pieces_too=number == 1,
            seed=seed,
        )
        rated = self._known_answers(
            list(rated_questions(self._rated, None, seed=seed)) * _RATED_COPIES
        )
        if number == 1:
            everyday = list(everyday_questions(_FIRST_EVERYDAY, seed=seed))
            return join_examples(labelled, rated, self._known_answers(everyday))
        questions = list(self._questions(_SELF_TAUGHT, seed))
        logits = np.concatenate(
            [
                self._answers(
                    f"round-{number}/{start // PART:04}.npz", questions[start : start + PART]
                )
                for start in range(0, len(questions), PART)
            ]
        )
        return join_examples(labelled, rated, own_answers(questions, logits, self._pieces))

    def _known_answers(self, questions: Sequence[Question]) -> TeacherExamples:
        return own_answers(questions, _known_logits(questions), self._pieces)

    def _answers(self, name: str, questions: Sequence[Question]) -> Float32Array:
        """Return the logits of questions: the known ones, else those of the loaded weights."""

        def compute() -> Arrays:
            logits = _known_logits(questions)
            passages = np.array([each.kind in PASSAGES for each in questions], bool)
            unknown = np.isnan(logits[:, 0])
            for rows, read in ((unknown & ~passages, self._predict), (passages, self._read_all)):
                asked = [questions[at].asked for at in np.flatnonzero(rows).tolist()]
                if asked:
                    print_line(f"{name}: answering {len(asked):,} texts")
                    logits[rows] = read(asked)
            return {"logits": logits}

        return self._keep(name, compute)

    def _logits(self, name: str, texts: Sequence[str]) -> Float32Array:
        """Return the logits of reviews with the loaded weights, kept as the file `name`.

        A review is read in windows, whose logits are averaged: verdicts are anywhere in it.
        """

        def compute(part: Sequence[str]) -> Arrays:
            print_line(f"{name}: reading {len(part):,} texts")
            return {"logits": self._read_all(part)}

        def join() -> Arrays:
            parts = [
                self._keep(
                    f"{name.removesuffix('.npz')}/{start // _REVIEW_SHARD:04}.npz",
                    partial(compute, texts[start : start + _REVIEW_SHARD]),
                )
                for start in range(0, len(texts), _REVIEW_SHARD)
            ]
            return {"logits": np.concatenate([np.zeros((0, 2), np.float32), *parts])}

        return self._keep(name, join)

    def _read_all(self, texts: Sequence[str]) -> Float32Array:
        """Return the logits of texts, the mean of their windows."""
        windows = self._pieces.windows([*map(readable, texts)], self._config.longest)
        return predict_windows(self._model, windows)

    def _keep(self, name: str, compute: Callable[[], Arrays]) -> Float32Array:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        logits: Float32Array = DiskCache(path.parent).arrays(path.name, compute)["logits"]
        return logits

    def _predict(self, texts: Sequence[str]) -> Float32Array:
        """Return the logits of texts, the middle of long ones cut out."""
        rows = self._pieces.encode([readable(text) for text in texts], self._config.longest)
        return predict(self._model, rows)


def _known_logits(questions: Sequence[Question]) -> Float32Array:
    """Return both logits of each question, nan where no answer is known: float32 (questions, 2)."""
    known = [
        (math.nan if part is None else part for part in (each.known, each.opinion))
        for each in questions
    ]
    logits: Float32Array = logit(np.array([*map(tuple, known)], np.float32).reshape(-1, 2))
    return logits


def fit_logit_temperature(logits: Float32Array, positive: Float32Array) -> float:
    """Return the temperature with the lowest log-loss.

    Args:
        logits: float32 (texts,).
        positive: 1 for a positive text, else 0: float32 (texts,).
    """
    signed: Float64Array = np.where(positive > 0, logits, -logits).astype(np.float64)
    losses = [np.logaddexp(0, -signed / t).mean() for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _positive(corpus: Corpus) -> Float32Array:
    return np.asarray(corpus.targets(), np.float32)
