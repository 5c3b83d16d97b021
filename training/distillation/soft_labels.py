"""Soft labels of several teachers: their mixture, and a class for texts without an opinion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from app.errors import DataError
from training.distillation.mixture import fit_mixture
from training.support.arrays import Float32Array, Float64Array
from training.support.progress import print_line

_LEAST: Final = 1e-6
"""Probabilities below count as this: their logarithm must be finite."""


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """The soft labels of one teacher, or of several together; none of a split it did not answer.

    A row of nan is a text that it did not answer.

    Attributes:
        labelled: Of the labelled texts, float32 (texts, classes).
        unlabelled: Of the unlabelled texts, float32 (texts, classes).
        validation: Of the validation texts, float32 (texts, classes).
    """

    labelled: Float32Array
    unlabelled: Float32Array
    validation: Float32Array

    def sizes(self) -> list[int]:
        """Return the number of texts of each split."""
        return [len(self.labelled), len(self.unlabelled), len(self.validation)]

    def with_neutral(self, opinions: Sequence[Float32Array]) -> SoftLabels:
        """Insert a class between two, for texts without an opinion.

        Args:
            opinions: The probability that each text of each split has an opinion, float32 (texts,).
                A split without them has no soft labels.
        """
        splits = (self.labelled, self.unlabelled, self.validation)
        pairs = zip(splits, opinions, strict=True)
        return SoftLabels(*(with_neutral(split[: len(each)], each) for split, each in pairs))


def mix_teachers(teachers: Mapping[str, SoftLabels], targets: NDArray[np.integer]) -> SoftLabels:
    """Mix the logits of teachers with the weights that are best for validation texts.

    A few numbers are fitted to thousands of labels; nothing else is learned from them. A text that
    not all have labelled gets a mixture of the others, with weights of their own.

    Args:
        teachers: By name; each labels all validation texts, and of another split all, some or
            none.
        targets: The class of each validation text, (texts,).

    Raises:
        DataError: One has labelled a text of a split, and nobody another text.
    """
    each = {name: _logits(labels.validation) for name, labels in teachers.items()}

    @cache
    def fit(names: tuple[str, ...]) -> Float64Array:
        return fit_mixture(np.stack([each[name] for name in names]), targets)

    def mix(split: str) -> Float32Array:
        own = {name: getattr(labels, split) for name, labels in teachers.items()}
        own = {name: labels for name, labels in own.items() if len(labels)}
        if not own:
            return next(iter(teachers.values())).validation[:0]
        names, logits = list(own), np.stack([_logits(labels) for labels in own.values()])
        answered = np.isfinite(logits[:, :, 0])  # (teachers, texts)
        mixed = np.full(logits.shape[1:], np.nan, np.float32)
        for who in np.unique(answered, axis=1).T:
            if not who.any():
                raise DataError(
                    "each text must have an answer of one teacher at least. Received: none for "
                    f"some {split} texts"
                )
            weights = fit(tuple(compress(names, who)))
            rows = (answered == who[:, np.newaxis]).all(axis=0)
            mixed[rows] = softmax(np.tensordot(weights, logits[who][:, rows], axes=1), axis=1)
        return mixed

    found = SoftLabels(mix("labelled"), mix("unlabelled"), mix("validation"))
    weights = fit(tuple(each))
    parts = ", ".join(
        f"{name} {_accuracy(logits, targets):.2%} with weight {weight:.2f}"
        for (name, logits), weight in zip(each.items(), weights, strict=True)
    )
    together = _accuracy(found.validation, targets)
    print_line(f"teachers: validation accuracy {together:.2%} together ({parts})")
    return found


def with_neutral(two: Float32Array, opinions: Float32Array) -> Float32Array:
    """Insert a class between two, for texts without an opinion.

    Args:
        two: The probabilities of both classes if there is an opinion, float32 (texts, 2).
        opinions: The probability that there is one, float32 (texts,).

    Returns:
        float32 (texts, 3).
    """
    negative, positive = (two * opinions[:, np.newaxis]).T
    return np.stack([negative, 1 - opinions, positive], axis=1).astype(np.float32)


def _logits(probabilities: Float32Array) -> Float64Array:
    logits: Float64Array = np.log(np.maximum(probabilities, _LEAST).astype(np.float64))
    return logits


def _accuracy(scores: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    return float((scores.argmax(axis=1) == targets).mean())
