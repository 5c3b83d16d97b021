"""The documents give the figures that the bundled versions carry."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deferred import deferred

with deferred():
    from training.quality.model_tables import DOCUMENTS, read_versions, write_tables

ROOT = Path(__file__).parents[2]
_MODEL = re.compile(r"`([\w-]+)`")
_NUMBER = re.compile(r"\d+(?:\.(\d+))?")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def table_cells(document: str) -> Iterator[tuple[str, str, str]]:
    """Yield the model of each row of each table, the head of each further column, and the cell."""
    heads: list[str] = []
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if not cells:
            heads = []
        elif not heads:
            heads = cells
        elif model := _MODEL.match(cells[0]):
            yield from ((model[1], head, cell) for head, cell in zip(heads, cells, strict=True))


def test_tables_are_those_of_the_reports() -> None:
    """The marked tables are what `make figures` writes."""
    versions = read_versions(ROOT / "models")
    assert [name for name in DOCUMENTS if write_tables(read(name), versions) != read(name)] == []


@pytest.mark.parametrize("name", ["README.md", "docs/models.md"])
def test_other_tables_are_those_of_the_manifests(name: str) -> None:
    """A column of accuracies, calibration errors or a short set has the figures of the versions."""
    figures = {}
    for manifest, report in read_versions(ROOT / "models"):
        own = manifest.metrics["test"]["onnx"]
        figures[manifest.name, "accuracy"] = 100 * own["accuracy"]
        figures[manifest.name, "calibration error"] = own["expected_calibration_error"]
        for texts, score in report.short_texts.get("sets", {}).items():
            figures[manifest.name, texts] = 100 * score["accuracy"]
    checked = 0
    for model, head, cell in table_cells(read(name)):
        number = _NUMBER.match(cell)
        if number and (model, head) in figures:
            places = len(number[1] or "")
            assert number[0] == f"{figures[model, head]:.{places}f}", (model, head)
            checked += 1
    assert checked >= 6
