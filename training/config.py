"""Every hyperparameter of a training, in one frozen value."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from app.artifact import MODEL_NAME_PATTERN, MODEL_NAME_RULE
from app.errors import InvalidInput

_CHOICES: Final = {
    "architecture": ("bow", "embedding", "rnn"),
    "cleaning": ("standard", "alphanumeric"),
    "length_rule": ("fixed", "deviations"),
    "truncation": ("pre", "post", "head_tail"),
    "cell": ("simple", "lstm", "gru"),
    "pooling": ("last", "max", "mean", "max_mean"),
    "activation": ("relu", "tanh", "sigmoid", "elu", "selu", "softplus"),
    "weight_init": (
        *("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform"),
        *("lecun_normal", "random_uniform", "random_normal", "orthogonal"),
    ),
    "ngrams": (0, 1, 2, 3),
    "teacher": ("none", "linear", "network"),
    "class_weights": ("none", "balanced"),
    "optimizer": (*("sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "adamw", "nadam"),),
    "schedule": ("plateau", "constant", "cosine", "exponential"),
    "keep": ("best", "last"),
}
"""What a field may be, where that is a short list."""


_POSITIVE: Final = (
    *("vocabulary_size", "min_count", "max_length", "embedding", "embedding_rate", "units"),
    *("layers", "ngram_buckets", "ngram_rate", "learning_rate", "decay", "batch_size", "epochs"),
    *("sorted_together", "stop_patience", "reduce_patience", "validation_share"),
    "known_width",
)


_NOT_NEGATIVE: Final = ("head", "known_ngrams", "l1", "l2", "ngram_l2", "warmup", "clip_norm")


_SHARES: Final = (
    *("word_dropout", "input_dropout", "recurrent_dropout", "dropout", "momentum", "average"),
    "validation_share",
)


_MOST_BUCKETS: Final = 2**24


KNOWN_PLACES: Final = 2**22
"""Rows in which n-grams look for their vector. With eight for each that has one, one in nine of the
others takes it for theirs."""


KNOWN_WIDTH: Final = 128
"""Of the vectors of n-grams, before a model makes fewer numbers of them."""


_RETIRED: Final = {"pairs": 0}
"""Fields that were, and what they had to be for a recipe to mean what it means without them."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a model is built and trained. A recipe in `training/configs/` is one of these.

    Attributes:
        name: The model's name, and its folder under `models/`.
        architecture: `bow` (word presence, dense layers), `embedding` (word vectors in a row, dense
            layers) or `rnn` (word vectors, recurrent layers, pooling, dense layers).
        vocabulary_size: Words at most, special ids not counted.
        min_count: Rarer words are unknown.
        cleaning: What a text is reduced to: `standard` (words of every script, `!` and `?`) or
            `alphanumeric` (a-z and 0-9, without the word "rt").
        max_length: Ids of a row at most; longer texts are cut.
        length_rule: `fixed` takes `max_length`; `deviations` takes instead what holds the mean
            length of the training texts and two standard deviations.
        truncation: Where a text that is too long loses its tokens: `pre` at the beginning, `post`
            at the end, `head_tail` in the middle.
        head: Of `head_tail`: tokens kept from the beginning.
        embedding: Width of a word's vector.
        pretrain: Whether word vectors start from the company that words keep, in the training
            texts and in unlabelled ones where there are any, instead of at random.
        embeddings: A text file of word vectors to start from (GloVe, word2vec or fastText); empty
            for none.
        embedding_rate: How fast word vectors learn, as a part of the learning rate.
        known_ngrams: N-grams of up to three words, the most frequent ones, whose vectors stand
            beside those of words; 0 for none. They are learned from all texts without labels
            (`training/features/ngram_vectors.py`), and the model learns one matrix that makes
            `known_width` numbers of them.
        known_width: See there.
        cell: Of the recurrent layers.
        units: Width of a recurrent layer's state, for each direction.
        layers: Recurrent layers, each reading the states of the one before.
        bidirectional: Whether every recurrent layer also reads from the end to the beginning.
        pooling: What is made of the states of the last layer: the `last` one of each direction,
            their `max`, their `mean`, or both (`max_mean`).
        hidden: Widths of the dense layers before the output.
        activation: Of those dense layers.
        weight_init: How kernels start, those for a state before excepted; a name Keras knows.
        ngrams: Words in a row, at most, that count by themselves beside the architecture; 0 leaves
            n-grams out.
        ngram_buckets: Rows of their table, a power of two; n-grams that fall into one row share it.
        ngram_rate: How fast that table learns, as a part of the learning rate.
        ngram_l2: Weight of the table's squares in the loss.
        nb_weighting: Whether each n-gram is weighted by how much more often it stands in texts of
            a class than in others (naive Bayes).
        teacher: Who says first what every text is, unlabelled ones too, for the model to learn:
            `none`, `linear` models of n-grams, or these and a `network` on vectors of n-grams.
            With `ngrams`, the model then carries the n-grams of the linear ones as its own.
        teacher_share: How much of a labelled text's target is what the teacher says of it.
        word_dropout: Share of words replaced by the unknown id in training, anew each epoch.
        input_dropout: Share of words (`bow`) or of the columns of word vectors (others) dropped.
        recurrent_dropout: Share of a state's units that is dropped on the way to the next step.
        dropout: Share of features dropped between recurrent layers, after their pooling, and after
            each hidden layer.
        l1: Weight of the absolute kernels of hidden and recurrent layers in the loss; of the
            output's where there are none.
        l2: The same of the squared kernels.
        class_weights: `balanced` gives every class the same weight in the loss, however rare.
        optimizer: A name Keras knows.
        momentum: Of `sgd`.
        nesterov: Whether that momentum looks ahead.
        learning_rate: At the start, or after the warm-up.
        schedule: How it falls: by half after `reduce_patience` epochs without a better loss
            (`plateau`), never (`constant`), along a `cosine` to 0, or `exponential`.
        decay: Of `exponential`: what is left of the learning rate after each epoch.
        warmup: Epochs, or a part of one, in which the learning rate rises from 0.
        clip_norm: Gradients are scaled down to this global norm; 0 leaves them.
        average: Momentum of the moving average of the weights that is kept instead of the last
            weights; 0 keeps the last.
        batch_size: Texts a step.
        sorted_together: Batches whose texts are sorted by length before they are parted, which
            saves padding; with 1, a batch is a draw of texts of any length.
        epochs: At most; early stopping ends sooner.
        keep: `best` stops early and keeps the epoch of the lowest validation loss; `last` trains
            all epochs and keeps what they end with.
        stop_patience: Epochs without a better validation loss before training stops.
        reduce_patience: The same, before the learning rate is halved.
        validation_share: Part of the training texts held out for every choice.
        seed: Of the split, the weights, the order and the dropout.
    """

    name: str
    architecture: str
    vocabulary_size: int = 10_000
    min_count: int = 2
    cleaning: str = "standard"
    max_length: int = 400
    length_rule: str = "fixed"
    truncation: str = "head_tail"
    head: int = 100
    embedding: int = 128
    pretrain: bool = False
    embeddings: str = ""
    embedding_rate: float = 1.0
    known_ngrams: int = 0
    known_width: int = 16
    cell: str = "lstm"
    units: int = 128
    layers: int = 1
    bidirectional: bool = False
    pooling: str = "max_mean"
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    weight_init: str = "glorot_uniform"
    ngrams: int = 0
    ngram_buckets: int = 2**20
    ngram_rate: float = 1.0
    ngram_l2: float = 0.0
    nb_weighting: bool = False
    teacher: str = "none"
    teacher_share: float = 0.7
    word_dropout: float = 0.0
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    dropout: float = 0.5
    l1: float = 0.0
    l2: float = 0.0
    class_weights: str = "none"
    optimizer: str = "adam"
    momentum: float = 0.0
    nesterov: bool = False
    learning_rate: float = 1e-3
    schedule: str = "plateau"
    decay: float = 0.9
    warmup: float = 0.0
    clip_norm: float = 0.0
    average: float = 0.0
    batch_size: int = 64
    sorted_together: int = 50
    epochs: int = 10
    keep: str = "best"
    stop_patience: int = 2
    reduce_patience: int = 1
    validation_share: float = 0.1
    seed: int = 7

    def __post_init__(self) -> None:
        """Check what Keras would not, or only after minutes.

        Raises:
            InvalidInput: A value is out of its bounds; the message names the field.
        """
        if not re.fullmatch(MODEL_NAME_PATTERN, self.name):
            raise InvalidInput(f"{MODEL_NAME_RULE}. Received: {self.name!r}")
        for field, kind in get_type_hints(Config).items():
            value = getattr(self, field)
            if kind is float and not math.isfinite(value):
                raise InvalidInput(f"{field} must be a finite number. Received: {value}")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                known, received = ", ".join(map(str, choices)), getattr(self, field)
                raise InvalidInput(f"{field} must be one of {known}. Received: {received!r}")
        for field in _NOT_NEGATIVE:
            if getattr(self, field) < 0:
                raise InvalidInput(f"{field} must be 0 or more. Received: {getattr(self, field)}")
        if not 0 <= self.seed < 2**32:
            raise InvalidInput(f"seed must be from 0 to 2**32 - 1. Received: {self.seed}")
        for field in _POSITIVE:
            if getattr(self, field) <= 0:
                raise InvalidInput(f"{field} must be above 0. Received: {getattr(self, field)}")
        for field in _SHARES:
            if not 0 <= getattr(self, field) < 1:
                received = getattr(self, field)
                raise InvalidInput(
                    f"{field} must be from 0 up to, not with, 1. Received: {received}"
                )
        if any(units <= 0 for units in self.hidden):
            raise InvalidInput(f"hidden must be widths above 0. Received: {self.hidden}")
        self._check_together()

    def _check_together(self) -> None:
        """Check what is right or wrong only beside another field."""
        if self.max_length < 2:  # the first id of a row is no word
            raise InvalidInput(f"max_length must be at least 2. Received: {self.max_length}")
        if self.truncation == "head_tail" and self.head >= self.max_length:
            raise InvalidInput(
                f"head must be below max_length, {self.max_length}. Received: {self.head}"
            )
        buckets = self.ngram_buckets
        if buckets & (buckets - 1) or buckets > _MOST_BUCKETS:
            raise InvalidInput(
                f"ngram_buckets must be a power of two, {_MOST_BUCKETS} at most. "
                f"Received: {buckets}"
            )
        if self.nb_weighting and not self.ngrams:
            raise InvalidInput("nb_weighting must stand beside ngrams above 0. Received: ngrams 0")
        if self.nb_weighting and self.teacher != "none":
            raise InvalidInput("n-grams must be learned or a teacher's. Received: both")
        if not 0 <= self.teacher_share <= 1:
            raise InvalidInput(f"teacher_share must be from 0 to 1. Received: {self.teacher_share}")
        if self.warmup > self.epochs:
            raise InvalidInput(
                f"warmup must be at most epochs, {self.epochs}. Received: {self.warmup}"
            )
        if self.decay > 1:
            raise InvalidInput(f"decay must be at most 1. Received: {self.decay}")
        if (self.momentum or self.nesterov) and self.optimizer != "sgd":
            raise InvalidInput(
                f"momentum and nesterov must stand beside optimizer sgd. Received: {self.optimizer}"
            )
        if self.nesterov and not self.momentum:
            raise InvalidInput("nesterov must stand beside momentum above 0. Received: momentum 0")
        for field, most in (("known_ngrams", KNOWN_PLACES), ("known_width", KNOWN_WIDTH)):
            if getattr(self, field) > most:
                raise InvalidInput(
                    f"{field} must be at most {most}. Received: {getattr(self, field)}"
                )
        if self.architecture == "bow" and (self.pretrain or self.embeddings or self.known_ngrams):
            raise InvalidInput(
                "pretrain, embeddings and known_ngrams must stand beside an architecture with word "
                "vectors. Received: bow"
            )
        if self.pretrain and self.embeddings:
            raise InvalidInput(
                "word vectors must start from one source. Received: pretrain and embeddings"
            )

    @property
    def reads_unlabelled(self) -> bool:
        """Whether anything of the recipe learns from texts without labels."""
        return self.pretrain or self.known_ngrams > 0 or self.teacher != "none"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Config:
        """The config that `dataclasses.asdict` made `values` of, also after a trip through JSON.

        A field that there was once is passed over where it said nothing.

        Raises:
            InvalidInput: A field is unknown, missing or out of its bounds.
        """
        kept = {
            field: value
            for field, value in values.items()
            if field not in _RETIRED or value != _RETIRED[field]
        }
        try:
            return cls(**{**kept, "hidden": tuple(values["hidden"])})
        except (TypeError, KeyError) as error:
            raise InvalidInput(f"a config must have the fields of Config: {error}") from error

    def with_values(self, assignments: Sequence[str]) -> Config:
        """A copy with fields set from `field=value`, as the command line gives them.

        Raises:
            InvalidInput: There is no such field, or the value is not of its type.
        """
        types = get_type_hints(Config)
        values: dict[str, Any] = {}
        for assignment in assignments:
            field, _, text = assignment.partition("=")
            if field not in types:
                known = ", ".join(types)
                raise InvalidInput(f"a setting must be one of {known}. Received: {field!r}")
            values[field] = _parse(field, types[field], text)
        return dataclasses.replace(self, **values)


def _parse(field: str, kind: Any, text: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        return tuple(int(part) for part in text.split(",") if part)
    except (ValueError, KeyError) as error:
        rules = {int: "a whole number", float: "a number", bool: "true or false"}
        rule = rules.get(kind, "whole numbers and commas")
        raise InvalidInput(f"{field} must be {rule}. Received: {text!r}") from error
