"""A weighted sum of the logits of several models."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from training.support.arrays import Float64Array
from training.support.progress import print_line


def fit_mixture(logits: Float64Array, targets: NDArray[Any]) -> Float64Array:
    """Fit the weight of each model so that the weighted sum has the lowest cross-entropy.

    Args:
        logits: (models, texts, classes).
        targets: The class of each text.

    Returns:
        The weights, (models,), 0 or more.
    """
    rows = np.arange(len(targets))

    def loss(weights: Float64Array) -> float:
        return -float(
            log_softmax(np.tensordot(weights, logits, axes=1), axis=1)[rows, targets].mean()
        )

    found = minimize(
        loss, np.ones(len(logits)), method="L-BFGS-B", bounds=[(0, None)] * len(logits)
    )
    return np.asarray(found.x, np.float64)


def print_accuracy(
    name: str, mixed: Float64Array, each: Float64Array, targets: NDArray[Any]
) -> None:
    """Print the out-of-fold accuracy of a mixture, and of each of its models alone."""
    alone = ", ".join(f"{_accuracy(logits, targets):.2%}" for logits in each)
    print_line(f"{name}: out-of-fold accuracy {_accuracy(mixed, targets):.2%} (alone: {alone})")


def _accuracy(logits: Float64Array, targets: NDArray[Any]) -> float:
    return float((logits.argmax(axis=1) == targets).mean())
