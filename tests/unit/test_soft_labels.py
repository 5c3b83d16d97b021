"""Soft labels of several teachers: mixed by what validation says, with a neutral class."""

import numpy as np
import pytest

from training.distillation.soft_labels import SoftLabels, mix_teachers, with_neutral

TARGETS = np.array([0, 1] * 50)


def labels(certainty: float, *, right: float) -> SoftLabels:
    """Soft labels of a teacher that is right about this share of the validation texts."""
    as_told = np.where(np.arange(100) < 100 * right, TARGETS, 1 - TARGETS)
    positive = np.where(as_told, certainty, 1 - certainty).astype(np.float32)
    both = np.stack([1 - positive, positive], axis=1)
    return SoftLabels(both[:3], both[:5], both)


def test_who_knows_nothing_has_no_weight() -> None:
    """A teacher that is right by chance changes nothing beside one that is right nine times."""
    mixed = mix_teachers({"good": labels(0.9, right=0.9), "bad": labels(0.9, right=0.5)}, TARGETS)
    assert mixed.sizes() == [3, 5, 100]
    assert (mixed.labelled.argmax(axis=1) == TARGETS[:3]).all()
    np.testing.assert_allclose(mixed.validation.max(axis=1)[:50], 0.9, atol=0.06)
    np.testing.assert_allclose(mixed.unlabelled.sum(axis=1), 1, atol=1e-6)


def test_probabilities_of_zero() -> None:
    """A teacher without any doubt has a finite weight."""
    mixed = mix_teachers({"sure": labels(1.0, right=0.8), "less": labels(0.7, right=0.9)}, TARGETS)
    assert np.isfinite(mixed.validation).all()
    assert mixed.validation.max() < 1


def test_neutral() -> None:
    """A text without an opinion is neutral; what is left is divided as before."""
    two = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
    three = with_neutral(two, np.array([1.0, 0.1], np.float32))
    np.testing.assert_allclose(three, [[0.2, 0, 0.8], [0.05, 0.9, 0.05]], atol=1e-6)
    every = SoftLabels(two, two, two).with_neutral(None)
    np.testing.assert_allclose(every.labelled[:, 1], 0)
    some = SoftLabels(two, two, two).with_neutral([np.zeros(2, np.float32)] * 3)
    assert some.validation[:, 1].tolist() == pytest.approx([1, 1])
