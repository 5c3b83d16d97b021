"""One step of training, traced once for batches of any size."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from training.data.batches import TrainingBatches


def build_step(model: keras.Model, batches: TrainingBatches) -> Callable[..., Mapping[str, Any]]:
    """A function that learns from one batch of `batches` and gives its figures.

    Args:
        model: Compiled, its optimizer built.
        batches: For what a batch looks like.
    """
    if keras.backend.backend() != "tensorflow":
        return partial(model.train_on_batch, return_dict=True)
    # `train_on_batch` would trace the loop anew for the first few shapes, seconds each time.
    traced = tf.function(
        lambda *batch: model.train_step(batch), input_signature=batches.signature, autograph=False
    )

    def step(*batch: Any) -> Mapping[str, Any]:
        model.reset_metrics()
        return dict(traced(*batch))

    return step
