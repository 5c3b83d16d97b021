"""The training step."""

import numpy as np

from tests.deferred import deferred
from training.data.shards import InMemoryShard

with deferred():
    import keras

    from training.data.batches import TrainingBatches
    from training.fit.step import build_step


def test_traced_once() -> None:
    """The model is traced once for the batches of every shape."""
    traced = []

    class Count(keras.layers.Layer):
        def call(self, ids: keras.KerasTensor) -> keras.KerasTensor:
            traced.append(ids.shape)
            return keras.ops.one_hot(ids[:, 0], 2)

    model = keras.Sequential([Count(), keras.layers.Dense(2, activation="softmax")])
    model.build((None, None))
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    rows = [np.ones(length, np.int32) for length in (3, 5, 4)]
    batches = TrainingBatches(InMemoryShard(rows, np.eye(2)[[0, 1, 0]]), batch_size=2, seed=1)
    step = build_step(model, batches)
    traced.clear()
    for batch in batches.epoch(0).as_numpy_iterator():
        assert set(step(*batch)) == {"loss", "accuracy"}
    assert traced == [(None, None)]
