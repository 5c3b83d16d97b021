"""Every hyperparameter of a training, in one frozen value."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from app.artifact import MODEL_NAME_PATTERN, MODEL_NAME_RULE
from app.errors import InvalidInput
from training import configs

_POSITIVE: Final = (
    *("vocabulary_size", "min_count", "max_length", "embedding", "units", "learning_rate"),
    "embedding_rate",
    *("batch_size", "epochs", "stop_patience", "reduce_patience", "validation_share"),
)
_OPTIMIZERS: Final = ("sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "adamw", "nadam")
_SHARES: Final = ("word_dropout", "input_dropout", "dropout", "average", "validation_share")


@dataclass(frozen=True, slots=True)
class Config:
    """How a model is built and trained. A recipe in `training/configs/` is one of these.

    Attributes:
        name: The model's name, and its folder under `models/`.
        architecture: `bow` (word presence, dense layers) or `lstm` (embedding, LSTM, pooling).
        vocabulary_size: Words at most, special ids not counted.
        min_count: Rarer words are unknown.
        max_length: Ids of a row at most; longer texts are cut in the middle.
        head: Tokens kept from the beginning of a text that is cut.
        embedding: Width of a word's vector.
        pretrain: Whether word vectors start from the company that words keep, in the training
            texts and in unlabelled ones where there are any, instead of at random.
        embedding_rate: How fast word vectors learn, as a part of the learning rate.
        units: Width of the LSTM's state.
        hidden: Widths of the dense layers before the output.
        word_dropout: Share of words replaced by the unknown id in training, anew each epoch.
        input_dropout: Share of words (`bow`) or of embedding columns (`lstm`) dropped.
        dropout: Share of features dropped before each dense layer but the first of `bow`.
        l2: Weight of the squared kernels of the hidden layers in the loss.
        optimizer: A name Keras knows.
        learning_rate: At the start; halved after `reduce_patience` epochs without a better loss.
        clip_norm: Gradients are scaled down to this global norm; 0 leaves them.
        average: Momentum of the moving average of the weights that is kept instead of the last
            weights; 0 keeps the last.
        batch_size: Texts a step.
        epochs: At most; early stopping ends sooner.
        stop_patience: Epochs without a better validation loss before training stops.
        reduce_patience: The same, before the learning rate is halved.
        validation_share: Part of the training texts held out for every choice.
        seed: Of the split, the weights, the order and the dropout.
    """

    name: str
    architecture: str
    vocabulary_size: int = 10_000
    min_count: int = 2
    max_length: int = 400
    head: int = 100
    embedding: int = 128
    pretrain: bool = False
    embedding_rate: float = 1.0
    units: int = 128
    hidden: tuple[int, ...] = ()
    word_dropout: float = 0.0
    input_dropout: float = 0.0
    dropout: float = 0.5
    l2: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    clip_norm: float = 0.0
    average: float = 0.0
    batch_size: int = 64
    epochs: int = 10
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
        for field in ("l2", "clip_norm"):
            if getattr(self, field) < 0:
                raise InvalidInput(f"{field} must be 0 or more. Received: {getattr(self, field)}")
        if not 0 <= self.seed < 2**32:
            raise InvalidInput(f"seed must be from 0 to 2**32 - 1. Received: {self.seed}")
        if self.optimizer not in _OPTIMIZERS:
            known = ", ".join(_OPTIMIZERS)
            raise InvalidInput(f"optimizer must be one of {known}. Received: {self.optimizer!r}")
        if self.head >= self.max_length:
            raise InvalidInput(
                f"head must be below max_length, {self.max_length}. Received: {self.head}"
            )
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

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Config:
        """The config that `dataclasses.asdict` made `values` of, also after a trip through JSON.

        Raises:
            InvalidInput: A field is unknown, missing or out of its bounds.
        """
        try:
            return cls(**{**values, "hidden": tuple(values["hidden"])})
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


def load_config(name: str) -> Config:
    """The recipe `training/configs/<name>.py`.

    Raises:
        InvalidInput: There is no such recipe; the message lists those there are.
    """
    known = config_names()
    if name not in known:
        raise InvalidInput(f"a config must be one of {', '.join(known)}. Received: {name!r}")
    config = importlib.import_module(f"training.configs.{name}").config
    if not isinstance(config, Config):
        raise InvalidInput(f"training/configs/{name}.py must define `config`, a Config")
    return config


def config_names() -> list[str]:
    """The recipes there are, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(configs.__path__))


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
