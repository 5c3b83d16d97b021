"""One training step, traced once for batches of every shape."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.data.batches import TrainingBatches

Step = Callable[..., Mapping[str, Any]]
"""Takes the arrays of a batch, updates the model, and returns the metrics of that batch."""


def build_step(model: keras.Model, batches: TrainingBatches) -> Step:
    """Build the training step of a model.

    Args:
        model: Compiled, its optimizer built.
        batches: For the signature of a batch.
    """
    if keras.backend.backend() != "tensorflow":
        return partial(model.train_on_batch, return_dict=True)
    # A step that creates variables is traced twice, which takes seconds; the metrics do so when
    # they are first computed. They start from 0 again with every step.
    ids, targets, weights = (
        np.zeros([size or 1 for size in spec.shape], spec.dtype.as_numpy_dtype)
        for spec in batches.signature
    )
    model.compute_metrics(ids, targets, targets, weights)
    # `train_on_batch` would trace the step again for each of the first shapes, seconds each time.
    traced = tf.function(
        lambda *batch: model.train_step(batch), input_signature=batches.signature, autograph=False
    )

    def step(*batch: Any) -> Mapping[str, Any]:
        model.reset_metrics()
        return dict(traced(*batch))

    return step
