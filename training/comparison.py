"""Comparison: several models on the same texts, in one table and one picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.pictures import draw_comparison
from training.run import written_aside
from training.scores import FloatArray, IntArray, Interval, bootstrap, confusion_matrix, measure

_RECORD: Final = "comparison.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a comparison.

    Attributes:
        name: Of the model.
        metrics: Of `training.scores.measure`; `accuracy` and `macro_f1` must be there.
        intervals: 95 % of `accuracy` and `macro_f1`.
        seconds: That it took to train, where known.
        note: What else there is to say, such as what a paper claims.
    """

    name: str
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    seconds: float | None = None
    note: str = ""

    @classmethod
    def score(
        cls,
        name: str,
        probabilities: FloatArray,
        targets: IntArray,
        labels: Sequence[str],
        *,
        seconds: float | None = None,
        note: str = "",
    ) -> Self:
        """An entry from answers: (texts, classes) probabilities, int (texts,) true classes."""
        return cls(
            name,
            measure(probabilities, targets, labels),
            bootstrap(confusion_matrix(targets, probabilities)),
            seconds,
            note,
        )


def rank(entries: Sequence[Entry], by: str = "accuracy") -> list[Entry]:
    """The best first; of equals, the one with the lower log-loss."""
    return sorted(
        entries,
        key=lambda entry: (-entry.metrics[by], entry.metrics.get("log_loss", 0), entry.name),
    )


def make_table(title: str, entries: Sequence[Entry], by: str = "accuracy") -> Table:
    """The table for a terminal, the best first."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(HEADS):
        number = 0 < place < len(HEADS) - 1
        table.add_column(
            head,
            justify="right" if number else "left",
            no_wrap=number,
            min_width=0 if place else 20,
        )
    for entry in rank(entries, by):
        table.add_row(*cells(entry))
    return table


def write_comparison(
    folder: Path, title: str, entries: Sequence[Entry], by: str = "accuracy"
) -> None:
    """Write `comparison.json`, `comparison.md` and `comparison.png`, sorted by a figure.

    The folder appears complete, in the place of an earlier comparison.

    Args:
        folder: Where to.
        title: Of the table: which texts all of them answered.
        entries: At least one.
        by: `accuracy` or `macro_f1`.
    """
    ranked = rank(entries, by)
    bars = [(entry.name, entry.metrics[by], entry.intervals[by]) for entry in ranked]
    record = {"title": title, "models": [asdict(entry) for entry in ranked]}
    lines = [HEADS, ["---", *["---:"] * (len(HEADS) - 2), "---"]]
    lines += [[cell.replace("|", r"\|") for cell in cells(entry)] for entry in ranked]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    with written_aside(folder, replaces=_RECORD) as aside:
        (aside / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (aside / "comparison.md").write_text(f"{title}\n\n{markdown}", encoding="utf-8")
        picture = draw_comparison(bars, by.replace("_", " ").capitalize())
        (aside / "comparison.png").write_bytes(picture.png)


HEADS: Final = ["Model", "Accuracy", "±", "Macro-F1", "Log-loss", "ECE", "Seconds", "Note"]
"""± is half of the 95 % interval of the accuracy, in points."""


def cells(entry: Entry) -> list[str]:
    """What stands below each of `HEADS`."""

    def show(name: str) -> str:
        return f"{entry.metrics[name]:.4f}" if name in entry.metrics else ""

    low, high = entry.intervals["accuracy"]
    return [
        entry.name,
        f"{entry.metrics['accuracy']:.2%}",
        f"{50 * (high - low):.2f}",
        *(show("macro_f1"), show("log_loss"), show("expected_calibration_error")),
        "" if entry.seconds is None else f"{entry.seconds:,.0f}",
        entry.note,
    ]
