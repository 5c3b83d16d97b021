"""The report of a version: figures, pictures and a self-contained HTML page.

`metrics.json` holds all data of a report; the PNG pictures and `report.html` are rendered from it.
Export writes the training history and the validation split, and `evaluate` adds the test split.
Equal data renders to equal bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from app.errors import DataError
from training.reports.comparison import Entry, list_cells, list_heads
from training.reports.page import (
    render_facts,
    render_figures,
    render_list,
    render_metrics,
    render_page,
    render_scores,
    render_table,
)
from training.reports.pictures import (
    Picture,
    draw_confusion,
    draw_history,
    draw_lengths,
    draw_reliabilities,
    draw_reliability,
    draw_roc,
    draw_slices,
    shorten,
)
from training.reports.quality import render_capabilities, render_short_texts
from training.reports.scores import (
    Paired,
    Scored,
    bootstrap,
    confusion_matrix,
    measure,
    measure_reliability,
    roc_curves,
    score_labels,
    slice_accuracy,
    worst_mistakes,
)
from training.support.arrays import IntArray

METRICS: Final = "metrics.json"
FIGURES: Final = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "log_loss": "Log-loss",
    "roc_auc": "ROC area",
    "expected_calibration_error": "Calibration error",
}
"""Display names of the metrics of `measure`, in display order."""
_LENGTH_EDGES: Final = (8, 16, 32, 64, 128, 256, 512, 1024)
_UNKNOWN_EDGES: Final = (0, 0.01, 0.02, 0.05, 0.1, 0.2)
_CURVE_POINTS: Final = 200
_HISTOGRAM_BARS: Final = 60  # at most
_EXCERPT: Final = 200  # characters of a text on the page of mistakes


@dataclass(frozen=True, slots=True)
class Report:
    """The data of a report. Empty parts are omitted from the page.

    Attributes:
        title: Name and version, such as `lstm 1`.
        labels: Labels in the order of the model's outputs.
        metrics: `metrics[split][engine][name]`, as in the manifest.
        splits: The details of each split, from `describe_split`; the page shows the last one.
        calibration: `temperature`, `validation_before` and `validation_after`.
        history: `loss`, `accuracy`, `val_loss`, `val_accuracy` per epoch, as in a Keras history;
            other metrics are recorded but not drawn.
        best_epoch: The epoch whose weights were kept, counting from 1; None when unknown.
        lengths: Lengths of the training texts, from `describe_lengths`.
        data: Facts about the data: sources, counts, dropped rows.
        settings: The training configuration.
        limits: Known limitations of the model, as sentences.
        short_texts: Figures of short texts, from `training.quality.short_texts`.
        capabilities: Figures of capabilities, from `training.quality.capabilities`.
    """

    title: str
    labels: Sequence[str]
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    best_epoch: int | None = None
    lengths: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Sequence[str] = ()
    short_texts: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a report. Unknown fields of other releases are ignored.

        Raises:
            DataError: `metrics.json` is missing or invalid.
        """
        path = folder / METRICS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = {each.name for each in fields(cls)}
            return cls(**{name: value for name, value in content.items() if name in known})
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not the figures of a report") from error

    def with_split(
        self, name: str, description: Mapping[str, Any], metrics: Mapping[str, Mapping[str, float]]
    ) -> Self:
        """Return a copy with another split added or replaced."""
        others = {split: details for split, details in self.splits.items() if split != name}
        return replace(
            self,
            metrics={**self.metrics, name: metrics},
            splits={**others, name: description},
        )


def describe_split(
    scored: Scored,
    *,
    texts: str,
    engine: str,
    against: Mapping[str, Any] | None = None,
    beside: Sequence[Entry] = (),
) -> dict[str, Any]:
    """Return the details of a split, ready for JSON.

    Args:
        scored: The predictions.
        texts: Name of the texts, such as `imdb test`.
        engine: The engine that computed the predictions.
        against: From `describe_paired`, when compared with another version.
        beside: The version and its baselines on the same texts.

    Returns:
        Plain values; no user text is included.
    """
    matrix = confusion_matrix(scored.y_true, scored.probabilities)
    curves = roc_curves(scored.y_true, scored.probabilities, scored.labels)
    description: dict[str, Any] = plain(
        {
            "of": f"{len(scored.y_true):,} texts of {texts}",
            "engine": engine,
            "metrics": measure(scored.probabilities, scored.y_true, scored.labels),
            "intervals": bootstrap(matrix),
            "scores": score_labels(matrix, scored.labels),
            "confusion_matrix": matrix,
            "roc": {
                label: {
                    "area": curve.area(),
                    "false_positive_rate": _thin(curve.false_positive_rate),
                    "true_positive_rate": _thin(curve.true_positive_rate),
                }
                for label, curve in curves.items()
            },
            "reliability": asdict(measure_reliability(scored.y_true, scored.probabilities)),
            "by_length": slice_accuracy(scored.right(), scored.tokens, _LENGTH_EDGES),
            "by_unknown": slice_accuracy(scored.right(), scored.unknown, _UNKNOWN_EDGES),
            "mistakes": _describe_mistakes(scored),
            "against": against,
            "beside": [asdict(entry) for entry in beside],
        }
    )
    return description


