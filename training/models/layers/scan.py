"""A loop over steps, for recurrent layers that TensorFlow has no kernel for."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan_steps(step: Callable[[Any, Any], Any], inputs: Any, *, units: int) -> Any:
    """The state after each step, starting from zeros.

    Args:
        step: State (batch, units) and inputs (batch, ...) to the next state.
        inputs: (width, batch, ...).
        units: Size of a state.

    Returns:
        (width, batch, units).
    """
    start = tf.zeros(tf.stack([tf.shape(inputs)[1], units]))
    return tf.scan(step, inputs, start)
