"""The training loop: `Model.fit`, but resumable in the middle of an epoch."""

import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from app.text.vocabulary import PAD
from training.config import Config
from training.data.batches import ScoringBatches, TrainingBatches
from training.fit.checkpoints import CheckpointManager, Position
from training.fit.model_saver import ModelSaver
from training.fit.optimizers import learning_rate_callbacks
from training.fit.progress import EpochProgress
from training.fit.step import Step, build_step
from training.support.interruption import check_interruption
from training.support.progress import print_line


def fit_model(
    model: keras.Model,
    batches: TrainingBatches,
    validation: ScoringBatches,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epochs: int,
    checkpoints: CheckpointManager,
) -> dict[str, list[float]]:
    """Fit a compiled model, from the last checkpoint if there is one.

    Args:
        model: Compiled.
        batches: The training examples.
        validation: What each epoch is evaluated on.
        callbacks: Called in this order.
        epochs: The number of epochs, including those before the checkpoint.
        checkpoints: Where checkpoints are written and restored.

    Returns:
        The value of each metric after each epoch.
    """
    history = keras.callbacks.History()
    callback_list = keras.callbacks.CallbackList(
        [*callbacks, history], model=model, epochs=epochs, steps=len(batches)
    )
    model.optimizer.build(model.trainable_variables)
    step = build_step(model, batches)
    callback_list.on_train_begin()
    try:
        position = checkpoints.restore(model, callback_list) or Position()
        if checkpoints.last:
            print_line(f"{model.name}: resumes at {position}")
        while position.epoch < epochs and not model.stop_training:
            callback_list.on_epoch_begin(position.epoch)
            if position.step == 0:
                checkpoints.save(model, callback_list, position)
            _run_epoch(model, step, batches, callback_list, position, checkpoints)
            scores = model.evaluate(
                validation, callbacks=callback_list, verbose=0, return_dict=True
            )
            check_interruption()
            metrics = {f"val_{name}": float(value) for name, value in scores.items()}
            callback_list.on_epoch_end(position.epoch, position.metrics() | metrics)
            position = Position(position.epoch + 1)
    finally:
        callback_list.on_train_end()
    return {name: list(values) for name, values in history.history.items()}


def _run_epoch(
    model: keras.Model,
    step: Step,
    batches: TrainingBatches,
    callbacks: keras.callbacks.CallbackList,
    position: Position,
    checkpoints: CheckpointManager,
) -> None:
    """Run the remaining steps of an epoch and move `position` to its end."""
    started = time.monotonic()
    for batch in batches.epoch(position.epoch, start=position.step).as_numpy_iterator():
        callbacks.on_train_batch_begin(position.step)
        metrics, ids, ended = step(*batch), batch[0], time.monotonic()
        tokens = int(np.count_nonzero(ids != PAD))
        means = position.add_step(metrics, rows=len(ids), tokens=tokens, seconds=ended - started)
        started = ended
        callbacks.on_train_batch_end(position.step - 1, means)
        checkpoints.save_when_due(model, callbacks, position)
        check_interruption()


def recipe_callbacks(
    config: Config, checkpoint: Path, tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a recipe, in the order in which they are called."""
    callbacks = [
        # First, so that the callbacks after it see the averaged weights at the end of an epoch.
        *(
            [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
            if config.optimizer.ema_momentum
            else []
        ),
        ModelSaver(checkpoint, keep=config.loop.keep),
        *learning_rate_callbacks(config),
        EpochProgress(),
    ]
    if config.loop.keep == "best":
        callbacks.append(
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=config.loop.stop_patience)
        )
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=tensorboard))
    return callbacks
