"""The comparison as a Markdown table."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from load_tests.bench.worker_designs.designs import DESIGNS
from load_tests.bench.worker_designs.promises import PROBES, Promises
from load_tests.bench.worker_designs.rounds import SPREAD_OVER, Round

_MIB: Final = 2**20
_FIGURES: Final[Sequence[tuple[str, Callable[[Round], float], str]]] = (
    ("requests/s", lambda one: one.requests_per_s, ",.0f"),
    ("p99, ms", lambda one: one.p99_ms, ".0f"),
    ("failed under this load", lambda one: one.errors, ".0f"),
    ("kill -9: connections of the worker", lambda one: one.kill.held, ".0f"),
    ("kill -9: requests unanswered", lambda one: one.kill.account.unanswered, ".0f"),
    ("kill -9: answered by 503", lambda one: one.kill.account.not_ready, ".0f"),
    ("kill -9: connections refused", lambda one: one.kill.account.refused, ".0f"),
    ("kill -9: until all are ready, s", lambda one: one.kill.seconds, ".1f"),
    ("SIGTERM: requests unanswered", lambda one: one.end.account.unanswered, ".0f"),
    ("SIGTERM: answered by 503", lambda one: one.end.account.not_ready, ".0f"),
    ("SIGTERM: until the end, s", lambda one: one.end.seconds, ".1f"),
    ("start to ready, s", lambda one: one.ready_s, ".1f"),
    ("memory under load, MiB", lambda one: one.resident_bytes / _MIB, ".0f"),
)
_PROMISES: Final[Sequence[tuple[str, Callable[[Promises], str]]]] = (
    ("`/metrics` counts for all workers", lambda one: _word(one.merged_metrics)),
    ("`/readyz` tells that a worker is missing", lambda one: _word(one.ready_of_all)),
    (
        "a worker stopped: new connections answered",
        lambda one: f"{one.answered_beside_stopped} of {PROBES}",
    ),
    (
        "a worker stopped: replaced",
        lambda one: "no" if one.replaced_after_s is None else f"after {one.replaced_after_s:.0f} s",
    ),
)


def make_table(rounds: Mapping[str, Sequence[Round]], promises: Mapping[str, Promises]) -> str:
    """A column for each design, a row for each figure: its median and, in brackets, its range.

    Args:
        rounds: Of each design, by its name, in the order in which the designs took turns.
        promises: What each design was seen to keep; empty where nobody looked.
    """
    designs = [design for design in DESIGNS if design.name in rounds]
    names = [design.name for design in designs]
    rows = [["", *names], ["---"] * (len(names) + 1)]
    for what, figure, form in _FIGURES:
        cells = [summarize([figure(one) for one in rounds[name]], form) for name in names]
        rows.append([what, *cells])
    base = rounds[names[0]]
    ratios = {
        name: [
            one.requests_per_s / other.requests_per_s
            for one, other in zip(rounds[name], base, strict=True)
        ]
        for name in names
    }
    rows.insert(3, [f"over {names[0]}", *(summarize(ratios[name], ".2f") for name in names)])
    for count in SPREAD_OVER:
        cells = [
            summarize([share for one in rounds[name] for share in one.shares[count]], ".0%")
            for name in names
        ]
        rows.append([f"largest share of {count} connections", *cells])
    for what, tell in _PROMISES if promises else ():
        rows.append([what, *(tell(promises[name]) for name in names)])
    rows.append(["lines of its own code", *(str(design.count_lines()) for design in designs)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def summarize(values: Sequence[float], form: str) -> str:
    """The median and, where they differ, the range: `12 (9 to 15)`."""
    median, least, most = (
        format(value, form) for value in (statistics.median(values), min(values), max(values))
    )
    return median if least == most else f"{median} ({least} to {most})"


def _word(kept: bool) -> str:
    return "yes" if kept else "no"
