"""The samples of a soak as CSV, and as a picture."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tests.bench.picture import STYLE
from load_tests.soak.verdict import Outcome, Sample

_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#2b6cb0", "#c05621", "#2f855a", "#c53030", "#a0aec0"
_SIZE: Final = (10, 11)
_DPI: Final = 100


def write_csv(samples: Sequence[Sample]) -> str:
    """A header, and a row for each second."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(field.name for field in fields(Sample))
    writer.writerows(astuple(sample) for sample in samples)
    return target.getvalue()


def draw(outcome: Outcome, caption: str) -> bytes:
    """Draw a PNG: memory, threads and descriptors, latencies, and answers, over time.

    Args:
        outcome: The soak, with at least one sample.
        caption: A line of text below the picture.
    """
    at = [sample.at_s for sample in outcome.samples]
    answering = [sample for sample in outcome.samples if sample.answers]
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        memory, counts, latency, answers = figure.subplots(4, 1, sharex=True)
        for name, colour in (("pss", _BLUE), ("rss", _GREY)):
            values = [getattr(sample, f"{name}_bytes") / 1e6 for sample in outcome.samples]
            memory.plot(at, values, color=colour, label=name.upper())
        memory.axhline(outcome.before.pss_bytes / 1e6, color=_BLUE, linestyle=":", label="before")
        memory.set(title=f"Memory in MB, {outcome.growth:+.1%} over the last half")
        memory.set_ylim(bottom=0)
        for name, colour in (("threads", _ORANGE), ("descriptors", _GREEN)):
            counts.plot(at, [getattr(s, name) for s in outcome.samples], color=colour, label=name)
            counts.axhline(getattr(outcome.before, name), color=colour, linestyle=":")
        counts.set(title="Threads and descriptors; dotted: before the traffic")
        counts.set_ylim(bottom=0)
        for name, colour in (("p99_ms", _ORANGE), ("p50_ms", _BLUE)):
            points = [getattr(sample, name) for sample in answering]
            latency.plot([s.at_s for s in answering], points, color=colour, label=name[:3])
        latency.set(title="Latency in milliseconds", yscale="log")
        answers.plot(at, [sample.answers for sample in outcome.samples], color=_BLUE)
        answers.set(title="Right answers per second", xlabel="seconds")
        answers.set_ylim(bottom=0)
        for axes in (memory, counts, latency, answers):
            _mark_events(axes, outcome)
        for axes in (memory, counts, latency):
            axes.legend(fontsize=8, loc="lower left", ncols=4)
        figure.supxlabel(caption, fontsize=8)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def _mark_events(axes: Axes, outcome: Outcome) -> None:
    """A red line for each kill, a grey one for every other change."""
    for at_s, what in outcome.events:
        colour = _RED if what.startswith("kill") else _GREY
        axes.axvline(at_s, color=colour, linewidth=0.7, alpha=0.6, zorder=0)
