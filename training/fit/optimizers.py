"""How weights move: the optimizer, the learning rate over time, and the weight of each class."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from training.config import Config


def build_optimizer(config: Config) -> keras.optimizers.Optimizer:
    """The optimizer a recipe names, with its clipping and averaging."""
    settings: dict[str, Any] = {"learning_rate": config.optimizer.learning_rate}
    if config.optimizer.kind == "sgd":
        settings |= {"momentum": config.optimizer.momentum, "nesterov": config.optimizer.nesterov}
    if config.optimizer.clip_norm:
        settings["global_clipnorm"] = config.optimizer.clip_norm
    if config.optimizer.ema_momentum:
        settings |= {"use_ema": True, "ema_momentum": config.optimizer.ema_momentum}
    return keras.optimizers.get({"class_name": config.optimizer.kind, "config": settings})


def class_weights(config: Config, targets: Sequence[int]) -> dict[int, float] | None:
    """By what the loss of each class is multiplied, for `Model.fit`; None leaves all alike.

    Balanced weights make every class count the same in all, and an average text 1.

    Args:
        config: The recipe.
        targets: The class of each training text; every class has one at least.
    """
    if config.loop.class_weights == "none":
        return None
    counts = np.bincount(targets)
    return {label: len(targets) / (len(counts) * int(n)) for label, n in enumerate(counts)}


def rate_factor(config: Config, epochs: float) -> float:
    """What part of `learning_rate` is due after some epochs, by time alone.

    A function of nothing but the recipe and the time, so that a training which was stopped goes on
    as it would have. `plateau` depends on losses and is only warmed up here.

    Args:
        config: The recipe.
        epochs: That are done, parts of one included.
    """
    if epochs < config.optimizer.warmup_epochs:
        return epochs / config.optimizer.warmup_epochs
    if config.optimizer.schedule == "cosine":
        left = max(config.loop.epochs - config.optimizer.warmup_epochs, 1e-9)
        return (
            1 + math.cos(math.pi * min((epochs - config.optimizer.warmup_epochs) / left, 1))
        ) / 2
    if config.optimizer.schedule == "exponential":
        return float(config.optimizer.decay_rate ** (epochs - config.optimizer.warmup_epochs))
    return 1.0


def rate_callbacks(config: Config) -> list[keras.callbacks.Callback]:
    """What moves the learning rate while a model is fitted."""
    callbacks: list[keras.callbacks.Callback] = []
    if config.optimizer.warmup_epochs or config.optimizer.schedule in ("cosine", "exponential"):
        callbacks.append(RateByTime(config))
    if config.optimizer.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=0.5, patience=config.optimizer.reduce_patience
            )
        )
    return callbacks


class RateByTime(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate before every step; writes it down after every epoch."""

    state_attributes: ClassVar = ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count from this epoch on."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate for the middle of this step: at its beginning the first would be 0."""
        steps = self.params["steps"]
        epochs = self._epoch + (batch + 0.5) / steps
        if (
            self._config.optimizer.schedule == "plateau"
            and epochs - 1 / steps >= self._config.optimizer.warmup_epochs
        ):
            return  # from here on its own callback decides
        rate = self._config.optimizer.learning_rate * rate_factor(self._config, epochs)
        self.model.optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tell the history."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
