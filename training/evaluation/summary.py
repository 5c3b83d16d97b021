"""Summary: what `evaluate` found, on a terminal."""

from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.evaluation.evaluate import Evaluation
from training.reports.comparison import Entry, make_table
from training.reports.report import FIGURES


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures to stdout, a column for each engine, with what they mean."""
    console = Console(highlight=False)
    split = evaluation.split
    texts = split.get("of", evaluation.texts)
    intervals = split.get("intervals", {})
    # What brackets of a file's name hold is no style.
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
        console.print(make_table("Beside other models", short))
        for entry in entries:
            if entry.note:
                console.print(f"{entry.name}: {entry.note}.", soft_wrap=True)
    if against := split.get("against"):
        console.print(
            f"Beside {against['version']}, {against['its_accuracy']:.4f}: "
            f"{against['only_this_right']:,} texts that only this version gets right, "
            f"{against['only_other_right']:,} that only the other does; "
            f"McNemar's p {against['mcnemar_p_value']:.2g}.",
            soft_wrap=True,
        )
    if evaluation.recorded:
        console.print(
            "Test texts are read once: these figures stand in the version already. "
            "--again reads the texts again.",
            soft_wrap=True,
        )
    elif evaluation.own:
        console.print("Recorded in the version's manifest and report.", soft_wrap=True)
