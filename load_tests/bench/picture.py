"""The report as a picture: throughput and latency by concurrency, with the references as lines."""

import io
from collections.abc import Sequence
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from load_tests.bench.figures import ModelFigures, ServiceFigures
from load_tests.bench.goals import FLOOR

_INK: Final = "#1f2933"
_MUTED: Final = "#616e7c"
_LINE: Final = "#e4e7eb"
_BLUE, _ORANGE, _GREEN, _GREY = "#2b6cb0", "#c05621", "#2f855a", "#4a5568"
STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _LINE,
    "axes.grid": True,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": _LINE,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}
_ROW_SIZE: Final = (9.2, 3.4)
_DPI: Final = 110
_OFF_SCALE: Final = 4


def draw(services: Sequence[ServiceFigures], caption: str) -> bytes:
    """Draw a PNG with a row per model and engine: throughput on the left, latency on the right.

    Args:
        services: The measurements, by engine; at least one model.
        caption: A line of text below the pictures, about the machine and the run.
    """
    models = [figures for service in services for figures in service.models]
    width, height = _ROW_SIZE
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height * len(models) + 0.4), layout="constrained")
        rows = figure.subplots(len(models), 2, squeeze=False)
        for (left, right), figures in zip(rows, models, strict=True):
            _draw_throughput(left, figures)
            _draw_latency(right, figures)
        figure.supxlabel(caption, fontsize=8, color=_MUTED)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def _draw_throughput(axes: Axes, figures: ModelFigures) -> None:
    singles = [
        scenario for scenario in figures.scenarios if scenario.texts == 1 and not scenario.door
    ]
    samples = [(s.connections, figures.sample(s)) for s in singles]
    points = [(at, sample.requests_per_s) for at, sample in samples if sample]
    floors = [
        (at, sample.requests_per_s)
        for framework, at in figures.floors
        if framework == FLOOR and (sample := figures.floor(framework, at))
    ]
    for line, colour, label in (
        (points, _BLUE, "one text per request"),
        (floors, _GREY, f"bare {FLOOR.capitalize()} route"),
    ):
        if line:
            axes.plot(*zip(*line, strict=True), "o-", markersize=4, color=colour, label=label)
    for scenario in figures.scenarios:
        sample = figures.sample(scenario)
        if scenario.texts > 1 and sample:
            label = f"{scenario.texts} texts per request"
            known = axes.get_legend_handles_labels()[1]
            axes.plot(
                *([scenario.connections], [sample.texts_per_s], "D"),
                color=_ORANGE,
                label=None if label in known else label,
            )
    top = axes.get_ylim()[1]
    for value, style, label in (
        (figures.ceiling, "--", "in-process ceiling"),
        (figures.ceiling_from_text, ":", "in-process, from text"),
    ):
        if value:  # a line far above the data would flatten all other lines
            far = value > _OFF_SCALE * top
            above = " (above)" if far else ""
            axes.axhline(
                value, color=_GREEN, linestyle=style, label=f"{label}: {value:,.0f}{above}"
            )
            top = top if far else max(top, value * 1.05)
    axes.set(title=f"{figures.title}: texts per second", ylim=(0, top))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _finish(axes, [at for at, _ in points])


def _draw_latency(axes: Axes, figures: ModelFigures) -> None:
    singles = [
        scenario for scenario in figures.scenarios if scenario.texts == 1 and not scenario.door
    ]
    samples = [(s.connections, figures.sample(s)) for s in singles]
    there = [(at, sample) for at, sample in samples if sample and sample.p50_ms]
    positions = [at for at, _ in there]
    if there:
        p99 = [sample.p99_ms for _, sample in there]
        p50 = [sample.p50_ms for _, sample in there]
        axes.plot(positions, p99, "o-", markersize=4, color=_ORANGE, label="p99")
        axes.plot(positions, p50, "o-", markersize=4, color=_BLUE, label="p50")
        axes.set_yscale("log")
    if figures.in_process_ms:
        axes.axhline(figures.in_process_ms, color=_GREEN, linestyle="--", label="in-process")
    axes.set(title="Milliseconds, one text per request")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    _finish(axes, positions)


def _finish(axes: Axes, positions: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("concurrent connections")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
