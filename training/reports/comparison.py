"""A comparison of several models on the same texts: table and picture."""

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
from training.support.files import atomic_folder

_RECORD: Final = "comparison.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a comparison.

    Attributes:
        name: Name of the model.
        metrics: From `training.reports.scores.measure`; must have `accuracy` and `macro_f1`.
        intervals: 95 % intervals of `accuracy` and `macro_f1`.
        seconds: Training time, where known.
        claimed: The lowest and the highest accuracy published for it.
        note: A remark.
    """

    name: str
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    seconds: float | None = None
    claimed: Interval | None = None
    note: str = ""

    def difference(self) -> float | None:
        """Accuracy minus the claim; 0 within the claimed range, None without a claim."""
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
        """Score probabilities, float (texts, classes), against true classes, int (texts,)."""
        return cls(
            name,
            measure(probabilities, targets, labels),
            bootstrap(confusion_matrix(targets, probabilities)),
            seconds=seconds,
            note=note,
        )


def rank(entries: Sequence[Entry], by: str = "accuracy") -> list[Entry]:
    """Sort by a metric, best first; ties go to the lower log-loss."""
    return sorted(
        entries,
        key=lambda entry: (-entry.metrics[by], entry.metrics.get("log_loss", 0), entry.name),
    )


def make_table(title: str, entries: Sequence[Entry], by: str = "accuracy") -> Table:
    """Make the table for a terminal, best first. With claims there is no room for notes."""
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
    """Write `comparison.json`, `comparison.md` and `comparison.png`, sorted by a metric.

    The folder is replaced atomically when it holds an earlier comparison.

    Args:
        folder: The folder to write.
        title: Title of the table.
        entries: The models, at least one.
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
    with atomic_folder(folder, replaces=_RECORD) as aside:
        (aside / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (aside / "comparison.md").write_text(f"{title}\n\n{markdown}", encoding="utf-8")
        picture = draw_comparison(bars, by.replace("_", " ").capitalize(), claims)
        (aside / "comparison.png").write_bytes(picture.png)


def list_heads(entries: Sequence[Entry]) -> list[str]:
    """Return the column heads; with claims there is no room for calibration.

    ± is half of the 95 % interval of the accuracy, in percentage points.
    """
    if any(entry.claimed for entry in entries):
        return ["Model", "Claimed", "Accuracy", "±", "Difference", "Seconds", "Note"]
    return ["Model", "Accuracy", "±", "Macro-F1", "Log-loss", "ECE", "Seconds", "Note"]


def _show_claim(claimed: Interval | None) -> str:
    """Format a claim in percent, without trailing zeros."""
    ends = [f"{100 * end:.4g}" for end in sorted({*(claimed or ())})]
    return f"{' to '.join(ends)}%" if ends else ""


def list_cells(entry: Entry, heads: Sequence[str]) -> list[str]:
    """Return the cell of an entry for each of `heads`."""

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
