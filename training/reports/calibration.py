"""Calibration by temperature scaling."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.reports.scores import log_loss
from training.support.arrays import Probabilities

_TEMPERATURES: Final = np.geomspace(0.25, 4.0, 401)


def fit_temperature(probabilities: Probabilities, targets: NDArray[np.int32]) -> float:
    """Return the temperature with the lowest log-loss on validation texts.

    Dividing the logits by it changes the confidence, never the predicted label.

    Source:
        Guo et al. (2017), section 4.2. With a single parameter, a fine grid is accurate enough.
    """
    losses = [log_loss(rescale(probabilities, t), targets) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def rescale(probabilities: Probabilities, temperature: float | Probabilities) -> Probabilities:
    """Return the probabilities after dividing the logits by `temperature`, one or (texts, 1)."""
    logits = np.log(np.maximum(probabilities, 1e-30)) / temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Any = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.asarray(scaled, np.float64)
