from types import SimpleNamespace
from typing import Any

import pytest

from tests.deferred import deferred
from tests.figures import figured_report

with deferred():
    from training.quality.model_tables import write_tables
    from training.reports.report import Report


def versions() -> list[Any]:
    """A version with figures, and one from before there were any."""
    bare = Report("old 1", ("negative", "positive"))
    return [
        (SimpleNamespace(name="tiny", version=2), figured_report(0.9)),
        (SimpleNamespace(name="old", version=1), bare),
    ]


INTERVALS = ["| ordinary | `tiny` 2 | 75.0 % | 30.0 % to 95.0 % | 0.100 | 25.0 % |"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("summary", ["| `tiny` 2 | 90.00 % | 0.010 | 75.0 % |", "| `old` 1 | | | |"]),
        ("kinds", ["| ordinary | 3 of 4 (1) | |", "| ordinary neutral | 1 of 2 | |"]),
        ("intervals", INTERVALS),
        ("capabilities", ["| negation | 25 % | |"]),
    ],
)
def test_tables(name: str, rows: list[str]) -> None:
    """A block gets the table of its name; what a version does not carry stays empty."""
    block = f"Before\n\n<!-- figures: {name} -->\nold\n<!-- end of figures -->\n\nAfter\n"
    made = write_tables(block, versions())
    assert [line for line in made.splitlines() if line.startswith("|")][2:] == rows
    assert made.startswith("Before\n\n<!-- figures:")
    assert made.endswith("\n\n<!-- end of figures -->\n\nAfter\n")
    assert write_tables(made, versions()) == made


def test_other_documents_stay_as_they_are() -> None:
    """Without a block nothing changes; a block with the name of no table is an error."""
    assert write_tables("| a | 1 |\n", versions()) == "| a | 1 |\n"
    with pytest.raises(KeyError, match="typo"):
        write_tables("<!-- figures: typo -->\n<!-- end of figures -->", versions())
