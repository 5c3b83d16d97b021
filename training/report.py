"""Report: one trained version described for people, with pictures and a page that holds them all.

`write_report` makes `metrics.json`, five PNG pictures and `report.html`, which needs no other file.
The same data gives the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.page import (
    render_facts,
    render_figures,
    render_list,
    render_metrics,
    render_page,
    render_scores,
)
from training.pictures import (
    Picture,
    draw_confusion,
    draw_history,
    draw_lengths,
    draw_reliability,
    draw_roc,
)
from training.scores import (
    FloatArray,
    IntArray,
    confusion_matrix,
    measure_reliability,
    roc_curves,
    score_labels,
)


@dataclass(frozen=True, slots=True)
class ReportData:
    """What is known of one trained version.

    Attributes:
        title: Name and version, as `lstm 1`.
        evaluated_on: What `y_true` and `probabilities` belong to, as `25,000 test reviews`.
        labels: In the order of the model's outputs, at least two.
        y_true: int (n,), indices into `labels`.
        probabilities: float (n, c), rows summing to 1.
        history: Per epoch `loss`, `accuracy`, `val_loss`, `val_accuracy`, as Keras keeps them;
            names that are missing are not drawn, others are only written down.
        lengths: int (m,), tokens in each training text before truncation.
        max_tokens: Where texts are cut.
        metrics: `metrics[split][engine][name]`, as in the manifest.
        data: Facts on the data: sources, counts, what was left out and why.
        settings: The training configuration.
        summary: A sentence or two below the title.
        best_epoch: Counting from 1: the epoch whose weights were kept; None when not known.
        limits: What the model is not good for, in sentences.
    """

    title: str
    evaluated_on: str
    labels: tuple[str, ...]
    y_true: IntArray
    probabilities: FloatArray
    history: Mapping[str, Sequence[float]]
    lengths: IntArray
    max_tokens: int
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]]
    data: Mapping[str, object]
    settings: Mapping[str, object]
    summary: str = ""
    best_epoch: int | None = None
    limits: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse arrays whose shapes contradict each other."""
        expected = (len(self.y_true), len(self.labels))
        if self.probabilities.shape != expected or not len(self.y_true):
            raise ValueError(
                f"probabilities must have a row per text and a column per label, {expected}, and "
                f"at least one row. Received: {self.probabilities.shape}"
            )


def write_report(folder: Path, data: ReportData) -> list[Path]:
    """Write `metrics.json`, the pictures and `report.html` into `folder`, made when missing.

    Returns:
        The files written.
    """
    numbers = summarise(data)
    pictures = draw(data)
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    contents = {f"{name}.png": picture.png for name, picture in pictures.items()}
    contents["metrics.json"] = f"{text}\n".encode()
    contents["report.html"] = _compose(data, numbers, pictures).encode()

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def summarise(data: ReportData) -> dict[str, Any]:
    """Everything the page says in figures, ready for JSON."""
    matrix = confusion_matrix(data.y_true, data.probabilities)
    curves = roc_curves(data.y_true, data.probabilities, data.labels)
    summary = {
        "title": data.title,
        "evaluated_on": data.evaluated_on,
        "labels": data.labels,
        "metrics": data.metrics,
        "accuracy": np.trace(matrix) / matrix.sum(),
        "calibration_error": measure_reliability(data.y_true, data.probabilities).error,
        "roc_area": {label: curve.area() for label, curve in curves.items()},
        "scores": score_labels(matrix, data.labels),
        "confusion_matrix": matrix,
        "history": data.history,
        "best_epoch": data.best_epoch,
        "lengths": _describe_lengths(data.lengths, data.max_tokens),
        "data": data.data,
        "settings": data.settings,
        "limits": data.limits,
    }
    return {name: _plain(value) for name, value in summary.items()}


def draw(data: ReportData) -> dict[str, Picture]:
    """All pictures by name, in the order of the page."""
    return {
        "curves": draw_history(data.history, data.best_epoch),
        "confusion_matrix": draw_confusion(
            confusion_matrix(data.y_true, data.probabilities), data.labels
        ),
        "roc": draw_roc(roc_curves(data.y_true, data.probabilities, data.labels)),
        "reliability": draw_reliability(
            measure_reliability(data.y_true, data.probabilities), classes=len(data.labels)
        ),
        "lengths": draw_lengths(data.lengths, data.max_tokens),
    }


def _compose(data: ReportData, numbers: Mapping[str, Any], pictures: Mapping[str, Picture]) -> str:
    """The page, from most to least asked for."""
    return render_page(
        title=data.title,
        summary=data.summary,
        figures={
            f"Accuracy, {data.evaluated_on}": f"{numbers['accuracy']:.2%}",
            **{f"ROC area, {label}": f"{area:.4f}" for label, area in numbers["roc_area"].items()},
            "Calibration error": f"{numbers['calibration_error']:.4f}",
        },
        sections={
            "Metrics": render_metrics(data.metrics),
            "Labels": render_scores(numbers["scores"])
            + render_figures(pictures["confusion_matrix"], pictures["roc"]),
            "Limits": render_list(data.limits),
            "Training": render_figures(pictures["curves"]),
            "Confidence": render_figures(pictures["reliability"]),
            "Data": render_facts({**numbers["data"], "lengths_in_tokens": numbers["lengths"]})
            + render_figures(pictures["lengths"]),
            "Settings": render_facts(numbers["settings"]),
        },
    )


def _describe_lengths(lengths: IntArray, max_tokens: int) -> dict[str, float]:
    if not len(lengths):
        return {"texts": 0, "max_tokens": max_tokens}
    return {
        "texts": len(lengths),
        "mean": round(float(lengths.mean()), 1),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
        "max_tokens": max_tokens,
        "share_cut": round(float((lengths > max_tokens).mean()), 4),
    }


def _plain(value: object) -> Any:
    """Numpy values and containers as JSON has them; numbers that are none as null."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return value if np.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