def describe_paired(other: str, found: Paired) -> dict[str, Any]:
    """Describe the comparison with another version on the same texts."""
    texts = found.both + found.only_first + found.only_second + found.neither
    return {
        "version": other,
        "its_accuracy": (found.both + found.only_second) / texts,
        "both_right": found.both,
        "only_this_right": found.only_first,
        "only_other_right": found.only_second,
        "both_wrong": found.neither,
        "mcnemar_p_value": found.p_value,
    }


def describe_lengths(lengths: IntArray, max_tokens: int) -> dict[str, Any]:
    """Describe text lengths in tokens before truncation to `max_tokens`, with a histogram."""
    if not len(lengths):
        return {}
    longest = round(1.05 * max(np.percentile(lengths, 99.5), max_tokens))
    width = longest // _HISTOGRAM_BARS + 1  # whole tokens, so that every bar covers as many lengths
    counts = np.bincount(np.minimum(lengths, longest) // width, minlength=longest // width + 1)
    return {
        "texts": len(lengths),
        "mean": round(float(lengths.mean()), 1),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
        "max_tokens": max_tokens,
        "share_cut": round(float((lengths > max_tokens).mean()), 4),
        "histogram": {"width": width, "counts": counts.tolist()},
    }


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write `metrics.json`, the pictures and `report.html` into `folder`, created if missing.

    Returns:
        The files written.
    """
    numbers = plain(asdict(report))
    pictures = draw(report)
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    # Put rows of numbers on one line; JSON strings never contain a raw line feed.
    text = re.sub(r'\[\n[^][{}"]*\]', lambda row: " ".join(row[0].split()), text)
    contents = {f"{name}.png": picture.png for name, picture in pictures.items()}
    contents[METRICS] = f"{text}\n".encode()
    contents["report.html"] = _compose(report, pictures).encode()

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def draw(report: Report) -> dict[str, Picture]:
    """Draw the pictures that the data allows, by name."""
    pictures = {}
    if report.history:
        pictures["curves"] = draw_history(report.history, report.best_epoch)
    if histogram := report.lengths.get("histogram"):
        facts = {name: report.lengths[name] for name in ("texts", "max_tokens", "share_cut")}
        pictures["lengths"] = draw_lengths(**facts, **histogram)
    if report.splits:
        split = _shown(report)
        pictures |= {
            "confusion_matrix": draw_confusion(np.array(split["confusion_matrix"]), report.labels),
            "roc": draw_roc(split["roc"]),
            "reliability": draw_reliability(**split["reliability"], classes=len(report.labels)),
            "slices": draw_slices(split["by_length"], split["by_unknown"]),
        }
        if short := report.short_texts.get("reliability"):
            few = report.short_texts["few_tokens"]
            pictures["reliability_short"] = draw_reliabilities(
                {split["of"]: split["reliability"], f"short texts, up to {few} tokens": short},
                classes=len(report.labels),
            )
    return pictures


def render_mistakes(
    title: str, split: Mapping[str, Any], texts: Sequence[str] | None = None
) -> str:
    """Render a page of wrong predictions, with excerpts of the texts.

    Args:
        title: Title of the page.
        split: From `describe_split`.
        texts: The texts of the split, in order.
    """
    return render_page(
        title=title,
        summary=f"The most confident wrong predictions among {split['of']}. This page shows "
        "excerpts of the texts: share it only with people who may read them.",
        figures={},
        sections={"Mistakes": _mistakes_table(split["mistakes"], texts)},
    )


def _shown(report: Report) -> Mapping[str, Any]:
    """The split that the page shows; the others are in the table of metrics."""
    return list(report.splits.values())[-1]


def _compose(report: Report, pictures: Mapping[str, Picture]) -> str:
    """Compose the page, most important sections first."""
    split = _shown(report) if report.splits else {}
    lengths = {name: value for name, value in report.lengths.items() if name != "histogram"}
    data = {**report.data, **({"lengths_in_tokens": lengths} if lengths else {})}

    def show(*names: str) -> str:
        there = [pictures[name] for name in names if name in pictures]
        return render_figures(*there) if there else ""

    return render_page(
        title=report.title,
        summary=f"Metrics and pictures are for {split['of']}, scored by the engine "
        f"{split['engine']}. Intervals are 95 % bootstrap intervals."
        if split
        else "",
        figures=_headline(split),
        sections={
            "Metrics": render_metrics(report.metrics),
            "Labels": render_scores(split.get("scores", {})) + show("confusion_matrix", "roc"),
            "Confidence": render_facts(report.calibration) + show("reliability"),
            "Accuracy by slice": show("slices"),
            "Short texts": render_short_texts(report.short_texts) + show("reliability_short"),
            "Capabilities": render_capabilities(report.capabilities),
            "Most confident mistakes": _mistakes_table(split.get("mistakes", ())),
            "Compared with other models": _beside_table(split.get("beside", ())),
            "Compared with another version": render_facts(split.get("against") or {}),
            "Limits": render_list(report.limits),
            "Training": show("curves"),
            "Data": render_facts(data) + show("lengths"),
            "Settings": render_facts(report.settings),
        },
    )


def _headline(split: Mapping[str, Any]) -> dict[str, str]:
    """Return the headline metrics with their intervals."""
    if not split:
        return {}
    metrics = split["metrics"]
    figures = {}
    for name, title in FIGURES.items():
        if name in metrics:
            form = ".2%" if name == "accuracy" else ".4f"
            value = f"{metrics[name]:{form}}"
            if interval := split["intervals"].get(name):
                value += f"\n{interval[0]:{form}} to {interval[1]:{form}}"
            figures[title] = value
    return figures


def _describe_mistakes(scored: Scored) -> list[dict[str, Any]]:
    return [
        {
            "text": position + 1,  # counting from 1, in the order of the file
            "label": scored.labels[int(scored.y_true[position])],
            "predicted": scored.labels[int(scored.probabilities[position].argmax())],
            "probability": round(float(scored.probabilities[position].max()), 6),
            "tokens": int(scored.tokens[position]),
            "share_unknown": round(float(scored.unknown[position]), 4),
        }
        for position in worst_mistakes(scored)
    ]


def _mistakes_table(
    mistakes: Sequence[Mapping[str, Any]], texts: Sequence[str] | None = None
) -> str:
    heads = ["Label", "Predicted", "Text", "Probability", "Tokens", "Unknown"]
    rows = [
        (
            [row["label"], row["predicted"]],
            [
                f"{row['text']:,}",
                f"{row['probability']:.4f}",
                f"{row['tokens']:,}",
                f"{row['share_unknown']:.1%}",
            ],
        )
        for row in mistakes
    ]
    if texts is None:
        return render_table(heads, rows)
    begins = [shorten(" ".join(texts[row["text"] - 1].split()), _EXCERPT) for row in mistakes]
    return render_table(heads, rows, begins, "Begins")


def _beside_table(models: Sequence[Mapping[str, Any]]) -> str:
    entries = [Entry(**model) for model in models]
    heads = list_heads(entries)
    rows = [list_cells(entry, heads) for entry in entries]
    return render_table(
        heads[:-1],
        [([name], numbers) for name, *numbers, _ in rows],
        [note for *_, note in rows],
        heads[-1],
    )


def _thin(rates: np.ndarray[Any, Any]) -> list[float]:
    """Thin a curve to the resolution of a picture, keeping both ends."""
    kept = np.unique(np.linspace(0, len(rates) - 1, _CURVE_POINTS).round().astype(np.int64))
    thinned: list[float] = rates[kept].round(5).tolist()
    return thinned


def plain(value: object) -> Any:
    """Convert NumPy values and containers for JSON; NaN and infinity become null."""
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case np.ndarray() | np.generic():
            return plain(value.tolist())
        case list() | tuple():
            return [plain(item) for item in value]
        case float():
            return float(f"{value:.8g}") if np.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
