"""Every hyperparameter of a training, in one frozen value of five parts.

    Config
    ├── text       PreprocessingConfig: from text to ids
    ├── model      ModelConfig: from ids to probabilities
    ├── teacher    TeacherConfig: where soft labels come from
    ├── optimizer  OptimizerConfig: how weights are updated
    └── loop       LoopConfig: batches, epochs and which epoch to keep

Field names are unique across the parts, so that the command line and the search spaces name a field
without its part: `--set units=64`. `kind` is the exception: it goes by the name of its part, as in
`--set optimizer=sgd`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from app.artifact import MODEL_NAME_PATTERN, MODEL_NAME_RULE
from app.errors import InvalidInput

NGRAM_EMBEDDING_BUCKETS: Final = 2**22
"""Number of hash buckets in which n-grams look up their embedding. There are at least eight for
each n-gram that has one, so at most one in nine of the others collides with it."""
NGRAM_VECTOR_DIM: Final = 128
"""Dimensions of the pretrained n-gram vectors, before the model projects them to
`ngram_embedding_dim`."""
READ_UNLABELLED: Final = frozenset(
    ("pretrain_embeddings", "ngram_embeddings", "next_word_epochs", "teacher", "answers")
)
"""Fields, by their flat names, with which a training learns from unlabelled texts, too."""
_MAX_BUCKETS: Final = 2**24


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A rule on the value of one field, and how an error states it."""

    rule: str
    hold: Callable[[Any], bool]


