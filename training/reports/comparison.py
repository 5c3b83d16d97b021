"""Comparison: several models on the same texts, in one table and one picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.reports.pictures import draw_comparison
from training.reports.scores import Interval, bootstrap, confusion_matrix, measure
from training.support.arrays import FloatArray, IntArray
from training.support.files import written_aside

_RECORD: Final = "comparison.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a comparison.

    Attributes:
        name: Of the model.
        metrics: Of `training.reports.scores.measure`; `accuracy` and `macro_f1` must be there.
        intervals: 95 % of `accuracy` and `macro_f1`.
        seconds: That it took to train, where known.
        claimed: The lowest and the highest accuracy that somebody else published for it.
        note: What else there is to say.
    """

    name: str
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    seconds: float | None = None
    claimed: Interval | None = None
    note: str = ""

    def difference(self) -> float | None:
        """How far the accuracy is above or below what was claimed; 0 between the two ends."""
        if self.claimed is None:
            return None
        low, high = self.claimed
        accuracy = self.metrics["accuracy"]
        return max(accuracy - high, 0.0) + min(accuracy - low, 0.0)

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
            seconds=seconds,
            note=note,
        )


def rank(entries: Sequence[Entry], by: str = "accuracy") -> list[Entry]:
    """The best first; of equals, the one with the lower log-loss."""
    return sorted(
        entries,
        key=lambda entry: (-entry.metrics[by], entry.metrics.get("log_loss", 0), entry.name),
    )


def make_table(title: str, entries: Sequence[Entry], by: str = "accuracy") -> Table:
    """The table for a terminal, the best first; beside claims it has no room for notes."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    heads = list_heads(entries)
    if "Claimed" in heads:
        heads.remove("Note")
    for place, head in enumerate(heads):
        number = place > 0 and head != "Note"
        table.add_column(
            head,
            justify="right" if number else "left",
            no_wrap=number,
            min_width=0 if place else 20,
        )
    for entry in rank(entries, by):
        table.add_row(*list_cells(entry, heads))
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
    claims = [entry.claimed if by == "accuracy" else None for entry in ranked]
    record = {"title": title, "models": [asdict(entry) for entry in ranked]}
    heads = list_heads(entries)
    lines = [heads, ["---", *["---:"] * (len(heads) - 2), "---"]]
    lines += [[cell.replace("|", r"\|") for cell in list_cells(entry, heads)] for entry in ranked]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    with written_aside(folder, replaces=_RECORD) as aside:
        (aside / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (aside / "comparison.md").write_text(f"{title}\n\n{markdown}", encoding="utf-8")
        picture = draw_comparison(bars, by.replace("_", " ").capitalize(), claims)
        (aside / "comparison.png").write_bytes(picture.png)


def list_heads(entries: Sequence[Entry]) -> list[str]:
    """The columns of a table; beside claims there is no room for how sure a model is.

    ± is half of the 95 % interval of the accuracy, in points.
    """
    if any(entry.claimed for entry in entries):
        return ["Model", "Claimed", "Accuracy", "±", "Difference", "Seconds", "Note"]
    return ["Model", "Accuracy", "±", "Macro-F1", "Log-loss", "ECE", "Seconds", "Note"]


def _show_claim(claimed: Interval | None) -> str:
    """In percent, with no more digits than it has."""
    ends = [f"{100 * end:.4g}" for end in sorted({*(claimed or ())})]
    return f"{' to '.join(ends)}%" if ends else ""


def list_cells(entry: Entry, heads: Sequence[str]) -> list[str]:
    """What stands below each of `heads`."""

    def show(name: str) -> str:
        return f"{entry.metrics[name]:.4f}" if name in entry.metrics else ""

    low, high = entry.intervals["accuracy"]
    difference = entry.difference()
    cells = {
        "Model": entry.name,
        "Claimed": _show_claim(entry.claimed),
        "Accuracy": f"{entry.metrics['accuracy']:.2%}",
        "±": f"{50 * (high - low):.2f}",  # half of the 95 % interval, in points
        "Difference": "" if difference is None else f"{100 * difference:+.2f}",  # points
        "Macro-F1": show("macro_f1"),
        "Log-loss": show("log_loss"),
        "ECE": show("expected_calibration_error"),
        "Seconds": "" if entry.seconds is None else f"{entry.seconds:,.0f}",
        "Note": entry.note,
    }
    return [cells[head] for head in heads]
