"""The PNG pictures of a report, each with its alternative text.

Equal data gives equal bytes: no date, no version, and the font bundled with matplotlib. Figures
are created directly, so pyplot's global state stays untouched.
"""

import io
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from training.reports.scores import BINS
from training.support.arrays import IntArray

_INK: Final = "#1f2933"
_MUTED: Final = "#616e7c"
_LINE: Final = "#e4e7eb"
_COLOURS: Final = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")
_BLUE, _ORANGE = _COLOURS[:2]
_PALE_BLUE: Final = "#bcd4ec"
_WHITE_ABOVE: Final = 0.55  # share of a cell from which dark text on it is hard to read
_DPI: Final = 100
_PALETTE_SIZE: Final = 128
_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _LINE,
    "axes.grid": True,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.09,  # inches; with less, titles lose their tops
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # dollars in a label are dollars
    "grid.color": _LINE,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}
_WIDE: Final = (8.8, 3.2)
_SQUARE: Final = (4.3, 4.0)
_PANELS: Final = 3  # side by side


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture.

    Attributes:
        png: The PNG file.
        alt: The alternative text.
        caption: The caption.
    """

    png: bytes
    alt: str
    caption: str


def draw_history(history: Mapping[str, Sequence[float]], best_epoch: int | None) -> Picture:
    """Draw loss and accuracy per epoch for training and validation; mark the epoch kept."""
    with rc_context(_STYLE):
        figure = Figure(figsize=_WIDE, layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, name in ((left, "loss"), (right, "accuracy")):
            axes.set(title=name.capitalize(), xlabel="Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            for key, label, colour in (
                (name, "train", _BLUE),
                (f"val_{name}", "validation", _ORANGE),
            ):
                values = history.get(key, ())
                if len(values):
                    epochs = np.arange(1, len(values) + 1)
                    axes.plot(epochs, values, "o-", markersize=3.5, color=colour, label=label)
            if best_epoch is not None:
                axes.axvline(best_epoch, color=_MUTED, linestyle=":", linewidth=1.2, zorder=0)
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
        right.yaxis.set_major_formatter(_percent)
        png = _render(figure)
    last = ", ".join(f"{key} {values[-1]:.3f}" for key, values in history.items() if len(values))
    kept = "" if best_epoch is None else f"; the weights of epoch {best_epoch} (dotted) were kept"
    return Picture(
        png,
        alt=f"Line charts of loss and accuracy per epoch. At the end: {last or 'nothing recorded'}",
        caption=f"Loss and accuracy per epoch{kept}.",
    )


def draw_trials(
    numbers: Sequence[int], figures: Sequence[float | None], ended: Sequence[bool]
) -> Picture:
    """The figure of each trial of a search in order, and the best so far.

    Args:
        numbers: Of the trials, rising.
        figures: Validation accuracy; None where there is none.
        ended: Whether the trial was ended early. Such a one is never the best.
    """
    places = np.array(numbers)
    known = np.array([np.nan if figure is None else figure for figure in figures])
    early = np.array(ended, bool)
    best = np.fmax.accumulate(np.where(early, np.nan, known))
    with rc_context(_STYLE):
        figure = Figure(figsize=_WIDE, layout="constrained")
        axes = figure.subplots()
        axes.step(places, best, where="post", color=_BLUE, label="best so far")
        axes.plot(places[~early], known[~early], "o", color=_BLUE, markersize=4, label="trial")
        if early.any():
            axes.plot(places[early], known[early], "x", color=_ORANGE, label="ended early")
        axes.set(title="Trials", xlabel="Trial", ylabel="Validation accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(_percent)
        axes.legend()
        png = _render(figure)
    return Picture(
        png,
        alt=f"Validation accuracy of {len(figures)} trials in order, {early.sum()} of them ended "
        f"early; the best has {np.nanmax(best):.4f}",
        caption="Validation accuracy of each trial, and the best so far.",
    )


def draw_importance(importance: Mapping[str, float]) -> Picture:
    """Draw the share of the variance between trials that each field explains, largest on top."""
    names = sorted(importance, key=importance.__getitem__)
    shares = [importance[name] for name in names]
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE[0], 1.1 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        for bar, share in zip(axes.barh(names, shares, color=_BLUE), shares, strict=True):
            end, middle = bar.get_width(), bar.get_y() + bar.get_height() / 2
            axes.text(end, middle, f" {share:.0%}", color=_INK, va="center")
        axes.set(title="Importance of fields", xlim=(0, max(shares) * 1.1))
        axes.xaxis.set_major_formatter(_percent)
        axes.grid(visible=False, axis="y")
        png = _render(figure)
    listed = ", ".join(f"{name} {importance[name]:.0%}" for name in reversed(names))
    return Picture(
        png,
        alt=f"Bars: {listed}",
        caption="Share of the variance between trials that each field explains (fANOVA).",
    )


def draw_scatters(
    values: Mapping[str, Sequence[Any]], figures: Sequence[float], logarithmic: Collection[str]
) -> Picture:
    """Draw validation accuracy over each field, one panel per field.

    Args:
        values: For each field its value in each trial.
        figures: Validation accuracy of each trial.
        logarithmic: Fields to draw on a logarithmic scale.
    """
    rows = -(-len(values) // _PANELS)
    with rc_context({**_STYLE, "text.parse_math": True}):  # powers of ten are formulas
        figure = Figure(figsize=(_WIDE[0], 2.6 * rows), layout="constrained")
        panels = list(figure.subplots(rows, _PANELS, sharey=True, squeeze=False).flat)
        for axes, (name, found) in zip(panels, values.items(), strict=False):
            numbers = all(isinstance(value, int | float) for value in found)
            shown = list(found) if numbers else [str(value) for value in found]
            axes.plot(shown, figures, "o", color=_BLUE, markersize=4, alpha=0.7)
            axes.set(title=name, xscale="log" if name in logarithmic else "linear")
            axes.yaxis.set_major_formatter(_percent)
            if not numbers:
                axes.margins(x=0.2)
        for axes in panels[len(values) :]:
            axes.set_visible(False)
        png = _render(figure)
    return Picture(
        png,
        alt=f"Scatter charts of validation accuracy over {', '.join(values)}",
        caption="Validation accuracy over each field; a dot is a trial that was not ended early.",
    )


def draw_labels(counts: Mapping[str, Mapping[str, int]]) -> Picture:
    """Draw the texts of each label as a bar, divided by where they went.

    Args:
        counts: For each label the number of texts by destination, in the same order for all.
    """
    names = [shorten(label) for label in counts]
    places = np.arange(len(names))
    ends = np.zeros(len(names))
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE[0], 1.4 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        parts = list(next(iter(counts.values()), {}))
        for part, colour in zip(parts, _cycle(len(parts)), strict=True):
            widths = np.array([row[part] for row in counts.values()])
            axes.barh(places, widths, left=ends, color=colour, height=0.7, label=part)
            ends += widths
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set(title="Labels", xlabel="Texts")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="y")
        axes.legend()
        png = _render(figure)
    told = "; ".join(
        f"{label}: {', '.join(f'{count:,} {part}' for part, count in row.items())}"
        for label, row in counts.items()
    )
    return Picture(png, alt=f"Bars of texts by label. {told}", caption="Rows by label and split.")


def draw_confusion(matrix: IntArray, labels: Sequence[str]) -> Picture:
    """Draw the confusion matrix: counts, and shares of each true label."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with rc_context(_STYLE):
        side = max(_SQUARE[1], 1.6 + 0.9 * len(labels))
        figure = Figure(figsize=(side + 0.3, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*matrix.shape):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{matrix[row, column]:,}" + (f"\n{share:.1%}" if matrix[row].any() else ""),
                color="white" if share > _WHITE_ABOVE else _INK,
                fontsize=10,
                ha="center",
                va="center",
            )
        names = [shorten(label) for label in labels]
        axes.set_xticks(range(len(labels)), names)
        axes.set_yticks(range(len(labels)), names, rotation=90, va="center")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(title="Confusion matrix", xlabel="Predicted", ylabel="True")
        png = _render(figure)
    recognised = "; ".join(
        f"of {row.sum():,} {label} texts {row[k]:,} were recognised"
        for k, (label, row) in enumerate(zip(labels, matrix, strict=True))
        if row.any()
    )
    return Picture(
        png,
        alt=f"Confusion matrix: {recognised}",
        caption="Texts by true and predicted label; shares are of the true label.",
    )


