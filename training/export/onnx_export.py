"""Write `model.onnx`, and keep it only if it agrees with the SavedModel."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from app.artifact import ONNX
from app.text.padding import Int32Array
from training.export.onnx_graph import Precision, build_onnx, precisions
from training.export.runtimes import OnnxModel
from training.support.arrays import Probabilities

PARITY: Final = 1e-4
"""Largest allowed difference between a probability of the fp32 graph and of the SavedModel."""

MAX_ACCURACY_LOSS: Final = 0.001
"""Largest share of the validation texts that int8 weights may get wrong in addition."""

MAX_NEIGHBOURS_DIFFERENCE: Final = 1e-5
_EVEN: Final = 0.02
"""Largest allowed difference of a probability between one batch and another."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The answers of the SavedModel.

    Attributes:
        golden: The ids of each golden text.
        golden_answers: Probabilities, (golden texts, classes).
        validation: The ids of each validation text.
        validation_answers: Probabilities, (validation texts, classes).
        targets: The true class of each validation text, int32 (validation texts,).
    """

    golden: list[Int32Array]
    golden_answers: Probabilities
    validation: list[Int32Array]
    validation_answers: Probabilities
    targets: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of an ONNX graph.

    Attributes:
        golden: Probabilities, (golden texts, classes), computed in one batch.
        golden_alone: The same, each text in a batch of its own.
        validation: Probabilities, (validation texts, classes).
    """

    golden: Probabilities
    golden_alone: Probabilities
    validation: Probabilities


@dataclass(frozen=True, slots=True)
class Kept:
    """The graph that is kept as `model.onnx`, and its answers."""

    model: OnnxModel
    answers: Answers


def export_onnx(
    folder: Path,
    model: keras.Model,
    reference: Reference,
    *,
    temperature: float,
    short_temperature: float = 1.0,
) -> tuple[Kept | None, dict[str, Any]]:
    """Write `model.onnx`: with int8 weights if they agree, else in fp32 if that agrees.

    int8 is tried only when fp32 agrees. Its limits are wider, and would accept a graph that
    computes something else.

    Args:
        folder: The version's folder.
        model: A trained model, rounded by `round_tables`.
        reference: The answers to agree with.
        temperature: Divides the logits.
        short_temperature: Divides those of short texts in addition.

    Returns:
        The graph that was kept, if any; and for the manifest the precision of `model.onnx` and the
        outcome of each graph that was tried.
    """
    kept: Kept | None = None
    record: dict[str, Any] = {"file": None, "precision": None, "tried": {}}
    for precision in precisions(model):
        path = folder / f".{precision}.onnx"
        graph = build_onnx(
            model,
            temperature=temperature,
            short_temperature=short_temperature,
            precision=precision,
        )
        onnx.save(graph, path)
        candidate = OnnxModel(path)
        answers = _score(candidate, reference)
        figures = compare(answers, reference)
        fault = find_fault(figures, precision)
        finite = {name: value for name, value in figures.items() if isfinite(value)}
        record["tried"][precision] = {"fault": fault, "bytes": path.stat().st_size, **finite}
        if fault is not None:
            path.unlink()
            break
        path.replace(folder / ONNX)
        kept = Kept(candidate, answers)
        record |= {"file": ONNX, "precision": precision}
    return kept, record


def _score(candidate: OnnxModel, reference: Reference) -> Answers:
    return Answers(
        golden=candidate.score(reference.golden),
        golden_alone=candidate.score(reference.golden, batch_size=1),
        validation=candidate.score(reference.validation),
    )


def compare(answers: Answers, reference: Reference) -> dict[str, float]:
    """Compare a graph with the SavedModel: the figures that `find_fault` judges."""
    golden = np.abs(answers.golden - reference.golden_answers).max()
    validation = np.abs(answers.validation - reference.validation_answers).max()
    same = answers.golden.argmax(axis=1) == reference.golden_answers.argmax(axis=1)
    # Some golden texts say nothing: a model that finds them even has no label to keep.
    best = np.sort(reference.golden_answers, axis=1)
    labels = same | (best[:, -1] - best[:, -2] < _EVEN)
    right = answers.validation.argmax(axis=1) == reference.targets
    expected_right = reference.validation_answers.argmax(axis=1) == reference.targets
    figures = {
        "largest_difference": float(np.maximum(golden, validation)),
        "neighbours_difference": float(np.abs(answers.golden - answers.golden_alone).max()),
        "golden_labels_changed": int(np.count_nonzero(~labels)),
        "validation_accuracy": float(right.mean()),
        "validation_accuracy_lost": float(expected_right.mean() - right.mean()),
    }
    return {name: round(value, 9) for name, value in figures.items()}


def find_fault(figures: dict[str, float], precision: Precision) -> str | None:
    """Why a graph with these figures of `compare` must not serve; None if it may."""
    limits = {"neighbours_difference": MAX_NEIGHBOURS_DIFFERENCE, "golden_labels_changed": 0}
    if precision == "fp32":
        limits["largest_difference"] = PARITY
    else:
        limits["validation_accuracy_lost"] = MAX_ACCURACY_LOSS
    for name, limit in limits.items():
        if not figures[name] <= limit:  # NaN fails as well
            return f"{name} must be at most {limit:g}. Received: {figures[name]:g}"
    return None
