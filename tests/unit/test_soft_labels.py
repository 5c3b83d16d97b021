"""Soft labels of several teachers: mixed by what validation says, with a neutral class."""

from dataclasses import replace

import numpy as np
import pytest

from app.errors import DataError
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
    none = np.zeros(2, np.float32)
    some = SoftLabels(two, two, two).with_neutral([none, none[:0], none])
    assert some.validation[:, 1].tolist() == pytest.approx([1, 1])
    assert some.sizes() == [2, 0, 2]


def test_a_split_that_one_teacher_did_not_answer() -> None:
    """The others label it alone, as sure as they are right; without others it has no labels."""
    first, second = labels(0.6, right=0.9), labels(0.9, right=0.8)
    partly = replace(first, unlabelled=first.unlabelled[:0])
    mixed = mix_teachers({"partly": partly, "wholly": second}, TARGETS)
    assert mixed.sizes() == [3, 5, 100]
    np.testing.assert_allclose(mixed.unlabelled.max(axis=1), 0.8, atol=0.01)
    both = mix_teachers({"partly": first, "wholly": second}, TARGETS)
    assert mixed.labelled.tolist() == both.labelled.tolist()
    assert mix_teachers({"partly": partly}, TARGETS).sizes() == [3, 0, 100]


def test_a_text_without_any_answer() -> None:
    """A text that nobody answered has no soft label, which is said."""
    some = labels(0.9, right=0.8)
    gaps = replace(some, unlabelled=np.full_like(some.unlabelled, np.nan))
    with pytest.raises(DataError, match="Received: none for some unlabelled texts"):
        mix_teachers({"partly": gaps}, TARGETS)


def test_texts_that_one_teacher_did_not_answer() -> None:
    """Each gets what the others say alone; the rest of its split is mixed from all."""
    first, second = labels(0.6, right=0.9), labels(0.9, right=0.8)
    some = first.unlabelled.copy()
    some[1:3] = np.nan
    mixed = mix_teachers(
        {"partly": replace(first, unlabelled=some), "wholly": second}, TARGETS
    ).unlabelled
    both = mix_teachers({"partly": first, "wholly": second}, TARGETS).unlabelled
    alone = mix_teachers({"wholly": second}, TARGETS).unlabelled
    np.testing.assert_allclose(mixed, [both[0], *alone[1:3], *both[3:]], atol=1e-6)
    assert not np.allclose(both[1:3], alone[1:3], atol=0.01)
