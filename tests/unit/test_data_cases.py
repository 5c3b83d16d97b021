"""Files that people bring, one row each: `tests/data_cases/cases.toml`."""

import csv
import gzip
import io
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidInput, ValenceError
from app.tables import containers
from tests.deferred import deferred

with deferred():
    from training.data.dataset import Source

FOLDER = Path(__file__).parents[1] / "data_cases"
CASES = tomllib.loads((FOLDER / "cases.toml").read_text(encoding="utf-8"))["case"]
READ = [case for case in CASES if "refused" not in case]
REFUSED = [case for case in CASES if "refused" in case]


def source(case: dict[str, Any], **more: Any) -> Source:
    """The file of a case, with its options."""
    if "needs" in case:
        pytest.importorskip(case["needs"])
    options = dict(case.get("options", {}))
    if "drop_labels" in options:
        options["drop_labels"] = tuple(options["drop_labels"])
    return Source(str(FOLDER / case["file"]), **options, **more)


def name(case: dict[str, Any]) -> str:
    return f"{case['file']}: {case['rule']}"


@pytest.mark.parametrize("case", READ, ids=name)
def test_file_is_read(case: dict[str, Any]) -> None:
    """Every row of a file is read with its label, or counted by the reason why not."""
    corpus = source(case).read("train")
    assert list(corpus.counts().items()) == list(case["counts"].items())
    assert corpus.left_out == case.get("left_out", {})
    assert len(corpus) + sum(corpus.left_out.values()) == case["rows"]
    assert any(case.get("holds", "") in text for text in corpus.texts())


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_file_is_refused(case: dict[str, Any]) -> None:
    """A file that breaks a rule gets a sentence that names it, and repeats no cell."""
    with pytest.raises(ValenceError) as caught:
        source(case).read("train")
    message = str(caught.value)
    assert re.search(".*".join(map(re.escape, case["refused"])), message, re.DOTALL), message
    for words in ("on day", "I hate", "never said", "stale", "Terrible", "不新鲜"):
        assert words not in message


@pytest.mark.parametrize("case", [case for case in READ if case.get("left_out")], ids=name)
def test_bad_rows_are_written_aside(case: dict[str, Any], tmp_path: Path) -> None:
    """Skipped rows stand in the file that was named, with row, line and rule."""
    aside = tmp_path / "bad.csv"
    source(case, bad_rows_file=str(aside)).read("train")
    with aside.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == case["left_out"].get("bad_rows", 0)
    assert all(row["rule"] and int(row["row"]) >= 2 for row in written)
    assert list(tmp_path.iterdir()) == [aside]


def test_every_file_has_a_case() -> None:
    """No file lies in the folder without a row in the table."""
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert files - {"cases.toml"} == {case["file"] for case in CASES} | {
        "copies/conflicts_only.csv"
    }


def test_standard_input_is_read_again_by_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is a file like the others, packed or not, however often its texts are needed."""
    content = gzip.compress(b"text,label\nfine soup,1\nstale bread,0\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    containers._spool_standard_input.cache_clear()
    corpus = Source("-").read("train")
    assert corpus.texts() == corpus.texts() == ["fine soup", "stale bread"]
    assert corpus.name == "standard input train"
    containers._spool_standard_input.cache_clear()


@pytest.mark.parametrize("name", ["data.csv", "data", ".", "linked.csv"])
def test_nothing_else_is_replaced(tmp_path: Path, name: str) -> None:
    """The file of bad rows replaces neither the data nor anything else that is there."""
    data, folder = tmp_path / "data.csv", tmp_path / "data"
    data.write_text("text,label\nfine soup,1\nstale bread,0\n")
    folder.mkdir()
    (tmp_path / "linked.csv").symlink_to(data)
    with pytest.raises(InvalidInput, match="must be a new file, or one of an earlier call"):
        Source(str(data), skip_bad_rows=True, bad_rows_file=str(tmp_path / name)).read("train")
    assert data.read_text().startswith("text,label\n")
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_bad_rows_is_replaced(tmp_path: Path) -> None:
    """The same call may be made again."""
    aside = tmp_path / "bad.csv"
    for _ in range(2):
        source = Source(
            str(FOLDER / "texts/empty.csv"), skip_bad_rows=True, bad_rows_file=str(aside)
        )
        source.read("train")
        assert aside.read_text().count("\n") == 3
