"""Optimizer, learning-rate schedule and class weights of a recipe."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from training.config import Config


def build_optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Build the Keras optimizer of a recipe, with gradient clipping and weight averaging."""
    options = config.optimizer
    settings: dict[str, Any] = {"learning_rate": options.learning_rate}
    if options.kind == "sgd":
        settings |= {"momentum": options.momentum, "nesterov": options.nesterov}
    if options.clip_norm:
        settings["global_clipnorm"] = options.clip_norm
    if options.ema_momentum:
        settings |= {"use_ema": True, "ema_momentum": options.ema_momentum}
    return keras.optimizers.get({"class_name": options.kind, "config": settings})


def class_weights(config: Config, targets: Sequence[int]) -> dict[int, float] | None:
    """Weight of each class in the loss; None for equal weights per text.

    Balanced weights give every class the same total weight, and the average text the weight 1.

    Args:
        config: The recipe.
        targets: The class of each training text. Every class occurs at least once.
    """
    if config.loop.class_weights == "none":
        return None
    counts = np.bincount(targets)
    return {label: len(targets) / (len(counts) * int(n)) for label, n in enumerate(counts)}


def learning_rate_factor(config: Config, epochs: float) -> float:
    """The learning rate after some epochs, as a multiple of `learning_rate`.

    It depends on the recipe and the time alone, so that a resumed training continues with the same
    learning rate. The `plateau` schedule also depends on losses; here it only has its warm-up.

    Args:
        config: The recipe.
        epochs: Number of finished epochs, including the finished fraction of the current one.
    """
    options = config.optimizer
    if epochs < options.warmup_epochs:
        return epochs / options.warmup_epochs
    if options.schedule == "cosine":
        duration = max(config.loop.epochs - options.warmup_epochs, 1e-9)
        progress = min((epochs - options.warmup_epochs) / duration, 1)
        return (1 + math.cos(math.pi * progress)) / 2
    if options.schedule == "exponential":
        return float(options.decay_rate ** (epochs - options.warmup_epochs))
    return 1.0


def learning_rate_callbacks(config: Config) -> list[keras.callbacks.Callback]:
    """The callbacks that change the learning rate during training."""
    options = config.optimizer
    callbacks: list[keras.callbacks.Callback] = []
    if options.warmup_epochs or options.schedule in ("cosine", "exponential"):
        callbacks.append(LearningRateByTime(config))
    if options.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=0.5, patience=options.reduce_patience
            )
        )
    return callbacks


class LearningRateByTime(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate before each step, and logs it after each epoch."""

    state_attributes: ClassVar = ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate of the middle of this step; at its beginning, the first would be 0."""
        options, steps = self._config.optimizer, self.params["steps"]
        epochs = self._epoch + (batch + 0.5) / steps
        if options.schedule == "plateau" and epochs - 1 / steps >= options.warmup_epochs:
            return  # after the warm-up, ReduceLROnPlateau sets the rate
        rate = options.learning_rate * learning_rate_factor(self._config, epochs)
        self.model.optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the learning rate to the history."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
