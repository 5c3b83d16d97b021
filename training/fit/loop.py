"""The training loop."""

import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from app.text.vocabulary import PAD
from training.config import Config
from training.data.batches import ScoringBatches, TrainingBatches
from training.fit.checkpoints import KeptModel, Place, WorkingFolder
from training.fit.optimizers import rate_callbacks
from training.fit.progress import EpochProgress
from training.fit.step import build_step
from training.support.progress import console


def fit_model(
    model: keras.Model,
    batches: TrainingBatches,
    held_out: ScoringBatches,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epochs: int,
    work: WorkingFolder,
) -> dict[str, list[float]]:
    """What `model.fit` does, but from the last checkpoint, be it in the middle of an epoch.

    Returns:
        Per figure its value after each epoch.
    """
    history = keras.callbacks.History()
    together = keras.callbacks.CallbackList(
        [*callbacks, history], model=model, epochs=epochs, steps=len(batches)
    )
    model.optimizer.build(model.trainable_variables)
    step = build_step(model, batches)
    together.on_train_begin()
    try:
        at = work.restore(model, together) or Place()
        if work.saved:
            console.print(f"{model.name}: goes on from {at}", highlight=False)
        while at.epoch < epochs and not model.stop_training:
            together.on_epoch_begin(at.epoch)
            if at.step == 0:
                work.save(model, together, at)
            began = time.monotonic()
            for batch in batches.epoch(at.epoch, start=at.step).as_numpy_iterator():
                together.on_train_batch_begin(at.step)
                figures, ids, ended = step(*batch), batch[0], time.monotonic()
                tokens = int(np.count_nonzero(ids != PAD))
                means = at.add(figures, rows=len(ids), tokens=tokens, seconds=ended - began)
                began = ended
                together.on_train_batch_end(at.step - 1, means)
                work.save_when_due(model, together, at)
            scores = model.evaluate(held_out, callbacks=together, verbose=0, return_dict=True)
            means = at.figures() | {f"val_{name}": float(v) for name, v in scores.items()}
            together.on_epoch_end(at.epoch, means)
            at = Place(at.epoch + 1)
    finally:
        together.on_train_end()
    return {name: list(values) for name, values in history.history.items()}


def recipe_callbacks(
    config: Config, checkpoint: Path, tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    """The callbacks that a recipe asks for, in the order in which they are called."""
    callbacks = [
        # First, so that all that follows sees the averaged weights after an epoch.
        *(
            [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
            if config.optimizer.ema_momentum
            else []
        ),
        KeptModel(checkpoint, keep=config.loop.keep),
        *rate_callbacks(config),
        EpochProgress(),
    ]
    if config.loop.keep == "best":
        callbacks.append(
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=config.loop.stop_patience)
        )
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=tensorboard))
    return callbacks
