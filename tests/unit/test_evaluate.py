"""The figures of a split."""

from pathlib import Path

import numpy as np
import pytest

from app.artifact import read_manifest
from app.errors import DataError
from tests.corpus import make_corpus, write_csv
from tests.trained import Workshop, call
from training.dataset import Source
from training.evaluate import (
    evaluate_version,
    fit_temperature,
    log_loss,
    measure,
    rescale,
)

LABELS = ("negative", "positive")


def test_measure() -> None:
    """The figures are those of the definitions, worked out by hand."""
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    scores = measure(probabilities, np.array([0, 0, 1, 1], np.int32), LABELS)
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == 0.5
    assert scores["roc_auc"] == 0.75
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.3]).mean(), abs=1e-6)
    gaps = [0.1, 0.6, 0.2, 0.7]  # |confidence - right or wrong|, each alone in its bin
    assert scores["expected_calibration_error"] == pytest.approx(np.mean(gaps), abs=1e-6)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    """Being wrong with certainty costs much, not infinity."""
    assert np.isfinite(log_loss(np.array([[1.0, 0.0]]), np.array([1], np.int32)))


def test_temperature_is_found_again() -> None:
    """Labels drawn from probabilities that were then sharpened give the sharpening back."""
    generator = np.random.default_rng(5)
    honest = generator.dirichlet([1, 1, 1], size=20_000)
    targets = np.array([generator.choice(3, p=p) for p in honest], np.int32)
    sharpened = rescale(honest, 0.5)
    assert fit_temperature(sharpened, targets) == pytest.approx(2.0, rel=0.05)


def test_rescaling_changes_no_label() -> None:
    """A temperature moves confidence, never the order of labels; 1 moves nothing."""
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], size=50)
    np.testing.assert_allclose(rescale(probabilities, 1.0), probabilities, atol=1e-12)
    warm = rescale(probabilities, 3.0)
    assert (warm.argsort(axis=1) == probabilities.argsort(axis=1)).all()
    np.testing.assert_allclose(warm.sum(axis=1), 1)


def test_the_manifest_holds_what_evaluate_finds(workshop: Workshop) -> None:
    """The test figures of a version come out again when it is evaluated."""
    version = workshop.models / "lstm" / "1"
    scores = evaluate_version(version, Source(str(workshop.data)), "test")
    assert read_manifest(version).metrics["test"]["tensorflow"] == pytest.approx(scores, abs=1e-6)


def test_labels_the_model_has_not(workshop: Workshop) -> None:
    """Texts with other labels cannot be scored, and the message names them."""
    texts = make_corpus(12, seed=3, labels=("negative", "neutral", "positive"))
    path = write_csv(workshop.runs.parent / "three.csv", texts)
    with pytest.raises(DataError, match=r"negative, positive\. Received: neutral"):
        evaluate_version(workshop.models / "lstm" / "1", Source(str(path)), "train")


def test_one_file_is_scored_whole(workshop: Workshop, tmp_path: Path) -> None:
    """A single file of texts needs no word on which part of it is meant."""
    path = write_csv(tmp_path / "mine.csv", make_corpus(20, seed=8))
    assert call("evaluate", workshop.models / "lstm" / "1", "--data", path) == 0
