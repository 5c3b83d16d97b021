"""What a version says of its validation texts, for the service to tell drift from it."""

from collections.abc import Sequence

import numpy as np

from app.artifact import CONFIDENCE_BOUNDS, Baseline
from app.text.encoder import Encoded
from training.support.arrays import Probabilities


def count_baseline(encoded: Sequence[Encoded], probabilities: Probabilities) -> Baseline:
    """Count the validation texts as the service counts the texts that it answers.

    Args:
        encoded: The encoded texts.
        probabilities: Of the exported version, of shape (texts, labels).
    """
    labels = probabilities.argmax(axis=1)
    # A bound belongs to the bin below it, as in the buckets of Prometheus.
    bins = np.searchsorted(CONFIDENCE_BOUNDS, probabilities.max(axis=1), side="left")
    return Baseline(
        labels=tuple(np.bincount(labels, minlength=probabilities.shape[1]).tolist()),
        confidence=tuple(np.bincount(bins, minlength=len(CONFIDENCE_BOUNDS) + 1).tolist()),
        truncated=sum(each.truncated for each in encoded),
        tokens=sum(len(each.ids) - 1 for each in encoded),  # without the begin-of-sequence id
        unknown=sum(len(each.ids) - 1 - each.known for each in encoded),  # of those, as in service
    )
