"""Print the results of `evaluate` on a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.data.accounting import name_reason, print_rows
from training.evaluation.evaluate import Evaluation
from training.reports.comparison import Entry, make_table
from training.reports.quality import CAPABILITY_HEADS, capability_rows, list_scores
from training.reports.report import FIGURES

_SHORT_HEADS: Final = ("Texts", "Right", "95 %", "ECE", "Wrong\n> 0.80", "Neutral\n≤ 0.80")
"""What 80 characters have room for; the page has more."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table of metrics to stdout, one column per engine, with comparisons below it."""
    console = Console(highlight=False)
    split = evaluation.split
    texts = split.get("of", evaluation.texts)
    intervals = split.get("intervals", {})
    # Square brackets in a file name are not rich markup.
    table = Table(title=escape(f"{evaluation.version}, {texts}"), title_justify="left")
    table.add_column()
    for engine in evaluation.metrics:
        table.add_column(engine, justify="right")
    if intervals:
        table.add_column(f"95 % on {split['engine']}")
    for name, title in FIGURES.items():
        scores = [by_name.get(name) for by_name in evaluation.metrics.values()]
        cells = ["" if score is None else f"{score:.4f}" for score in scores]
        low_high = [f"{end:.4f}" for end in intervals.get(name, ())]
        table.add_row(title, *cells, *([" to ".join(low_high)] if intervals else []))
    console.print(table)
    if beside := split.get("beside"):
        entries = [Entry(**model) for model in beside]
        short = [replace(entry, note="") for entry in entries]  # notes are too long for a column
        console.print(make_table("Compared with other models", short))
        for entry in entries:
            if entry.note:
                console.print(f"{entry.name}: {entry.note}.", soft_wrap=True)
    if against := split.get("against"):
        console.print(
            f"Compared with {against['version']}, {against['its_accuracy']:.4f}: "
            f"{against['only_this_right']:,} texts only this version gets right, "
            f"{against['only_other_right']:,} only the other; "
            f"McNemar's test p {against['mcnemar_p_value']:.2g}.",
            soft_wrap=True,
        )
    if rows := _narrow_rows(evaluation.quality.short_texts):
        console.print(_make_table("Short texts", _SHORT_HEADS, rows))
    if capabilities := capability_rows(evaluation.quality.capabilities):
        console.print(_make_table("Capabilities", CAPABILITY_HEADS, capabilities))
    if (sentence := _tell_learned(evaluation)) is not None:
        console.print(sentence, markup=False, soft_wrap=True)
    if evaluation.recorded:
        console.print(
            "The test split is scored once; these metrics were recorded earlier. "
            "--again scores it again.",
            soft_wrap=True,
        )
    elif evaluation.own:
        console.print("Recorded in the version's manifest and report.", soft_wrap=True)
    print_rows(evaluation.rows, {"those scored": evaluation.without_tokens})


def _narrow_rows(short_texts: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of one row per set and per kind; see `_SHORT_HEADS`."""
    rows = []
    for name, score in list_scores(short_texts):
        cells = [""] * 4
        if score["n"]:
            cells = [
                f"{score['right']} of {score['n']}",
                f"{score['low']:.0%} to {score['high']:.0%}",
                f"{score['calibration_error']:.3f}",
                str(score["wrong_and_sure"]),
            ]
        there = score["neutral"]
        rows.append([name, *cells, f"{score['neutral_unsure']} of {there}" if there else ""])
    return rows


def _make_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table of names and numbers; names of files and kinds are not rich markup."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", no_wrap=True)
    for name, *numbers in rows:
        table.add_row(escape(name), *numbers)
    return table


def _tell_learned(evaluation: Evaluation) -> str | None:
    """A sentence about scored texts that the version may have learned from; None if none are."""
    if evaluation.learned is None:
        return (
            f"{evaluation.version} is of a release that did not list the texts of a training, and "
            "these texts are not its data as a whole; so any of them that it has learned from are "
            "among those scored."
        )
    known = {use: count for use, count in evaluation.learned.items() if count}
    if not known:
        return None
    told = ", ".join(f"{count:,} {name_reason(use)}" for use, count in known.items())
    if evaluation.rows.dropped.keys() & known.keys():
        return f"Left out: {told}; --include-learned scores them too."
    return f"The scored texts include {told}: these metrics are not those of new texts."
