"""`valence score`, with the fake model that counts good and bad words."""

import csv
import gzip
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from app import score as composition
from app.__main__ import main
from app.scoring.local import LocalScorer, Recipe
from app.scoring.verdicts import choose_label
from app.text.padding import Int32Array
from tests.fakes import THE, FakeEngine
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("logging_state")

TABLE = """id,text,n
1,a good film,1
2,"the bad, bad film",2
3,"good
good",3
"""
ADDED = ["label", "confidence", "probability_negative", "probability_positive", "error"]

Output = pytest.CaptureFixture[str]
Score = Callable[..., int]


class InterruptedEngine(FakeEngine):
    """Is interrupted, as by Ctrl+C, at a text that has "the" twice."""

    def run(self, ids: Int32Array, lengths: Int32Array) -> Any:
        if (ids == THE).sum(axis=1).max() > 1:
            raise KeyboardInterrupt
        return super().run(ids, lengths)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """The engines to load next; fakes when there are none left."""
    found: list[FakeEngine] = []
    monkeypatch.setattr(
        composition, "load_engine", lambda _folder, options: found.pop() if found else FakeEngine()
    )
    return found


@pytest.fixture
def score(fake_models: Path, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch) -> Score:
    """Call `valence score` with these arguments; returns the exit status."""
    monkeypatch.delenv("VALENCE_DATA", raising=False)

    def call(*arguments: object) -> int:
        fixed = ("score", "--models-dir", fake_models, "--workers", 1, "--threads", 1)
        try:
            return main([str(argument) for argument in (*fixed, *arguments)])
        except SystemExit as end:
            return int(end.code or 0)

    return call


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, delimiter: str = ",") -> list[list[str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def left(folder: Path) -> list[str]:
    """The hidden files in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.csv.gz"])
def test_every_row_and_column_is_kept(score: Score, tmp_path: Path, name: str) -> None:
    """Rows stay in order with all columns; label, confidence, probabilities and error are added."""
    assert score(write(tmp_path / "in.csv", TABLE), tmp_path / name) == 0
    rows = read(tmp_path / name, "\t" if "tsv" in name else ",")
    assert rows[0] == ["id", "text", "n", *ADDED]
    assert [row[:3] for row in rows[1:]] == list(csv.reader(io.StringIO(TABLE)))[1:]
    assert [row[3] for row in rows[1:]] == ["positive", "negative", "positive"]
    for _, _, _, _, confidence, negative, positive, error in rows[1:]:
        assert float(confidence) == max(float(negative), float(positive))
        assert abs(float(negative) + float(positive) - 1) < 1e-6
        assert error == ""
    assert left(tmp_path) == []


def test_verdicts_are_those_of_predict(score: Score, tmp_path: Path, fake_models: Path) -> None:
    """The columns hold what the model says of the text, to eight decimals."""
    score(write(tmp_path / "in.csv", "text\na good film\n"), tmp_path / "out.csv")
    positive = 1 / (1 + 2.718281828459045**-1)
    assert float(read(tmp_path / "out.csv")[1][4]) == pytest.approx(positive, abs=1e-7)


def test_a_text_that_cannot_be_judged(score: Score, tmp_path: Path) -> None:
    """A text of unknown words alone gets even odds, as in the service."""
    score(write(tmp_path / "in.csv", "text\ngood film\nnie wieder\n"), tmp_path / "out.csv")
    judged, unknown = read(tmp_path / "out.csv")[1:]
    assert judged[1] == "positive"
    assert unknown[1:] == ["negative", *["0.50000000"] * 3, ""]


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        (("negative", "neutral", "positive"), [0.2, 0.5, 0.3], "neutral"),
        (("negative", "neutral", "positive"), [1 / 3] * 3, "neutral"),
        (("negative", "neutral", "positive"), [0.4, 0.2, 0.4], "negative"),
        (("bad", "good"), [0.5, 0.5], "bad"),
    ],
)
def test_label_of_even_odds(
    labels: Sequence[str], probabilities: Sequence[float], expected: str
) -> None:
    """The label is the most probable one; even odds are neutral, where there is such a label."""
    assert choose_label(labels, probabilities) == expected


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "the text must have a character other than white space"),
        ("a\0b", "the text must not contain NUL"),
        ("good " * 30_000, "the text must have at most 100000 characters"),
        ("poison", "the model failed on this text"),
        ("broken", "the model failed on this text"),
    ],
)
def test_a_text_fails_alone(
    score: Score, tmp_path: Path, cell: str, message: str, capsys: Output
) -> None:
    """A row whose text is not valid keeps its place, with the reason; the exit status tells."""
    table = write(tmp_path / "in.csv", f"text,n\ngood,1\n{cell},2\nbad,3\n")
    assert score(table, tmp_path / "out.csv") == 1
    rows = read(tmp_path / "out.csv")[1:]
    assert [row[2] for row in rows] == ["positive", "", "negative"]
    assert rows[1][-1].startswith(message)
    assert rows[1][:2] == [cell, "2"]
    assert "1 of these have no verdict" in capsys.readouterr().err
    assert score(table, tmp_path / "out.csv", "--allow-failures") == 0


def test_each_row_of_a_long_table_has_its_own_verdict(
    score: Score, engines: list[FakeEngine], tmp_path: Path
) -> None:
    """Texts are sorted by length and scored in pieces, 16 at once; each row gets its own answer."""
    engine = FakeEngine()
    engines.append(engine)
    words = ["poison" if n % 97 == 0 else ("bad", "good")[n % 3 == 0] for n in range(2100)]
    rows = [f"{n},{word}{' film' * (n * 7 % 50)}" for n, word in enumerate(words)]
    table = write(tmp_path / "in.csv", "\n".join(["n,text", *rows, ""]))
    assert score(table, tmp_path / "o.csv") == 1
    verdicts = {"poison": "", "good": "positive", "bad": "negative"}
    found = read(tmp_path / "o.csv")[1:]
    assert [(row[0], row[2]) for row in found] == [
        (str(n), verdicts[word]) for n, word in enumerate(words)
    ]
    assert [bool(row[-1]) for row in found] == [word == "poison" for word in words]
    assert max(map(len, engine.batches)) == 16


@pytest.mark.parametrize("threads", [1, 4, 32])
def test_every_thread_has_work(fake_models: Path, threads: int) -> None:
    """The chunks that are in flight at once, even of few texts, keep every thread busy."""
    engine = FakeEngine()
    recipe = Recipe((fake_models / "lstm" / "1",), lambda _folder: engine, 16, 4096)
    scorer = LocalScorer(recipe, processes=1, threads=threads)
    engine.forget()
    engine.gate.clear()
    chunks = [scorer.submit(["good film"] * 100) for _ in range(scorer.depth)]
    wait_until(lambda: len(engine.batches) == threads)
    engine.gate.set()
    assert all(len(chunk.result().probabilities) == 100 for chunk in chunks)
    scorer.close()


def test_malformed_rows_are_put_aside(score: Score, tmp_path: Path, capsys: Output) -> None:
    """Every row that breaks a rule of the table is in OUT.bad.csv, with its number and the rule."""
    table = write(tmp_path / "in.csv", b"text,n\ngood,1\nbad\nbad,2,3\n\xff,4\nbad,5\n")
    assert score(table, tmp_path / "out.csv") == 1
    assert [row[:2] for row in read(tmp_path / "out.csv")[1:]] == [["good", "1"], ["bad", "5"]]
    bad = read(tmp_path / "out.csv.bad.csv")
    assert bad[0] == ["row", "line", "rule", "raw"]
    assert [row[0] for row in bad[1:]] == ["3", "4", "5"]
    assert ["as many cells" in row[2] for row in bad[1:]] == [True, True, False]
    assert "3 more rows break a rule" in capsys.readouterr().err
    assert score(table, tmp_path / "out.csv", "--allow-failures") == 0


def test_a_file_of_bad_rows_is_never_out_of_date(score: Score, tmp_path: Path) -> None:
    """Without bad rows there is no file of them, and one of an earlier run is emptied."""
    table = write(tmp_path / "in.csv", TABLE)
    assert score(table, tmp_path / "out.csv") == 0
    assert not (tmp_path / "out.csv.bad.csv").exists()
    bad = write(tmp_path / "old.csv", "row,line,rule,raw\n1,2,a,b\n")
    assert score(table, tmp_path / "out.csv", "--bad-rows", bad) == 0
    assert read(bad) == [["row", "line", "rule", "raw"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\ngood,1\n", "Received: label; --prefix"),
        ("text,error,confidence\ngood,1,2\n", "Received: confidence, error; --prefix"),
    ],
)
def test_a_clash_of_names_is_refused(
    score: Score, tmp_path: Path, content: str, words: str, capsys: Output
) -> None:
    """A column with an added name is a wrong call, unless --prefix renames the added ones."""
    table = write(tmp_path / "in.csv", content)
    assert score(table, tmp_path / "out.csv") == 2
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]
    assert score(table, tmp_path / "out.csv", "--prefix", "v_") == 0
    assert read(tmp_path / "out.csv")[0][-5:] == [f"v_{name}" for name in ADDED]


OBJECTS = (
    '{"text": "good",  "n": 1.50, "deep": {"a": [1, 2]}, "big": 123456789012345678901234567890}\n'
    '{"text": "bad \\u00e9\\ud800", "n": null}\n\n'
    '{ "new": true, "text": "bad" }\n'
)


def test_objects_stay_as_they_are(score: Score, tmp_path: Path) -> None:
    """JSON lines keep keys, types and spelling; the added keys come last, with null for none."""
    table = write(tmp_path / "in.jsonl", OBJECTS)
    assert score(table, tmp_path / "out.jsonl") == 1  # UTF-8 has no lone surrogates
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    kept = [line.rstrip("} ") for line in OBJECTS.splitlines() if line]
    assert [line.startswith(start) for line, start in zip(lines, kept, strict=True)] == [True] * 3
    first = json.loads(lines[0])
    assert list(first) == ["text", "n", "deep", "big", *ADDED]
    assert (first["label"], first["error"]) == ("positive", None)


def test_texts_of_objects_are_strings(score: Score, tmp_path: Path) -> None:
    """An object or a list is no text; a missing text is an empty one."""
    table = write(tmp_path / "in.jsonl", '{"text": "good"}\n{"text": ["good"]}\n{"n": 1}\n')
    assert score(table, tmp_path / "out.jsonl") == 1
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == ["positive", None, None]
    assert rows[1]["error"] == "the text must be a string"
    assert rows[2]["error"].startswith("the text must have a character")


def test_late_keys_are_not_lost(score: Score, tmp_path: Path) -> None:
    """A key beyond those of the first objects goes to JSON lines; for CSV its row is a bad row."""
    objects = ['{"text": "good"}'] * 300
    objects += ['{"text": "bad", "late": 1}', '{"text": "bad", "label": 2}']
    table = write(tmp_path / "in.jsonl", "\n".join(objects))
    assert score(table, tmp_path / "out.csv") == 1
    assert [row[0] for row in read(tmp_path / "out.csv.bad.csv")[1:]] == ["301", "302"]
    assert score(table, tmp_path / "out.jsonl") == 1
    assert '"late": 1, "label": "negative"' in (tmp_path / "out.jsonl").read_text()
    assert [row[0] for row in read(tmp_path / "out.jsonl.bad.csv")[1:]] == ["302"]


SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("at", pa.timestamp("ns")),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("n", pa.int16()),
        ("deep", pa.list_(pa.struct([("a", pa.float32())]))),
    ]
)


def write_parquet(path: Path, rows: int) -> pa.Table:
    deep = [[{"a": float(number)}] for number in range(rows)]
    columns = [
        pa.array([("good", "bad")[number % 2] for number in range(rows)]),
        pa.array([number * 10**9 + 1 for number in range(rows)], pa.timestamp("ns")),
        pa.array(["x", None] * (rows // 2)).dictionary_encode().cast(SCHEMA.field("kind").type),
        pa.array([None, *range(1, rows)], pa.int16()),
        pa.array(deep, SCHEMA.field("deep").type),
    ]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    parquet.write_table(table, path)
    return table


def test_parquet_keeps_its_types(score: Score, tmp_path: Path) -> None:
    """The columns of a Parquet file stay as they are; labels are strings, probabilities doubles."""
    before = write_parquet(tmp_path / "in.parquet", 1100)
    assert score(tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    after = parquet.read_table(tmp_path / "out.parquet")
    assert after.column_names == [*SCHEMA.names, *ADDED]
    assert after.select(SCHEMA.names).cast(SCHEMA).equals(before)
    assert after.schema.field("kind").type == SCHEMA.field("kind").type
    kinds = [str(after.schema.field(name).type) for name in ADDED]
    assert kinds == ["string", "double", "double", "double", "string"]
    assert after["label"].to_pylist() == ["positive", "negative"] * 550
    assert left(tmp_path) == []


def test_parquet_becomes_text(score: Score, tmp_path: Path) -> None:
    """Parquet is written as JSON with numbers and lists, and as CSV with each value spelled."""
    write_parquet(tmp_path / "in.parquet", 4)
    assert score(tmp_path / "in.parquet", tmp_path / "out.jsonl") == 0
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])
    assert (row["n"], row["deep"], row["kind"]) == (1, [{"a": 1.0}], None)
    assert datetime.fromisoformat(row["at"][:19]) == datetime(1970, 1, 1, 0, 0, 1)
    assert score(tmp_path / "in.parquet", tmp_path / "out.csv") == 0
    assert read(tmp_path / "out.csv")[2][2:5] == ["", "1", '[{"a": 1.0}]']


def test_text_becomes_parquet(score: Score, tmp_path: Path) -> None:
    """The columns of other formats are strings in Parquet; a table without rows has its columns."""
    assert score(write(tmp_path / "in.csv", TABLE), tmp_path / "out.parquet") == 0
    after = parquet.read_table(tmp_path / "out.parquet")
    assert after["n"].to_pylist() == ["1", "2", "3"]
    assert score(write(tmp_path / "in.csv", "text\n"), tmp_path / "out.parquet") == 0
    assert parquet.read_table(tmp_path / "out.parquet").column_names == ["text", *ADDED]


def give_stdin(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr("app.tables.containers._spool_standard_input", lambda: path)


@pytest.mark.parametrize(("wanted", "first"), [(None, "text,label"), ("jsonl", '{"text": ')])
def test_standard_streams(
    score: Score,
    tmp_path: Path,
    wanted: str | None,
    first: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`- -` reads standard input and writes CSV, or what --output-format says, to stdout alone."""
    give_stdin(monkeypatch, write(tmp_path / "in", "text\ngood\nbad\n"))
    monkeypatch.chdir(tmp_path)
    options = () if wanted is None else ("--output-format", wanted)
    assert score("-", "-", *options) == 0
    captured = capfdbinary.readouterr()
    assert captured.out.decode().startswith(first)
    assert captured.out.count(b"\n") == (3 if wanted is None else 2)
    assert b"2 rows with verdicts of lstm/2" in captured.err
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("in.csv", "out.txt"), 2, "must end in .csv"),
        (("in.csv", "in.csv"), 2, "must be different files"),
        (("in.csv", "in.csv.gz", "--bad-rows", "in.csv"), 2, "must be different files"),
        (("in.csv", "-", "--output-format", "parquet"), 2, "must be written to a file"),
        (("in.csv", "out.csv", "--text-column", "body"), 1, "must be named 'body'"),
        (("none.csv", "out.csv"), 1, "there is no such file"),
        (("in.csv", "folder"), 2, "must end in .csv"),
        (
            ("in.csv", "folder.csv"),
            2,
            "OUT must be a file. Received: folder.csv",
        ),
        (("in.csv", "out.csv", "--bad-rows", "folder.csv"), 2, "must be a new file, or one of an"),
        (("in.csv", "out.csv", "--bad-rows", "other.csv"), 2, "must be a new file, or one of an"),
        (("in.csv", "no/out.csv"), 1, "cannot be written"),
        (("in.csv", "out.csv", "--version", "canary"), 1, "there is no such alias of lstm"),
        (("in.csv", "out.csv", "--version", "1.5"), 2, "or an alias. Received: '1.5'"),
        (("in.csv", "out.csv", "--version", "7"), 1, "there is no such model or version"),
        (("in.csv", "out.csv", "--encoding", "wat"), 2, "the encoding must be"),
        (("in.csv", "out.csv", "--url", "valence:8000"), 2, "must be the address"),
    ],
)
def test_wrong_calls(
    score: Score,
    tmp_path: Path,
    arguments: Sequence[str],
    status: int,
    words: str,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong call exits with 2, a file that cannot be used with 1; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.csv", TABLE)
    write(tmp_path / "other.csv", "precious,notes\n")
    (tmp_path / "folder.csv").mkdir()
    assert score(*arguments) == status
    (sentence,) = capsys.readouterr().err.splitlines()
    assert words in sentence
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.csv", "in.csv", "other.csv"]
    assert (tmp_path / "other.csv").read_text() == "precious,notes\n"


def test_a_version_by_its_alias(
    score: Score, fake_models: Path, tmp_path: Path, capsys: Output
) -> None:
    """`--version` may be an alias; without it `stable` is used."""
    folder = shutil.copytree(fake_models, tmp_path / "models")
    (folder / "lstm" / "aliases.json").write_text('{"stable": 1, "canary": 2}')
    table = write(tmp_path / "in.csv", TABLE)
    for asked, version in (((), 1), (("--version", "canary"), 2)):
        output = tmp_path / f"{version}.csv"
        assert score(table, output, "--models-dir", folder, *asked) == 0
        assert f"with verdicts of lstm/{version}" in capsys.readouterr().err


def many(rows: int) -> str:
    """A table at whose row 2501 a run is interrupted, and whose every tenth row is malformed."""
    lines = ["text,n"]
    for number in range(1, rows + 1):
        text = "the the" if number == 2501 else f"{('good', 'bad')[number % 2]} film"
        lines.append(f"{text},{number}" if number % 10 else text)
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl.gz", "out.parquet"])
def test_an_interrupted_run_goes_on(
    score: Score, engines: list[FakeEngine], tmp_path: Path, name: str, capsys: Output
) -> None:
    """The same command goes on where a run was stopped, and the files become the same."""
    table = write(tmp_path / "in.csv", many(4000))
    whole = tmp_path / f"whole.{name}"
    assert score(table, whole, "--bad-rows", tmp_path / "whole.bad") == 1
    engines.append(InterruptedEngine())
    assert score(table, tmp_path / name) == 1
    assert "valence: interrupted" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert score(table, tmp_path / name) == 1
    assert ", 2,048 before this run; 1,552 in" in capsys.readouterr().err
    assert (tmp_path / f"{name}.bad.csv").read_bytes() == (tmp_path / "whole.bad").read_bytes()
    if name.endswith(".parquet"):
        assert parquet.read_table(tmp_path / name).equals(parquet.read_table(whole))
    else:
        assert (tmp_path / name).read_bytes() == whole.read_bytes()
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [((), "input"), (("--model", "bow"), "model"), (("--prefix", "v_"), "option")],
)
def test_a_run_goes_on_with_its_own_options(
    score: Score,
    engines: list[FakeEngine],
    tmp_path: Path,
    change: Sequence[str],
    word: str,
    capsys: Output,
) -> None:
    """Another input, model or option does not continue a run; --restart begins anew."""
    table = write(tmp_path / "in.csv", many(4000))
    engines.append(InterruptedEngine())
    score(table, tmp_path / "out.csv")
    if not change:
        write(table, many(4000).replace("film", "film!"))
    assert score(table, tmp_path / "out.csv", *change) == 2
    assert f"Received: another {word}; --restart" in capsys.readouterr().err
    assert score(table, tmp_path / "out.csv", *change, "--restart", "--allow-failures") == 0
    assert len(read(tmp_path / "out.csv")) == 3601