def draw_roc(curves: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Draw one ROC curve per label with its area; chance is dotted."""
    with rc_context(_STYLE):
        figure = Figure(figsize=_SQUARE, layout="constrained")
        axes = figure.subplots()
        _draw_diagonal(axes)
        for (label, curve), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
            axes.plot(
                curve["false_positive_rate"],
                curve["true_positive_rate"],
                color=colour,
                label=f"{shorten(label)}, area {curve['area']:.4f}",
            )
        if curves:
            axes.legend(loc="lower right")
        axes.set(
            title="ROC",
            xlabel="False positive rate",
            ylabel="True positive rate",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
        )
        png = _render(figure)
    areas = ", ".join(f"{label} {curve['area']:.4f}" for label, curve in curves.items())
    return Picture(
        png,
        alt=f"ROC curves; areas: {areas or 'none, for lack of two labels'}",
        caption="True against false positive rate of each label against the rest; "
        "chance is dotted.",
    )


def draw_reliability(
    *,
    confidence: Sequence[float | None],
    accuracy: Sequence[float | None],
    counts: Sequence[int],
    error: float,
    classes: int,
) -> Picture:
    """Draw the reliability diagram, with the number of texts per bin below it.

    A calibrated model follows the dotted line. The values are those of `scores.Reliability`, with
    None in an empty bin.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=_SQUARE, layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        _draw_diagonal(axes)
        full = np.array(counts) > 0
        left = (np.arange(BINS) / BINS)[full]
        bars: dict[str, Any] = {"width": 1 / BINS, "align": "edge", "edgecolor": "white"}
        right = np.array(accuracy, float)[full]
        axes.bar(left, right, color=_PALE_BLUE, **bars)
        axes.plot(np.array(confidence, float)[full], right, "o", color=_BLUE, markersize=4.5)
        below.bar(left, np.array(counts)[full], color=_PALE_BLUE, **bars)
        lowest = np.floor(BINS / classes) / BINS  # the most probable label has at least 1 / classes
        axes.set(xlim=(lowest, 1.01), ylim=(0, 1.01), ylabel="Accuracy")
        axes.set_title(f"Reliability: ECE {error:.4f}, {sum(counts):,} texts")
        below.set(xlabel="Confidence", ylabel="Texts")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        below.grid(visible=False, axis="x")
        png = _render(figure)
    return Picture(
        png,
        alt=f"Reliability diagram; the expected calibration error is {error:.4f}",
        caption="Accuracy by confidence (perfect calibration is dotted), and texts per bin.",
    )


def draw_reliabilities(curves: Mapping[str, Mapping[str, Any]], *, classes: int) -> Picture:
    """Draw the reliability of several groups of texts, with the shares of their texts per bin.

    Args:
        curves: For each group a `scores.Reliability` as a mapping, with None in an empty bin.
        classes: Of the model.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE[0], _SQUARE[1]), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        _draw_diagonal(axes)
        width = 1 / BINS / len(curves)
        for k, (name, curve) in enumerate(curves.items()):
            counts = np.array(curve["counts"])
            full = counts > 0
            confidence = np.array(curve["confidence"], float)[full]
            accuracy = np.array(curve["accuracy"], float)[full]
            shown = f"{shorten(name, 48)}: ECE {curve['error']:.4f}"
            axes.plot(confidence, accuracy, "o-", color=_COLOURS[k], markersize=4.5, label=shown)
            left = (np.arange(BINS) / BINS)[full] + k * width
            below.bar(left, (counts / counts.sum())[full], width, color=_COLOURS[k], align="edge")
        lowest = np.floor(BINS / classes) / BINS
        axes.set(title="Reliability", xlim=(lowest, 1.01), ylim=(0, 1.01), ylabel="Accuracy")
        axes.legend(loc="lower right")
        below.set(xlabel="Confidence", ylabel="Texts")
        below.yaxis.set_major_locator(MaxNLocator(3))
        below.yaxis.set_major_formatter(_percent)
        below.grid(visible=False, axis="x")
        png = _render(figure)
    told = "; ".join(
        f"{name}: expected calibration error {curve['error']:.4f} of {sum(curve['counts']):,} texts"
        for name, curve in curves.items()
    )
    return Picture(
        png,
        alt=f"Reliability curves. {told}",
        caption="Accuracy by confidence (perfect calibration is dotted), and share of texts per "
        "bin.",
    )


def draw_slices(
    by_length: Sequence[Mapping[str, Any]], by_unknown: Sequence[Mapping[str, Any]]
) -> Picture:
    """Draw accuracy by length and by share of unknown words, with 95 % intervals.

    Args:
        by_length: From `scores.slice_accuracy`, by tokens.
        by_unknown: From `scores.slice_accuracy`, by share of unknown words.
    """
    panels = (
        ("Accuracy by length", "Tokens", "g", by_length),
        ("Accuracy by share of unknown words", "Unknown words", ".0%", by_unknown),
    )
    # Slices with few texts have wide intervals that would flatten the others: clip them.
    rows = [*by_length, *by_unknown]
    telling = sum(row["texts"] for row in by_length) / 100
    lowest = min(
        *(row["accuracy"] for row in rows), *(row["low"] for row in rows if row["texts"] >= telling)
    )
    with rc_context(_STYLE):
        figure = Figure(figsize=_WIDE, layout="constrained")
        for axes, (title, xlabel, form, slices) in zip(
            figure.subplots(1, 2, sharey=True), panels, strict=True
        ):
            accuracy = np.array([row["accuracy"] for row in slices])
            ends = np.array([[row["low"] for row in slices], [row["high"] for row in slices]])
            places = np.arange(len(slices))
            axes.errorbar(
                places, accuracy, np.abs(ends - accuracy), fmt="o", color=_BLUE, markersize=5,
                capsize=3, elinewidth=1.4,
            )  # fmt: skip
            texts = [f"{_name_slice(row, form)}\n{row['texts']:,}" for row in slices]
            axes.set_xticks(places, texts, fontsize=8)
            room = 0.06 * (1 - lowest) + 1e-3
            axes.set(title=title, xlabel=f"{xlabel}, and how many texts")
            axes.set(xlim=(-0.6, len(slices) - 0.4), ylim=(max(0, lowest - room), 1 + room))
            axes.yaxis.set_major_formatter(_percent)
            axes.grid(visible=False, axis="x")
        png = _render(figure)
    told = []
    for title, _, form, slices in panels:
        shares = (f"{_name_slice(row, form)} {row['accuracy']:.1%}" for row in slices)
        told.append(f"{title}: {', '.join(shares)}")
    return Picture(
        png,
        alt=". ".join(told),
        caption="Accuracy with 95 % intervals, by tokens and by share of unknown words.",
    )


def draw_comparison(
    rows: Sequence[tuple[str, float, tuple[float, float]]],
    figure: str,
    claims: Sequence[tuple[float, float] | None] = (),
) -> Picture:
    """Draw one bar per model, with its 95 % interval.

    Args:
        rows: Name, value and interval of each model, from top to bottom.
        figure: Name of the metric.
        claims: The lowest and the highest published value for each model, where there is one.
    """
    names = [shorten(name, 40) for name, _, _ in rows]
    values = np.array([value for _, value, _ in rows])
    ends = np.array([interval for _, _, interval in rows]).T
    with rc_context(_STYLE):
        drawing = Figure(figsize=(_WIDE[0], 1.0 + 0.3 * len(rows)), layout="constrained")
        axes = drawing.subplots()
        places = np.arange(len(rows))
        axes.barh(places, values, color=_PALE_BLUE, height=0.7)
        axes.set_yticks(places, names)
        axes.errorbar(
            values, places, xerr=np.abs(ends - values), fmt="o", color=_BLUE, markersize=4,
            capsize=3, elinewidth=1.4,
        )  # fmt: skip
        known = [(row, claim) for row, claim in enumerate(claims) if claim is not None]
        for row, claim in known:
            axes.plot(claim, [row, row], "D-", color=_ORANGE, markersize=4, zorder=1.5)
        outermost = ends[1].copy()
        for row, (_, highest_claim) in known:
            outermost[row] = max(outermost[row], highest_claim)
        for place, value, end in zip(places, values, outermost, strict=True):
            axes.annotate(
                f"{value:.2%}", (end, place), (6, 0), textcoords="offset points", va="center"
            )
        lowest = min([ends.min(), *(claim[0] for _, claim in known)])
        highest = outermost.max()
        room = max(highest - lowest, 0.01)
        title = f"{figure}, and what was claimed (diamonds)" if known else figure
        axes.set(title=title, xlim=(max(0, lowest - 0.25 * room), highest + 0.18 * room))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(_percent)
        axes.grid(visible=False, axis="y")
        png = _render(drawing)
    told = ", ".join(f"{name} {value:.2%}" for name, value, _ in rows)
    beside = ", and what was claimed (diamonds)" if known else ""
    return Picture(
        png,
        alt=f"{figure}: {told}",
        caption=f"{figure}, with 95 % intervals{beside}; the axis does not begin at 0.",
    )


def shorten(label: str, limit: int = 16) -> str:
    """Shorten a label to fit a picture."""
    return label if len(label) <= limit else f"{label[: limit - 1]}…"


def _name_slice(row: Mapping[str, Any], form: str) -> str:
    """Name a slice by its upper edge."""
    if row["up_to"] is None:
        return f"over {row['above']:{form}}"
    return f"to {row['up_to']:{form}}" if row["up_to"] else "none"


def _percent(share: float, _place: float) -> str:
    return f"{100 * share:.4g}%"


def draw_lengths(
    *, texts: int, counts: Sequence[int], width: int, max_tokens: int, share_cut: float
) -> Picture:
    """Draw a histogram of lengths in tokens, with the truncation length.

    Args:
        texts: Number of texts.
        counts: Texts per bar, from 0 tokens on; the last bar includes all longer texts.
        width: Width of a bar, in tokens.
        max_tokens: Truncation length.
        share_cut: Share of longer texts.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=_WIDE, layout="constrained")
        axes = figure.subplots()
        edge = width * len(counts)
        left = np.arange(len(counts)) * width - 0.5  # centers bars on whole numbers
        axes.bar(left, counts, width=width, align="edge", color=_BLUE)
        axes.axvline(max_tokens + 0.5, color=_ORANGE, linestyle="--")
        beyond_half = max_tokens > edge / 2
        axes.annotate(
            f"truncated at {max_tokens:,} tokens\n{share_cut:.1%} are longer",
            xy=(max_tokens + 0.5, 0.95),
            xycoords=("data", "axes fraction"),
            xytext=(-7 if beyond_half else 7, 0),
            textcoords="offset points",
            color=_ORANGE,
            ha="right" if beyond_half else "left",
            va="top",
        )
        axes.set(title="Text lengths", xlabel="Tokens", ylabel="Texts", xlim=(-0.5, edge - 0.5))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="x")
        png = _render(figure)
    return Picture(
        png,
        alt=f"Histogram of the lengths of {texts:,} training texts; {share_cut:.1%} are longer "
        f"than {max_tokens:,} tokens",
        caption="Training texts by length in tokens; the last bar holds all that are longer still.",
    )


def _draw_diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=_MUTED, linestyle=":", linewidth=1.1)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[k % len(_COLOURS)] for k in range(count)]


def _render(figure: Figure) -> bytes:
    """PNG bytes, in few colours: a third of the size, and no difference to be seen."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # A box stands for a letter that the font has not; the page names labels in text as well.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(drawn, format="png", dpi=_DPI)
    image = Image.open(drawn).convert("RGB")
    image.quantize(_PALETTE_SIZE, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()
