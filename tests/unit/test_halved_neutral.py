"""The neutral class of three, divided between the two others."""

import numpy as np
import pytest
from scipy.special import softmax

from tests.deferred import deferred

with deferred():
    from training.models.layers.halved_neutral import (
        HalvedNeutral,
        HalvedNeutralGraph,
        paired_with_neutral,
    )

LOGITS = np.array(
    [[0, 0, 0], [1, -2, 3], [-4, 9, 2], [300, -300, 0], [-300, 300, -300]], np.float32
)


@pytest.mark.parametrize(
    "form", [lambda each: HalvedNeutral()(each), lambda each: HalvedNeutralGraph()(each)]
)
def test_each_gets_half(form: object) -> None:
    """Both probabilities have half of the neutral one, however large the logits are."""
    three = softmax(LOGITS.astype(np.float64), axis=1)
    two = softmax(np.asarray(form(LOGITS)), axis=1)  # type: ignore[operator]
    np.testing.assert_allclose(two, three[:, [0, 2]] + three[:, 1:2] / 2, atol=1e-6)


def test_weights_of_pairs() -> None:
    """Each pair of logits sums to the same, as exponentials, before it is divided."""
    generator = np.random.default_rng(1)
    kernel, bias = generator.normal(size=(4, 3)), generator.normal(size=3)
    features = generator.normal(size=(5, 4))
    pairs = np.exp(
        features @ paired_with_neutral(kernel, bias)[0] + paired_with_neutral(kernel, bias)[1]
    )
    sums = pairs.reshape(5, 2, 2).sum(axis=2)
    three = np.exp(features @ kernel + bias)
    np.testing.assert_allclose(sums, three[:, [0, 2]] + three[:, 1:2] / 2, rtol=1e-6)