_ABOVE_0: Final = _Bounds("above 0", lambda value: value > 0)
_AT_LEAST_0: Final = _Bounds("0 or more", lambda value: value >= 0)
_BELOW_1: Final = _Bounds("at least 0 and below 1", lambda value: 0 <= value < 1)
_BETWEEN_0_AND_1: Final = _Bounds("between 0 and 1", lambda value: 0 < value < 1)
_FROM_0_TO_1: Final = _Bounds("from 0 to 1", lambda value: 0 <= value <= 1)
_UP_TO_1: Final = _Bounds("above 0 and at most 1", lambda value: 0 < value <= 1)
_TEMPERATURE: Final = _Bounds("from 0.25 to 4", lambda value: 0.25 <= value <= 4)
_SEED: Final = _Bounds("from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
_WIDTHS: Final = _Bounds("widths above 0", lambda value: all(width > 0 for width in value))
_BUCKETS: Final = _Bounds(
    f"a power of two, {_MAX_BUCKETS} at most",
    lambda value: 0 < value <= _MAX_BUCKETS and not value & (value - 1),
)


@cache
def _rules(part: Hashable) -> dict[str, Any]:
    """The types of a part's fields, by name, with their bounds."""
    return get_type_hints(part, include_extras=True)


def _check_fields(part: Any, *, kind_of: str = "") -> None:
    """Check every field of a part against its choices and bounds.

    Keras would accept some invalid values, and reject others only after minutes.

    Args:
        part: A part of Config, or Config itself.
        kind_of: What errors call the field `kind`.

    Raises:
        InvalidInput: A value is out of its bounds; the message names the field.
    """
    for name, kind in _rules(part.__class__).items():
        value = getattr(part, name)
        flat = kind_of if name == "kind" else name
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            if value not in choices:
                known = ", ".join(map(str, choices))
                raise InvalidInput(f"{flat} must be one of {known}. Received: {value!r}")
        elif get_origin(kind) is Annotated:
            plain, *bounds = get_args(kind)
            if plain is float and not math.isfinite(value):
                raise InvalidInput(f"{flat} must be a finite number. Received: {value}")
            for each in bounds:
                if not each.hold(value):
                    raise InvalidInput(f"{flat} must be {each.rule}. Received: {value}")


def _from_to(low: int, high: int) -> _Bounds:
    return _Bounds(f"from {low} to {high}", lambda value: low <= value <= high)


Activation = Literal["relu", "tanh", "sigmoid", "elu", "selu", "softplus"]
Initializer = Literal[
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "random_uniform",
    "random_normal",
    "orthogonal",
]
OptimizerKind = Literal["sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "adamw", "nadam"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessingConfig:
    """From text to ids.

    Attributes:
        vocabulary_size: Maximum number of words, special ids not counted.
        min_count: Words that occur less often in the training texts are unknown.
        piece_count: How often each word of a piece that the pretrained teacher answered counts for
            the vocabulary, beside once in a training text; 0 for words of training texts only.
        cleaning: What a text is reduced to: `standard` (words of every script, `!` and `?`) or
            `alphanumeric` (a-z and 0-9, without the word "rt").
        max_length: Maximum number of ids per text; longer texts are truncated. The first id marks
            the beginning of the text, so 2 is the least.
        length_rule: `fixed` uses `max_length`; `deviations` uses the mean length of the training
            texts plus two standard deviations instead.
        truncation: Where a text that is too long loses tokens: `pre` at the beginning, `post` at
            the end, `head_tail` in the middle.
        head_tokens: For `head_tail`: number of tokens kept from the beginning.
    """

    vocabulary_size: Annotated[int, _ABOVE_0] = 10_000
    min_count: Annotated[int, _ABOVE_0] = 2
    piece_count: Annotated[int, _AT_LEAST_0] = 0
    cleaning: Literal["standard", "alphanumeric"] = "standard"
    max_length: Annotated[int, _Bounds("at least 2", lambda value: value >= 2)] = 400
    length_rule: Literal["fixed", "deviations"] = "fixed"
    truncation: Literal["pre", "post", "head_tail"] = "head_tail"
    head_tokens: Annotated[int, _AT_LEAST_0] = 100

    def __post_init__(self) -> None:
        """Check each field, then those that depend on each other."""
        _check_fields(self)
        if self.truncation == "head_tail" and self.head_tokens >= self.max_length:
            raise InvalidInput(
                f"head_tokens must be below max_length, {self.max_length}. "
                f"Received: {self.head_tokens}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """From ids to probabilities.

    Attributes:
        architecture: `bow` (word presence, dense layers), `embedding` (flattened word embeddings,
            dense layers) or `rnn` (word embeddings, recurrent layers, pooling, dense layers).
        embedding_dim: Dimensions of the word embeddings.
        pretrain_embeddings: Whether word embeddings are initialized from co-occurrence in all
            texts, unlabelled ones included, instead of at random.
        embeddings_file: A text file of word vectors to start from (GloVe, word2vec or fastText);
            empty for none.
        next_word_epochs: Epochs in which the embeddings and the recurrent layers learn to predict
            each next word of the texts, unlabelled ones included, before they learn labels
            (`training/models/next_word.py`), with a learning rate of its own; 0 for none.
        embedding_lr_factor: Learning rate of the word embeddings, as a multiple of that of the
            other weights.
        ngram_embeddings: Number of n-grams (one to three words, the most frequent ones) with an
            embedding beside those of words; 0 for none. Their vectors are pretrained on all texts,
            without labels (`training/features/ngram_vectors.py`), and stay fixed; the model learns
            one matrix that projects them to `ngram_embedding_dim`.
        ngram_embedding_dim: Dimensions of that projection.
        ngram_lookup: Which n-grams that end at a word are looked up: `sum` adds the vectors of all
            of them; `bigram` takes that of the pair of words, from a table of `ngram_embeddings`
            rows, a power of two, for the pairs that say most (`training/features/bigrams.py`).
        cell: Type of the recurrent layers.
        units: Units of each recurrent layer, per direction.
        layers: Number of recurrent layers, each reading the states of the one before.
        bidirectional: Whether every recurrent layer also reads backwards.
        pooling: How the states of the last recurrent layer become one vector: the `last` state of
            each direction, their `max`, their `mean`, or both (`max_mean`).
        attention_heads: Weighted means of all states in addition to `pooling`, whose weights the
            states decide (`training/models/layers/attention_pool.py`); 0 for none.
        hidden: Units of the dense layers before the output, one number per layer.
        activation: Activation of those dense layers.
        weight_init: Keras initializer of the kernels, but not of recurrent kernels and attention.
        ngram_logits: Longest n-gram, in words, that adds its own logits to those of the network,
            from one table per class; 0 for none.
        ngram_logits_buckets: Number of hash buckets of that table, a power of two; n-grams in the
            same bucket share their logits.
        ngram_logits_lr_factor: Learning rate of that table, as a multiple of `learning_rate`.
        ngram_logits_l2: L2 penalty of that table.
        nb_weighting: Whether each n-gram is scaled by its naive Bayes log-count ratio: how much
            more frequent it is in texts of a class than in the others.
        input_dropout: Dropout rate of the input: words (`bow`) or whole dimensions of the
            embeddings (other architectures).
        recurrent_dropout: Dropout rate of the state between two time steps.
        dropout: Dropout rate between recurrent layers, after pooling, and after each dense layer.
        short_temperature: Divides the logits of short texts in the exported model, in addition to
            the temperature that is fitted on validation texts
            (`training/models/layers/short_temperature.py`). Below 1, short texts get more confident
            answers. It has no part in training, so `export --short-temperature` may change it.
        l1: L1 penalty of the kernels of dense and recurrent layers; of the output layer where there
            are none.
        l2: L2 penalty of the same kernels.
    """

    architecture: Literal["bow", "embedding", "rnn"]
    embedding_dim: Annotated[int, _ABOVE_0] = 128
    pretrain_embeddings: bool = False
    embeddings_file: str = ""
    next_word_epochs: Annotated[int, _AT_LEAST_0] = 0
    embedding_lr_factor: Annotated[float, _ABOVE_0] = 1.0
    ngram_embeddings: Annotated[int, _from_to(0, NGRAM_EMBEDDING_BUCKETS)] = 0
    ngram_embedding_dim: Annotated[int, _from_to(1, NGRAM_VECTOR_DIM)] = 16
    ngram_lookup: Literal["sum", "bigram"] = "sum"
    cell: Literal["simple", "lstm", "gru"] = "lstm"
    units: Annotated[int, _ABOVE_0] = 128
    layers: Annotated[int, _ABOVE_0] = 1
    bidirectional: bool = False
    pooling: Literal["last", "max", "mean", "max_mean"] = "max_mean"
    attention_heads: Annotated[int, _from_to(0, 16)] = 0
    hidden: Annotated[tuple[int, ...], _WIDTHS] = ()
    activation: Activation = "relu"
    weight_init: Initializer = "glorot_uniform"
    ngram_logits: Literal[0, 1, 2, 3] = 0
    ngram_logits_buckets: Annotated[int, _BUCKETS] = 2**20
    ngram_logits_lr_factor: Annotated[float, _ABOVE_0] = 1.0
    ngram_logits_l2: Annotated[float, _AT_LEAST_0] = 0.0
    nb_weighting: bool = False
    input_dropout: Annotated[float, _BELOW_1] = 0.0
    recurrent_dropout: Annotated[float, _BELOW_1] = 0.0
    dropout: Annotated[float, _BELOW_1] = 0.5
    short_temperature: Annotated[float, _TEMPERATURE] = 1.0
    l1: Annotated[float, _AT_LEAST_0] = 0.0
    l2: Annotated[float, _AT_LEAST_0] = 0.0

    def __post_init__(self) -> None:
        """Check each field, then those that depend on each other."""
        _check_fields(self)
        if self.nb_weighting and not self.ngram_logits:
            raise InvalidInput("nb_weighting needs ngram_logits above 0. Received: ngram_logits 0")
        if self.attention_heads and (self.architecture != "rnn" or self.pooling == "last"):
            raise InvalidInput(
                "attention_heads needs the architecture rnn and a pooling of all states. Received: "
                f"{self.architecture} with pooling {self.pooling}"
            )
        if self.next_word_epochs and (self.architecture != "rnn" or self.bidirectional):
            raise InvalidInput(
                "next_word_epochs needs the architecture rnn in one direction: a layer that reads "
                f"backwards has read the next word. Received: {self.architecture}"
                + (" in both directions" if self.bidirectional else "")
            )
        pretrained = self.pretrain_embeddings or self.embeddings_file or self.ngram_embeddings
        if self.architecture == "bow" and pretrained:
            raise InvalidInput(
                "pretrain_embeddings, embeddings_file and ngram_embeddings need an architecture "
                "with word embeddings. Received: bow"
            )
        rows = self.ngram_embeddings
        if self.ngram_lookup == "bigram" and not (rows > 1 and _BUCKETS.hold(rows)):
            raise InvalidInput(
                f"ngram_embeddings must be {_BUCKETS.rule}, for ngram_lookup bigram. "
                f"Received: {self.ngram_embeddings}"
            )
        if self.pretrain_embeddings and self.embeddings_file:
            raise InvalidInput(
                "word embeddings must have one source. Received: pretrain_embeddings and "
                "embeddings_file"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig:
    """Where soft labels come from (knowledge distillation).

    Attributes:
        kind: `none` trains on the labels alone. `linear` trains linear models of n-grams first,
            `network` these and a convolutional network; the model then learns from their soft
            labels, of unlabelled texts too. With `ngram_logits` the model also takes over the
            n-gram table of the linear models.
        soft_label_share: Weight of the soft label in the target of a labelled text; the label has
            the rest.
        answers: The folder in which `valence-train teach` kept the answers of a pretrained teacher;
            empty for none. Its soft labels of reviews are mixed with those of the teachers above,
            with weights fitted on validation texts; a split may lack them.
        piece_weight: Sample weight of each piece that it answered, beside 1 for a text and for a
            passage, which is as long; 0 for neither pieces nor passages.
        silent_texts: Number of texts without an opinion in addition: nothing, numbers, unknown
            words and function words. Their soft label is even odds, or the neutral class.
        neutral_texts: Number of facts, plans, requests and questions without an opinion in addition
            (`training/distillation/neutral.py`), in English, with the same soft label; repetitions
            are left out.
        everyday_texts: Number of everyday sentences (`training/distillation/everyday.py`), of known
            meaning, in addition to those that the pretrained teacher learned; only with `answers`,
            which say that texts are in English and labels are opinions.
        neutral: Whether the model has a third class between the two of the data. Only the
            pretrained teacher knows which texts are neutral.
        halve_neutral: Whether that class is taken away again after the training, and each of the
            two others gets half of its probability (`training/models/layers/halved_neutral.py`).
            Without `answers`, such a recipe learns two classes from the beginning.
    """

    kind: Literal["none", "linear", "network"] = "none"
    soft_label_share: Annotated[float, _FROM_0_TO_1] = 0.7
    answers: str = ""
    piece_weight: Annotated[float, _AT_LEAST_0] = 0.0
    silent_texts: Annotated[int, _AT_LEAST_0] = 0
    neutral_texts: Annotated[int, _AT_LEAST_0] = 0
    everyday_texts: Annotated[int, _AT_LEAST_0] = 0
    neutral: bool = False
    halve_neutral: bool = False

    def __post_init__(self) -> None:
        """Check each field."""
        _check_fields(self, kind_of="teacher")

    @property
    def keeps_neutral(self) -> bool:
        """Whether the trained model has the third class."""
        return self.neutral and not self.halve_neutral


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How weights are updated.

    Attributes:
        kind: The Keras optimizer.
        momentum: Momentum of `sgd`.
        nesterov: Whether that is Nesterov momentum.
        learning_rate: Learning rate at the start, or after the warm-up.
        schedule: How it falls: by half after `reduce_patience` epochs without a better validation
            loss (`plateau`), never (`constant`), along a `cosine` to 0, or `exponential`.
        decay_rate: For `exponential`: factor of the learning rate per epoch.
        warmup_epochs: Epochs, or a fraction of one, in which the learning rate rises from 0.
        reduce_patience: For `plateau`: epochs without a better validation loss before the learning
            rate is halved.
        clip_norm: Maximum global norm of the gradients; 0 for no clipping.
        ema_momentum: Momentum of the exponential moving average of the weights that is kept instead
            of the last weights; 0 keeps the last weights.
    """

    kind: OptimizerKind = "adam"
    momentum: Annotated[float, _BELOW_1] = 0.0
    nesterov: bool = False
    learning_rate: Annotated[float, _ABOVE_0] = 1e-3
    schedule: Literal["plateau", "constant", "cosine", "exponential"] = "plateau"
    decay_rate: Annotated[float, _UP_TO_1] = 0.9
    warmup_epochs: Annotated[float, _AT_LEAST_0] = 0.0
    reduce_patience: Annotated[int, _ABOVE_0] = 1
    clip_norm: Annotated[float, _AT_LEAST_0] = 0.0
    ema_momentum: Annotated[float, _BELOW_1] = 0.0

    def __post_init__(self) -> None:
        """Check each field, then those that depend on each other."""
        _check_fields(self, kind_of="optimizer")
        if (self.momentum or self.nesterov) and self.kind != "sgd":
            raise InvalidInput(f"momentum and nesterov need optimizer sgd. Received: {self.kind}")
        if self.nesterov and not self.momentum:
            raise InvalidInput("nesterov needs momentum above 0. Received: momentum 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Batches, epochs and which epoch to keep.

    Attributes:
        batch_size: Texts per step.
        batch_tokens: If `batch_size` texts have at most half as many ids together, there are twice
            as many in a batch, with a quarter four times, and so on up to eight times; 0 for
            `batch_size` texts whatever their length.
        sort_window: Number of batches whose texts are sorted by length together, which saves
            padding; with 1 each batch is a random draw of texts of any length.
        word_dropout: Share of words replaced with the unknown id in training, redrawn each epoch.
        class_weights: `balanced` gives every class the same weight in the loss, however rare.
        epochs: Maximum number of epochs; early stopping may end sooner.
        keep: `best` stops early and keeps the epoch with the lowest validation loss; `last` trains
            all epochs and keeps the final weights.
        stop_patience: Epochs without a better validation loss before early stopping.
        validation_share: Share of the training texts held out for validation.
    """

    batch_size: Annotated[int, _ABOVE_0] = 64
    batch_tokens: Annotated[int, _AT_LEAST_0] = 0
    sort_window: Annotated[int, _ABOVE_0] = 50
    word_dropout: Annotated[float, _BELOW_1] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    epochs: Annotated[int, _ABOVE_0] = 10
    keep: Literal["best", "last"] = "best"
    stop_patience: Annotated[int, _ABOVE_0] = 2
    validation_share: Annotated[float, _BETWEEN_0_AND_1] = 0.1

    def __post_init__(self) -> None:
        """Check each field."""
        _check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a model is built and trained. A recipe in `training/configs/` is one of these.

    Attributes:
        name: The model's name, and its folder under `models/`.
        seed: Seed of the split, the initial weights, the order and the dropout.
        text: From text to ids.
        model: From ids to probabilities.
        teacher: Where soft labels come from.
        optimizer: How weights are updated.
        loop: Batches, epochs and which epoch to keep.

    Raises:
        InvalidInput: A value is out of its bounds; the message names the field.
    """

    name: str
    seed: Annotated[int, _SEED] = 7
    text: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig
    teacher: TeacherConfig = TeacherConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loop: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        """Check the name, the seed, and fields that depend on those of another part."""
        if not re.fullmatch(MODEL_NAME_PATTERN, self.name):
            raise InvalidInput(f"{MODEL_NAME_RULE}. Received: {self.name!r}")
        _check_fields(self)
        if self.model.nb_weighting and self.teacher.kind != "none":
            raise InvalidInput(
                "the n-gram table must be learned or taken from the teacher. Received: "
                f"nb_weighting and teacher {self.teacher.kind}"
            )
        if self.teacher.halve_neutral and not self.teacher.neutral:
            raise InvalidInput(
                "halve_neutral takes away the class that neutral adds. Received: halve_neutral "
                "without neutral"
            )
        if self.teacher.neutral and self.loop.class_weights != "none":
            raise InvalidInput(
                "class weights count the texts of each label, and no text is labelled neutral. "
                f"Received: class_weights {self.loop.class_weights} and neutral"
            )
        if self.teacher.neutral and self.model.ngram_logits:
            raise InvalidInput(
                "the n-gram table of a teacher has the classes of the data. Received: ngram_logits "
                f"{self.model.ngram_logits} and neutral"
            )
        if self.optimizer.warmup_epochs > self.loop.epochs:
            raise InvalidInput(
                f"warmup_epochs must be at most epochs, {self.loop.epochs}. "
                f"Received: {self.optimizer.warmup_epochs}"
            )

    @property
    def reads_unlabelled(self) -> bool:
        """Whether any part of the training learns from unlabelled texts."""
        fields = self.flat()
        return any(fields[name] not in (False, 0, "", "none") for name in READ_UNLABELLED)

    def flat(self) -> dict[str, Any]:
        """Every field by its flat name, as `--set` takes it, in order."""
        return {
            name: getattr(getattr(self, field.part) if field.part else self, field.name)
            for name, field in _flat_fields().items()
        }

    def replace(self, **changes: Any) -> Config:
        """A copy with fields changed, by their flat names: `config.replace(units=64, epochs=2)`.

        Raises:
            InvalidInput: A field does not exist or is out of its bounds.
        """
        return _compose(self.flat() | {find_field(name): value for name, value in changes.items()})

    def with_assignments(self, assignments: Sequence[str]) -> Config:
        """A copy with fields set from `field=value`, as the command line gives them.

        Raises:
            InvalidInput: A field does not exist, or a value is not of its type.
        """
        values = {}
        for assignment in assignments:
            name, _, text = assignment.partition("=")
            flat = find_field(name)
            values[flat] = _parse(flat, field_types()[flat], text)
        return self.replace(**values)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Config:
        """The config of a run or manifest, which `dataclasses.asdict` and JSON made.

        Both forms are read: nested, as it is written today, and flat, as it was written before
        Config had parts. Former field names are replaced. Fields that did not exist yet get their
        default.

        Raises:
            InvalidInput: A field is unknown, missing or out of its bounds.
        """
        flat = current_names(_flatten(values))
        try:
            return _compose(flat | {"hidden": tuple(flat.get("hidden", ()))})
        except TypeError as error:
            raise InvalidInput(f"a config must have the fields of Config: {error}") from error


_FORMER_NAMES: Final = {
    "average": "ema_momentum",
    "decay": "decay_rate",
    "embedding": "embedding_dim",
    "embedding_rate": "embedding_lr_factor",
    "embeddings": "embeddings_file",
    "head": "head_tokens",
    "known_ngrams": "ngram_embeddings",
    "known_width": "ngram_embedding_dim",
    "ngram_buckets": "ngram_logits_buckets",
    "ngram_l2": "ngram_logits_l2",
    "ngram_rate": "ngram_logits_lr_factor",
    "ngrams": "ngram_logits",
    "pretrain": "pretrain_embeddings",
    "sorted_together": "sort_window",
    "teacher_share": "soft_label_share",
    "warmup": "warmup_epochs",
}
"""Flat names in runs and manifests of earlier versions, and what they are called now."""
_RETIRED: Final = {"pairs": 0}
"""Fields that no longer exist, and the only value with which they changed nothing."""


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field is kept: the part ("" for Config itself), its name there, and its type."""

    part: str
    name: str
    type: Any


@cache
def _flat_fields() -> dict[str, _Field]:
    """Every field by its flat name; `kind` has the name of its part."""
    found = {}
    for part, type_ in get_type_hints(Config).items():
        if not dataclasses.is_dataclass(type_):
            found[part] = _Field("", part, type_)
            continue
        for name, kind in get_type_hints(type_).items():
            plain = type(get_args(kind)[0]) if get_origin(kind) is Literal else kind
            found[part if name == "kind" else name] = _Field(part, name, plain)
    return found


def field_types() -> dict[str, Any]:
    """The type of every field, by its flat name: int, float, bool, str or a tuple of int."""
    return {name: field.type for name, field in _flat_fields().items()}


def find_field(name: str) -> str:
    """The flat name of a field given as `units` or `model.units`.

    Raises:
        InvalidInput: There is no such field; the message names the nearest one.
    """
    fields = _flat_fields()
    if name in fields:
        return name
    part, _, last = name.rpartition(".")
    flat = part if last == "kind" else last
    if part and flat in fields and fields[flat].part == part:
        return flat
    near = [_FORMER_NAMES[last]] if last in _FORMER_NAMES else get_close_matches(last, fields, n=1)
    rule = "training/config.py" if near else ", ".join(fields)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InvalidInput(f"a field must be one of {rule}. Received: {name!r}{hint}")


def current_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flat mapping with former field names replaced, and without retired ones."""
    return {
        _FORMER_NAMES.get(name, name): value
        for name, value in flat.items()
        if name not in _RETIRED or value != _RETIRED[name]
    }


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping by flat names; a flat one stays as it is."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {name if field == "kind" else field: each for field, each in value.items()}
        else:
            flat[name] = value
    return flat


def _compose(flat: Mapping[str, Any]) -> Config:
    """The config with these fields; those that are missing have their default."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        field = _flat_fields()[find_field(name)]
        parts.setdefault(field.part, {})[field.name] = value
    own, types = parts.pop("", {}), _rules(Config)
    return Config(**own, **{part: types[part](**fields) for part, fields in parts.items()})


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
