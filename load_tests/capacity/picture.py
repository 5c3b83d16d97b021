"""The knee as a picture: latency and its stages by the offered rate."""

import io
from collections.abc import Sequence
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tests.bench.picture import STYLE
from load_tests.capacity.measure import CoreFigures

_COLOURS: Final = {
    "tokenize": "#4a5568",
    "queue": "#c05621",
    "infer": "#2b6cb0",
    "rest": "#a0aec0",
}
_RED: Final = "#c53030"
_SIZE: Final = (9.2, 3.4)
_DPI: Final = 110


def draw(measured: Sequence[CoreFigures], limit_ms: float) -> bytes:
    """Draw a PNG with a row for each number of cores: quantiles left, stages right.

    Args:
        measured: The figures, each with a curve.
        limit_ms: The objective.
    """
    width, height = _SIZE
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height * len(measured)), layout="constrained")
        rows = figure.subplots(len(measured), 2, squeeze=False)
        for (left, right), figures in zip(rows, measured, strict=True):
            _draw_quantiles(left, figures, limit_ms)
            _draw_stages(right, figures)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def _draw_quantiles(axes: Axes, figures: CoreFigures, limit_ms: float) -> None:
    rates = [trial.rate for trial in figures.curve]
    for name, colour in (("p99_ms", "#c05621"), ("p95_ms", "#a0aec0"), ("p50_ms", "#2b6cb0")):
        values = [getattr(trial, name) for trial in figures.curve]
        axes.plot(rates, values, "o-", markersize=4, color=colour, label=name[:3])
    failed = [trial for trial in figures.curve if trial.failed]
    if failed:
        at = [trial.rate for trial in failed], [trial.p99_ms for trial in failed]
        axes.plot(*at, "x", color=_RED, markersize=9, label="refused or lost")
    axes.axhline(limit_ms, color=_RED, linestyle="--", label=f"{limit_ms:g} ms")
    axes.axvspan(*figures.interval, color=_RED, alpha=0.15, label="knee")
    axes.set(title=f"Milliseconds, cores: {figures.cores}", yscale="log", xlabel="requests/s")
    axes.legend(fontsize=8)


def _draw_stages(axes: Axes, figures: CoreFigures) -> None:
    """The means, which add up; quantiles do not."""
    rates = [f"{trial.rate:.0f}" for trial in figures.curve]
    bottom = [0.0] * len(rates)
    for name, colour in _COLOURS.items():
        values = [
            trial.stages[name].mean_ms if name in trial.stages else 0.0 for trial in figures.curve
        ]
        axes.bar(rates, values, bottom=bottom, color=colour, label=name)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    at_knee = figures.curve.index(figures.at_knee) + 0.5
    axes.axvline(at_knee, color=_RED, linestyle="--", label="knee")
    axes.set(title="Mean milliseconds by stage", xlabel="requests/s")
    axes.legend(fontsize=8)