@pytest.mark.parametrize("step", ["bad rows", "output"])
def test_a_run_killed_at_its_very_end_goes_on(
    score: Score, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the last renames leaves nothing undone, and no row doubled."""
    table = write(tmp_path / "in.csv", many(4000))
    with monkeypatch.context() as killed:
        where = "app.scoring.work.move" if step == "bad rows" else "app.scoring.work.shutil.rmtree"
        killed.setattr(where, lambda *_, **__: sys.exit(9))
        assert score(table, tmp_path / "out.csv") == 9
    assert score(table, tmp_path / "out.csv") == 1
    assert [row[1] for row in read(tmp_path / "out.csv")[1:]] == [
        str(number) for number in range(1, 4001) if number % 10
    ]
    assert len(read(tmp_path / "out.csv.bad.csv")) == 401
    assert left(tmp_path) == []


def test_one_process_writes_an_output(
    score: Score, engines: list[FakeEngine], tmp_path: Path, capsys: Output
) -> None:
    """A second process with the same output is refused while the first one runs."""
    table = write(tmp_path / "in.csv", TABLE)

    class Nosy(FakeEngine):
        def run(self, ids: Int32Array, lengths: Int32Array) -> Any:
            if (tmp_path / ".out.csv.scoring").exists():
                seen.append(score(table, tmp_path / "out.csv"))
            return super().run(ids, lengths)

    seen: list[int] = []
    engines.append(Nosy())
    assert score(table, tmp_path / "out.csv") == 0
    assert set(seen) == {1}
    assert "another process is writing it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "options", "status", "words"),
    [
        ("in.csv", (), 1, "pip install valence[ray]"),
        (".", (), 1, "all files must have the columns and the format"),
        ("none", (), 1, "there is no such file"),
        ("in.csv", ("--url", "http://here"), 2, "without --url"),
        ("in.csv", ("--prefix", "", "--text-column", "body"), 1, "must be named 'body'"),
    ],
)
def test_ray_is_asked_for_what_it_can_do(
    score: Score,
    tmp_path: Path,
    source: str,
    options: Sequence[str],
    status: int,
    words: str,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Ray is started the files are looked at; without Ray the extra is named."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.csv", TABLE)
    write(tmp_path / "other.csv", "text\ngood\n")
    assert score("--engine", "ray", source, "out", *options) == status
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "other.csv"]
