"""Attention pooling: what its heads attend to."""

import numpy as np
import pytest

from app.text.vocabulary import BEGIN, PAD
from tests.deferred import deferred

with deferred():
    from training.models.layers.attention_pool import AttentionPool

IDS = np.array([[BEGIN, 7, 8, PAD], [BEGIN, 7, PAD, PAD]], np.int32)
STATES = np.array(
    [[[0.0, 0.3], [0.9, 0.6], [0.3, -0.9], [9, 9]], [[0.5, 0.1], [-0.5, 0.3], [9, 9], [-9, 9]]],
    np.float32,
)


def pool(kernel: list[list[float]]) -> np.ndarray:
    """Pool `STATES` with a kernel, (units, heads)."""
    layer = AttentionPool(len(kernel[0]))
    layer.build(STATES.shape, IDS.shape)
    layer.set_weights([np.array(kernel, np.float32)])
    return np.asarray(layer(STATES, IDS))


def test_a_head_without_preference_is_the_mean() -> None:
    """Equal scores weight the real steps equally, and padding not at all."""
    np.testing.assert_allclose(pool([[0.0], [0.0]]), [[0.4, 0.0], [0.0, 0.2]], atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "attended"),
    [
        ([[50.0], [0.0]], [[0.9, 0.6], [0.5, 0.1]]),
        ([[-50.0], [0.0]], [[0.0, 0.3], [-0.5, 0.3]]),
        ([[0.0], [-50.0]], [[0.3, -0.9], [0.5, 0.1]]),
        ([[50.0, 0.0], [0.0, 50.0]], [[0.9, 0.6, 0.9, 0.6], [0.5, 0.1, -0.5, 0.3]]),
    ],
)
def test_a_head_attends_to_the_highest_score(
    kernel: list[list[float]], attended: list[list[float]]
) -> None:
    """With a steep kernel each head returns the state that it projects highest, of real steps."""
    np.testing.assert_allclose(pool(kernel), attended, atol=1e-3)
