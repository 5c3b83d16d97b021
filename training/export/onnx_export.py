"""`model.onnx`: the same model for ONNX Runtime, kept only where it agrees with the SavedModel."""

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
"""How far any probability in single precision may be from the SavedModel's."""


ACCURACY_LOSS: Final = 0.001
"""What share of the validation texts weights of one byte may cost."""


NEIGHBOURS: Final = 1e-5
"""How far an answer may depend on what else is in its batch."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the SavedModel answered.

    Attributes:
        golden: Rows of ids of the golden texts.
        golden_answers: (golden texts, classes).
        validation: Rows of ids of the validation texts.
        validation_answers: (validation texts, classes).
        targets: The true class of each validation text, int32 (validation texts,).
    """

    golden: list[Int32Array]
    golden_answers: Probabilities
    validation: list[Int32Array]
    validation_answers: Probabilities
    targets: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a graph answered.

    Attributes:
        golden: (golden texts, classes), in one batch.
        golden_alone: The same, each text by itself.
        validation: (validation texts, classes).
    """

    golden: Probabilities
    golden_alone: Probabilities
    validation: Probabilities


@dataclass(frozen=True, slots=True)
class Kept:
    """The graph that serves, and what it answered."""

    model: OnnxModel
    answers: Answers


def export_onnx(
    folder: Path, model: keras.Model, reference: Reference, *, temperature: float
) -> tuple[Kept | None, dict[str, Any]]:
    """Write `model.onnx` into `folder`: with weights of one byte, else in single precision.

    Weights of one byte are tried only when single precision agrees: what holds them together is
    looser, and would let a graph pass that computes something else.

    Args:
        folder: Of the version.
        model: Trained, its word vectors rounded to half precision.
        reference: What to agree with.
        temperature: By which the logits are divided.

    Returns:
        The graph that was kept, if any; and for the manifest the precision of `model.onnx`, and
        how each graph that was built did.
    """
    kept: Kept | None = None
    record: dict[str, Any] = {"file": None, "precision": None, "tried": {}}
    for precision in precisions(model):
        path = folder / f".{precision}.onnx"
        onnx.save(build_onnx(model, temperature=temperature, precision=precision), path)
        candidate = OnnxModel(path)
        answers = Answers(
            golden=candidate.score(reference.golden),
            golden_alone=candidate.score(reference.golden, batch_size=1),
            validation=candidate.score(reference.validation),
        )
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


def compare(answers: Answers, reference: Reference) -> dict[str, float]:
    """How far a graph is from the SavedModel: the figures that `find_fault` judges."""
    golden = np.abs(answers.golden - reference.golden_answers).max()
    validation = np.abs(answers.validation - reference.validation_answers).max()
    labels = answers.golden.argmax(axis=1) == reference.golden_answers.argmax(axis=1)
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
    """Why a graph with these figures of `compare` may not serve; None when it may."""
    limits = {"neighbours_difference": NEIGHBOURS, "golden_labels_changed": 0}
    if precision == "fp32":
        limits["largest_difference"] = PARITY
    else:
        limits["validation_accuracy_lost"] = ACCURACY_LOSS
    for name, limit in limits.items():
        if not figures[name] <= limit:  # NaN is no agreement either
            return f"{name} must be at most {limit:g}. Received: {figures[name]:g}"
    return None
