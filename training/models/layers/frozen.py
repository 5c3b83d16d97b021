"""Weights of a trained layer as variables of an exported TensorFlow graph."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


def freeze(value: Any, name: str, *, dtype: Any = np.float32) -> tf.Variable:
    """A variable that is saved with the graph and never trained."""
    return tf.Variable(value.astype(dtype), trainable=False, name=name)


def freeze_weights(layer: keras.layers.Layer) -> list[tf.Variable]:
    """All weights of a layer, in Keras' order."""
    return [freeze(value, f"{layer.name}_{i}") for i, value in enumerate(layer.get_weights())]
