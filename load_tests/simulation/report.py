"""The report of a simulation: JSON, Markdown and a picture."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tests.bench.picture import STYLE
from load_tests.bench.report import write_file
from load_tests.simulation.cluster import Outcome
from load_tests.simulation.day import Day
from load_tests.simulation.plan import Found, Wanted
from load_tests.simulation.service_times import Measured
from load_tests.simulation.validate import Comparison, conclude

SCHEMA_VERSION: Final = 1
_BLUE, _ORANGE, _GREEN, _RED = "#2b6cb0", "#c05621", "#2f855a", "#c53030"
_SIZE: Final = (9.2, 9.6)
_DPI: Final = 110
_MOST_TROUBLES: Final = 5


def make_content(
    measured: Measured, wanted: Wanted, comparisons: Sequence[Comparison], found: Found
) -> dict[str, Any]:
    """Make the JSON content."""
    return {
        "schema_version": SCHEMA_VERSION,
        "times": dataclasses.asdict(measured.times),
        "times_cores": measured.times_cores,
        "wanted": dataclasses.asdict(wanted),
        "comparisons": [dataclasses.asdict(each) for each in comparisons],
        "rate_of_one": found.rate_of_one,
        "need": dataclasses.asdict(found.need),
        "scale": dataclasses.asdict(found.scale),
        "table": [
            {**dataclasses.asdict(row), "sample_ms": len(row.sample_ms)} for row in found.rows
        ],
        "whole": _outcome(found.whole),
        "node_lost": _outcome(found.lost),
        "days": {name: dataclasses.asdict(day) for name, day in found.days.items()},
        "cost_per_million_texts": found.costs,
    }


def write_markdown(
    measured: Measured, wanted: Wanted, comparisons: Sequence[Comparison], found: Found
) -> str:
    """Write the report as Markdown."""
    times, need, scale = measured.times, found.need, found.scale
    parts = [
        "# Simulation",
        f"A run takes {times.run_s * 1e3:.2f} ms and {times.token_s * 1e6:.2f} µs for each token; "
        f"the event loop {times.request_s * 1e3:.2f} ms for a request and "
        f"{times.text_s * 1e3:.2f} ms for each text; outside {times.outside_s * 1e3:.2f} ms. "
        + _origin(measured.times_cores, wanted.cores),
        "## Against the measurements",
        _table(
            ("knee", "measured", "simulated", "ratio"),
            [
                (each.what, f"{each.measured:.0f}", f"{each.simulated:.0f}", f"{each.ratio:.2f}")
                for each in comparisons
            ],
        ),
        conclude(comparisons),
        f"## {wanted.rate:,.0f} requests/s",
        f"A replica of {wanted.cores} cores does {found.rate_of_one:.0f} requests/s. With "
        f"{wanted.pods.nodes} nodes of which one may be lost: {need.replicas} replicas. The "
        f"autoscaler chooses {scale.least} to {scale.most}, with a target of {scale.utilization} % "
        f"of the CPU request or {scale.in_flight:.1f} requests in flight.",
        _table(
            ("request by request", "p50 ms", "p99 ms", "refused", "lost"),
            [
                _row(f"all nodes, {found.whole.seconds:.0f} s", found.whole),
                _row(
                    f"a node lost after {wanted.seconds / 3:.0f} of {found.lost.seconds:.0f} s, "
                    f"noticed {wanted.pods.notice_s:.0f} s later",
                    found.lost,
                ),
            ],
        ),
        _days(wanted, found),
        "## What breaks first",
        *(_troubles(name, day) for name, day in found.days.items()),
    ]
    return "\n\n".join(parts) + "\n"


def write_files(folder: Path, content: dict[str, Any], text: str, picture: bytes) -> list[Path]:
    """Write `simulation.json`, `.md` and `.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "simulation.json": (json.dumps(content, indent=1) + "\n").encode(),
        "simulation.md": text.encode(),
        "simulation.png": picture,
    }
    return [write_file(folder / name, data) for name, data in files.items()]


def draw(found: Found, limit_ms: float) -> bytes:
    """Draw a PNG: the traffic of the day, its pods and its p99, by autoscaler."""
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        rates, pods, latency = figure.subplots(3, 1, sharex=True)
        first = next(iter(found.days.values()))
        hours = [minute / 60 for minute in range(len(first.rates))]
        rates.plot(hours, first.rates, color=_BLUE)
        rates.set(title="Requests per second")
        shown = zip(("HPA", "KEDA", "fixed"), (_BLUE, _ORANGE, _GREEN), strict=True)
        for name, colour in shown:
            day = found.days[name]
            pods.plot(hours, day.pods, color=colour, label=name)
            latency.plot(hours, day.p99s_ms, color=colour, label=name)
        pods.set(title="Ready pods, by autoscaler")
        latency.axhline(limit_ms, color=_RED, linestyle="--", label=f"{limit_ms:g} ms")
        latency.set(title="p99 in milliseconds", yscale="log", xlabel="hour")
        _finish(rates, pods)
        for axes in (pods, latency):
            axes.legend(fontsize=8, ncols=4)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def _finish(*plots: Axes) -> None:
    for axes in plots:
        axes.set_ylim(bottom=0)


def _origin(measured: int, wanted: int) -> str:
    """Say on how many cores the times were measured, and if that is not what is simulated."""
    of = f"These are the times of a replica of {measured} core{'s' * (measured > 1)}"
    return f"{of}: {wanted} were not measured." if measured != wanted else f"{of}."


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "answered": len(outcome.latencies_s),
        "refused": outcome.refused,
        "lost": outcome.lost,
        "p50_ms": outcome.quantile_s(0.50) * 1e3,
        "p99_ms": outcome.quantile_s(0.99) * 1e3,
        "pods": outcome.pods,
    }


def _row(what: str, outcome: Outcome) -> tuple[str, ...]:
    return (
        what,
        f"{outcome.quantile_s(0.50) * 1e3:.1f}",
        f"{outcome.quantile_s(0.99) * 1e3:.1f}",
        f"{outcome.refused / outcome.sent:.2%}",
        f"{outcome.lost / outcome.sent:.2%}",
    )


def _days(wanted: Wanted, found: Found) -> str:
    rows = [
        (
            name,
            f"{day.most_pods}",
            f"{day.pod_hours * wanted.cores:,.0f}",
            f"{day.p99_ms:.1f}",
            f"{day.broken_s / 60:.0f}",
            f"{day.failed_share:.4%}",
            f"{found.costs[name]:.3f}",
        )
        for name, day in found.days.items()
    ]
    headings = (
        *("a day, by autoscaler", "most pods", "core-hours", "p99 ms", "minutes broken", "failed"),
        f"cost of 10⁶ texts at {wanted.price:g} per core-hour",
    )
    return _table(headings, rows)


def _troubles(name: str, day: Day) -> str:
    if not day.troubles:
        return f"**{name}**: nothing in a day."
    worst = sorted(day.troubles, key=lambda each: (-each.failed, -each.seconds))[:_MOST_TROUBLES]
    rows = [
        (
            f"{int(each.at_s // 3600):02}:{int(each.at_s % 3600 // 60):02}",
            each.cause,
            f"{each.seconds}",
            f"{each.worst_p99_ms:.0f}",
            f"{each.failed:,.0f}",
        )
        for each in sorted(worst, key=lambda each: each.at_s)
    ]
    count = f"**{name}**: {len(day.troubles)} times; the worst:"
    return f"{count}\n\n{_table(('at', 'cause', 'seconds', 'p99 ms', 'failed'), rows)}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
