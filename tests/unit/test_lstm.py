"""`FusedLSTM` is Keras' LSTM: the same results and the same gradients."""

from typing import Any

import numpy as np
import pytest

from tests.deferred import deferred

with deferred():
    import keras
    import tensorflow as tf

    from training.models.layers.lstm import FusedLSTM

STEPS = np.random.default_rng(3).standard_normal((4, 9, 5)).astype(np.float32)


def run(kind: type[keras.layers.LSTM], **settings: Any) -> list[np.ndarray]:
    """A layer's results, and the gradients of a sum that weighs every number differently."""
    layer = kind(6, bias_initializer=keras.initializers.RandomNormal(seed=2), **settings)
    layer.build(STEPS.shape)
    random = np.random.default_rng(4)
    layer.set_weights([random.standard_normal(w.shape) for w in layer.get_weights()])
    steps = tf.Variable(STEPS)
    with tf.GradientTape() as tape:
        answers = tf.nest.flatten(layer(steps))
        loss = tf.add_n(
            [
                tf.reduce_sum(a * tf.cos(tf.reshape(tf.range(float(tf.size(a))), a.shape)))
                for a in answers
            ]
        )
    return [np.asarray(x) for x in (*answers, *tape.gradient(loss, [steps, *layer.weights]))]


@pytest.mark.parametrize(
    "settings",
    [
        {"return_sequences": True},
        {},
        {"return_sequences": True, "return_state": True},
    ],
    ids=["states", "last", "all"],
)
def test_it_is_keras_lstm(settings: dict[str, Any]) -> None:
    """The results and the gradients of input, kernels and bias are those of Keras."""
    for fused, plain in zip(
        run(FusedLSTM, **settings), run(keras.layers.LSTM, **settings), strict=True
    ):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5)


def test_no_loop() -> None:
    """The graph of a training step holds the fused kernels and no loop."""
    layer = FusedLSTM(6, return_sequences=True)
    layer.build(STEPS.shape)

    @tf.function
    def step(steps: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(steps) ** 2)
        return tape.gradient(loss, layer.trainable_weights)

    kinds = {node.op for node in step.get_concrete_function(STEPS).graph.as_graph_def().node}
    assert {"BlockLSTMV2", "BlockLSTMGradV2"} <= kinds
    assert not {"While", "StatelessWhile"} & kinds


def test_a_mask_is_heeded() -> None:
    """With a mask, masked steps are skipped as in Keras."""
    mask = np.arange(9) < np.array([[9], [4], [1], [7]])
    layers = [FusedLSTM(6), keras.layers.LSTM(6)]
    for layer in layers:
        layer.build(STEPS.shape)
    layers[1].set_weights(layers[0].get_weights())
    fused, plain = (np.asarray(layer(STEPS, mask=mask)) for layer in layers)
    np.testing.assert_allclose(fused, plain, atol=1e-6)
