"""Tables of the bundled models in the documents, made from the versions' manifests and reports.

A document has a block `<!-- figures: NAME -->` ... `<!-- end of figures -->` for each table, and
`python -m training.quality.model_tables` makes them anew, so that no figure is typed by hand:

    summary       a row per model: its test texts, and all texts of each short set
    kinds         a row per set and kind of short texts, a column per model
    capabilities  a row per capability, a column per model
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from app.artifact import REPORT, Manifest, read_manifest
from training.quality.figures import test_figures
from training.reports.quality import list_scores, make_markdown
from training.reports.report import Report

DOCUMENTS: Final = ("README.md", "docs/models.md", "models/README.md")
"""Documents that may have such blocks."""
_BLOCK: Final = re.compile(
    r"(?<=<!-- figures: )(\w+) -->\n(.*?)(?=<!-- end of figures -->)", re.DOTALL
)

Version = tuple[Manifest, Report]


def read_versions(models: Path) -> list[Version]:
    """Return the newest version of each model, the most accurate on its test texts first.

    Raises:
        UnusableVersion: A manifest is missing or malformed.
        DataError: A report is.
    """
    numbers: dict[Path, list[int]] = {}
    for path in models.glob("*/*"):
        if path.name.isdecimal():
            numbers.setdefault(path.parent, []).append(int(path.name))
    newest = [folder / str(max(found)) for folder, found in sorted(numbers.items())]
    versions = [(read_manifest(folder), Report.read(folder / REPORT)) for folder in newest]
    return sorted(versions, key=lambda version: -test_figures(version[1]).get("accuracy", 0.0))


def write_tables(document: str, versions: Sequence[Version]) -> str:
    """Return a document with the tables of its blocks made anew.

    Raises:
        KeyError: A block has the name of no table.
    """
    return _BLOCK.sub(
        lambda block: f"{block[1]} -->\n\n{_TABLES[block[1]](versions)}\n\n", document
    )


def _summarize(versions: Sequence[Version]) -> str:
    """Make a row per model, with a column per set of short texts."""
    columns = _sets(versions)
    sets = _union(columns)
    rows = []
    for scores, (_, report) in zip(columns, versions, strict=True):
        test = test_figures(report)
        own = ["", ""]
        if test:
            own = [_percent(test["accuracy"], 2), f"{test['calibration_error']:.3f}"]
        rows.append([*own, *(_share(scores.get(name)) for name in sets)])
    heads = ["model", "own test texts", "calibration error", *sets]
    return make_markdown(
        heads, [[head, *row] for head, row in zip(_heads(versions), rows, strict=True)]
    )


def _list_kinds(versions: Sequence[Version]) -> str:
    """Make a row per set and kind, a column per model.

    A cell has how many are right of how many, and in brackets how many are wrong above 0.80; of
    neutral texts alone, how many get no opinion above 0.80.
    """
    columns = [dict(list_scores(report.short_texts)) for _, report in versions]
    rows = [[name, *(_right(each.get(name)) for each in columns)] for name in _union(columns)]
    return make_markdown(["texts", *_heads(versions)], rows)


def _list_intervals(versions: Sequence[Version]) -> str:
    """Make a row per set and version: accuracy with its interval, and what confidence is worth."""
    columns = _sets(versions)
    rows = []
    for name in sorted(_union(columns)):
        for head, scores in zip(_heads(versions), columns, strict=True):
            score = scores.get(name)
            if score and score["n"]:
                low, high = (_percent(score[end], 1) for end in ("low", "high"))
                error, sure = score["calibration_error"], score["wrong_and_sure_share"]
                cells = [_share(score), f"{low} to {high}", f"{error:.3f}", _percent(sure, 1)]
                rows.append([name, head, *cells])
    heads = ["texts", "model", "accuracy", "95 % interval", "calibration error", "wrong above 0.80"]
    return make_markdown(heads, rows)


def _list_capabilities(versions: Sequence[Version]) -> str:
    """Make a row per capability, a column per model: the failure rate."""
    columns = [report.capabilities.get("capabilities", {}) for _, report in versions]
    rows = [
        [
            name,
            *(_percent(each[name]["failure_rate"], 0) if name in each else "" for each in columns),
        ]
        for name in _union(columns)
    ]
    return make_markdown(["failure rate", *_heads(versions)], rows)


_TABLES: Final[Mapping[str, Callable[[Sequence[Version]], str]]] = {
    "summary": _summarize,
    "kinds": _list_kinds,
    "intervals": _list_intervals,
    "capabilities": _list_capabilities,
}


def _heads(versions: Sequence[Version]) -> list[str]:
    return [f"`{manifest.name}` {manifest.version}" for manifest, _ in versions]


def _sets(versions: Sequence[Version]) -> list[Mapping[str, Any]]:
    """Return the scores of each version, by set of short texts."""
    return [report.short_texts.get("sets", {}) for _, report in versions]


def _union(names: Any) -> list[str]:
    """Return all keys of some mappings, in the order in which they first occur."""
    return list(dict.fromkeys(name for each in names for name in each))


def _share(score: Mapping[str, Any] | None) -> str:
    return _percent(score["accuracy"], 1) if score and score["n"] else ""


def _failures(found: Mapping[str, Any] | None) -> str:
    return _percent(found["failure_rate"], 0) if found else ""


def _percent(share: float, places: int) -> str:
    return f"{100 * share:.{places}f} %"


def _right(score: Mapping[str, Any] | None) -> str:
    if not score:
        return ""
    if score["n"]:
        return f"{score['right']} of {score['n']} ({score['wrong_and_sure']})"
    return f"{score['neutral_unsure']} of {score['neutral']}"


def main() -> None:
    """Write the tables of all documents of this repository anew."""
    root = Path(__file__).parents[2]
    versions = read_versions(root / "models")
    for name in DOCUMENTS:
        path = root / name
        path.write_text(write_tables(path.read_text("utf-8"), versions), encoding="utf-8")


if __name__ == "__main__":
    main()
