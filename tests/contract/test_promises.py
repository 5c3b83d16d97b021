"""docs/promises.md names tests that exist, one for every promise."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?!promise|---)(.+?) \| (.+?) \| (.*?)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
ROWS = ROW.findall((ROOT / "docs" / "promises.md").read_text(encoding="utf-8"))


def test_there_are_promises() -> None:
    """The tables are read."""
    assert len(ROWS) > 30


@pytest.mark.parametrize(("promise", "test", "figure"), ROWS)
def test_every_promise_has_its_test(promise: str, test: str, figure: str) -> None:
    """The test of a promise is there, under the name in the table."""
    named = TEST.fullmatch(test)
    assert named is not None, promise
    source = (ROOT / named[1]).read_text(encoding="utf-8")
    name = named[2] or "test_"
    assert re.search(rf"^(async )?def {name}", source, re.MULTILINE), (promise, figure)
