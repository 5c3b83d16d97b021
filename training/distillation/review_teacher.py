"""A larger pretrained teacher that reads whole reviews and passages.

What a small transformer says about a sentence is good enough for a student; about a review, five
times as many weights know more. It is fine-tuned on views of the training reviews, and answers the
reviews about which the first teacher is least sure: where that one is sure, both mostly agree. Its
answers are mixed with those of the other teachers, with weights fitted on validation reviews. It
also answers the passages among the questions; there the mean of both teachers' logits is learned.

Its parts are in `large/`, beside those of the first teacher; each is made once, and a stopped run
resumes. No part learns from a validation or test review.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import InvalidInput
from training.data.dataset import Dataset
from training.data.split import fingerprint
from training.distillation.answers import (
    IDENTITY,
    LARGE,
    PASSAGES_FILE,
    QUESTIONS,
    REVIEWS,
    larger_file,
)
from training.distillation.pretrained import (
    FitConfig,
    PretrainedTeacher,
    TeacherExamples,
    WordPieces,
    digest_weights,
    fit,
    load_weights,
    predict_windows,
    save_weights,
)
from training.distillation.questions import PASSAGES, read_questions
from training.distillation.readable import readable
from training.distillation.views import make_examples
from training.support.arrays import Float32Array, Int64Array
from training.support.cache import Arrays, DiskCache
from training.support.files import remove
from training.support.progress import print_line

_SHARD: Final = 1_000
"""Reviews or passages in a part of the answers: minutes of computing on a CPU."""
_FIT: Final = FitConfig(learning_rate=3e-5, ema_momentum=0.99)
_VIEWS_SEED: Final = 11
"""Of the views of reviews; they are not those of the first teacher."""


@dataclass(frozen=True, slots=True)
class ReviewTeacherConfig:
    """How the larger teacher is made.

    Attributes:
        fit: How it is fine-tuned.
        steps: The most batches; each review is seen at most once.
        frozen: The first layers, which keep their pretrained weights: a step takes less time.
        share: Of the training and unlabelled reviews that it answers, the least sure ones first.
        longest: The most word pieces of a window of a review or passage.
        checkpoint_every_s: Seconds between checkpoints.
    """

    fit: FitConfig = field(default_factory=lambda: _FIT)
    steps: int = 800
    frozen: int = 4
    share: float = 0.5
    longest: int = 256
    checkpoint_every_s: float = 300.0

    def __post_init__(self) -> None:
        """Check steps and share.

        Raises:
            InvalidInput: There is no step, or the share is not above 0 and at most 1.
        """
        if self.steps < 1:
            raise InvalidInput(f"the number of batches must be 1 or more. Received: {self.steps}")
        if not 0 < self.share <= 1:
            raise InvalidInput(
                f"the share of the reviews must be above 0 and at most 1. Received: {self.share}"
            )


class ReviewTeacher:
    """The parts of the larger teacher; each is made when first asked for."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        model: PretrainedTeacher,
        pieces: WordPieces,
        config: ReviewTeacherConfig,
    ) -> None:
        """Make nothing yet.

        Args:
            dataset: Two classes, the second one positive.
            folder: The output folder of `teach`.
            model: The pretrained model.
            pieces: Its tokenizer.
            config: How the teacher is made.

        Raises:
            InvalidInput: The parts in `folder` were made from other data or in another way.
        """
        (folder / LARGE / "parts").mkdir(parents=True, exist_ok=True)
        self._dataset, self._folder, self._config = dataset, folder, config
        self._model, self._pieces = model, pieces
        self._cache = DiskCache(folder / LARGE)
        self._claim()

    def fit(self) -> None:
        """Fine-tune the teacher, and load its weights."""
        load_weights(self._model, self._cache.path("weights.pt", self._tune))

    def answer(self, first: Mapping[str, Float32Array]) -> None:
        """Answer the reviews that the first teacher is least sure about, and all of validation.

        Args:
            first: Logits of the first teacher for the reviews of each of `REVIEWS`, float32
                (texts,).
        """
        logits = {split: np.full(len(first[split]), np.nan, np.float32) for split in REVIEWS}
        asked = {"validation": np.arange(len(first["validation"]))}
        asked |= _least_sure(first, self._config.share)
        for split, rows in asked.items():
            texts = getattr(self._dataset, split).texts()
            chosen = [texts[row] for row in rows.tolist()]
            # Its name says what a part is about: other reviews may be asked about next time.
            logits[split][rows] = self._answer_in_parts(split, chosen, rows)
        for split, found in logits.items():
            self._store(larger_file(split), found)
        counts = ", ".join(f"{len(rows):,} of {split}" for split, rows in asked.items())
        print_line(f"{self._folder / LARGE}: answers about reviews: {counts}")
        print_line(self._validation_line(logits["validation"]))

    def answer_passages(self) -> None:
        """Answer the questions of the first teacher that are as long as reviews."""
        questions = read_questions(self._folder / QUESTIONS)
        texts = [each.asked for each in questions if each.kind in PASSAGES]
        self._store(PASSAGES_FILE, self._answer_in_parts("passages", texts, texts))
        print_line(f"{self._folder / LARGE}: answers about {len(texts):,} passages")

    def _answer_in_parts(
        self, name: str, texts: Sequence[str], about: Int64Array | Sequence[str]
    ) -> Float32Array:
        """Return the logits of texts, made in parts that are kept.

        Args:
            name: What the names of the parts begin with.
            texts: The texts.
            about: What tells the texts of a part from others: their rows, or the texts themselves.
        """
        found = [np.zeros(0, np.float32)]
        for number, start in enumerate(range(0, len(texts), _SHARD)):
            part = slice(start, start + _SHARD)
            file = f"{name}-{number:04}-{_digest(about[part])}.npz"
            compute = partial(self._compute, file, texts[part])
            found.append(self._parts.arrays(file, compute)["logits"])
        return np.concatenate(found)

    def _store(self, name: str, logits: Float32Array) -> None:
        """Store logits, unless the same are stored."""
        create: Callable[[], Arrays] = partial(dict, logits=logits)
        if not np.array_equal(self._cache.arrays(name, create)["logits"], logits, equal_nan=True):
            remove(self._cache.folder / name)
            DiskCache(self._cache.folder).arrays(name, create)

    @property
    def _parts(self) -> DiskCache:
        return DiskCache(self._folder / LARGE / "parts")

    def _compute(self, name: str, texts: Sequence[str]) -> Arrays:
        print_line(f"{LARGE}/{name}: reading {len(texts):,} texts")
        windows = self._pieces.windows([*map(readable, texts)], self._config.longest)
        return {"logits": predict_windows(self._model, windows)[:, 0]}

    def _tune(self, path: Path) -> None:
        examples = TeacherExamples(
            **self._cache.arrays("examples.npz", lambda: asdict(self._examples()))
        )
        print_line(f"{LARGE}: {len(examples.ends):,} texts, {len(examples.ids):,} word pieces")
        fit(
            self._model,
            examples,
            self._folder / LARGE,
            self._config.fit,
            steps=self._config.steps,
            checkpoint_every_s=self._config.checkpoint_every_s,
        )
        save_weights(self._model, path)

    def _examples(self) -> TeacherExamples:
        train = self._dataset.train
        return make_examples(
            train.texts(),
            np.asarray(train.targets(), np.float32),
            self._pieces,
            copies=1,
            pieces_too=False,
            seed=_VIEWS_SEED,
        )

    def _validation_line(self, logits: Float32Array) -> str:
        positive = np.asarray(self._dataset.validation.targets()) > 0
        right = np.where(positive, logits, -logits).astype(np.float64)
        return (
            f"{LARGE}: validation: {(right > 0).mean():.2%} of {len(right):,} texts right, "
            f"log loss {np.logaddexp(0, -right).mean():.3f}"
        )

    def _claim(self) -> None:
        """Store what the parts are made from, or check that it is the same."""
        config = asdict(self._config)
        for without_effect in ("share", "checkpoint_every_s"):  # on the weights
            del config[without_effect]
        sides = [fingerprint(side) for side in self._dataset.learned_sides()]
        identity = {"config": config, "data": sides, "encoder": digest_weights(self._model)}
        content = json.dumps(identity, indent=1) + "\n"
        path = self._cache.path(IDENTITY, lambda path: path.write_text(content, "utf-8"))
        if path.read_text(encoding="utf-8") != content:
            raise InvalidInput(
                "a teacher must be resumed with the data, the weights and the options that it was "
                f"started with. Received: others than those in {path}; remove {path.parent} or "
                "choose another folder"
            )


def _least_sure(first: Mapping[str, Float32Array], share: float) -> dict[str, Int64Array]:
    """Return the training and unlabelled reviews with the smallest logits, by split, in order."""
    certainty = np.abs(np.concatenate([first["train"], first["unlabelled"]]))
    least = np.sort(np.argsort(certainty, kind="stable")[: round(share * len(certainty))])
    trained = len(first["train"])
    return {"train": least[least < trained], "unlabelled": least[least >= trained] - trained}


def _digest(rows: Int64Array | Sequence[str]) -> str:
    """Return a name for reviews or texts, whose order counts."""
    data = rows.tobytes() if isinstance(rows, np.ndarray) else "\0".join(rows).encode()
    return sha256(data).hexdigest()[:8]
