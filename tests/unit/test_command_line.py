import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from app import main as composition
from app.__main__ import main
from app.api.keys import Keys, read_keys
from app.artifact import Quality, read_golden, read_manifest, write_golden, write_manifest
from app.serving import engines
from tests.fakes import FakeEngine, lock, write_version

pytestmark = pytest.mark.usefixtures("logging_state")

PLAIN = "vk_SECRET"


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TensorFlow."""
    monkeypatch.setattr(composition, "load_engine", lambda _folder, options: FakeEngine())


@pytest.fixture(autouse=True)
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that names the data of tests is no setting."""
    monkeypatch.delenv("VALENCE_DATA", raising=False)


def call(*arguments: object) -> int:
    """The exit status of `valence` with these arguments."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:  # raised by argparse
        return int(end.code or 0)


Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", ["", "serve", "predict", "score", "models", "key"])
def test_help(command: str, capsys: Output) -> None:
    """--help of every command exits with 0 and shows examples."""
    assert call(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "usage: valence" in text
    assert not command or "examples:" in text


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("wat",),
        ("serve", "--wat"),
        ("serve", "--port", "99999"),
        ("serve", "--threads", "many"),
        ("predict",),
        ("predict", "--version", "New", "good"),
        ("predict", "--version", "1.5", "good"),
        ("predict", " "),
        ("predict", "a\0b"),
        ("key", "a shop"),
        ("key", "shop", "--requests-per-second", "0"),
    ],
)
def test_wrong_call(arguments: tuple[str, ...], capsys: Output) -> None:
    """A wrong call exits with 2, with an error on stderr and no traceback."""
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip()
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--prot", "9000"), "there is no option --prot; did you mean --port?"),
        (("serve", "--max_queue_items=9"), "did you mean --max-queue-items?"),
        (("predict", "--josn"), "did you mean --json?"),
        (("srve",), "there is no command srve; did you mean serve?"),
        (("--vresion",), "did you mean --version?"),
        (("xyz",), "there is no command xyz\n"),
    ],
)
def test_misspelt_word(arguments: tuple[str, ...], words: str, capsys: Output) -> None:
    """A misspelt option or command is answered with the nearest one, if one is near."""
    assert call(*arguments) == 2
    assert words in capsys.readouterr().err


def test_a_text_without_quotes(capsys: Output) -> None:
    """A text that was not quoted is a wrong call, and no word of it is repeated."""
    assert call("predict", "I", "loathe", "-x", "this") == 2
    error = capsys.readouterr().err
    assert "3 arguments more than are taken; a text or a path with spaces goes in quotes" in error
    assert not {"loathe", "-x", "this"} & set(error.split())


@pytest.mark.parametrize("text", ["--not a bad film", "-1"])
def test_text_that_begins_with_a_dash(fake_models: Path, text: str, capsys: Output) -> None:
    """A text may begin with a dash, as long as it cannot be an option."""
    assert call("predict", "--models-dir", fake_models, text) == 0
    assert call("predict", "--models-dir", fake_models, "--", "--prot") == 0
    assert capsys.readouterr().err == ""


def test_version(capsys: Output) -> None:
    """--version prints the version."""
    assert call("--version") == 0
    assert capsys.readouterr().out == f"valence {__version__}\n"


def test_unknown_variable(
    fake_models: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands warn of a variable that is no setting, with the nearest one, not with its value."""
    monkeypatch.setenv("VALENCE_DEFUALT_MODEL", "SECRET")
    assert call("models", "--models-dir", fake_models) == 0
    warning = "warning: VALENCE_DEFUALT_MODEL is no setting; the nearest is VALENCE_DEFAULT_MODEL"
    assert capsys.readouterr().err == f"valence: {warning}\n"
    assert call("serve", "--models-dir", "nowhere") == 1
    event = json.loads(capsys.readouterr().out)
    assert (event["level"], event["event"]) == ("warning", "unknown setting in the environment")
    assert event["variable"] == "VALENCE_DEFUALT_MODEL"
    assert event["nearest"] == "VALENCE_DEFAULT_MODEL"
    assert "SECRET" not in json.dumps(event)


@pytest.mark.parametrize("options", [("--log-format", "JSON"), ("--log-format=json", "--port=-1")])
def test_failure_in_json(options: tuple[str, ...], capsys: Output) -> None:
    """Where JSON logs are asked for, the reason for the end is an event, and stderr is empty."""
    status = call("serve", "--models-dir", "nowhere", *options)
    captured = capsys.readouterr()
    event = json.loads(captured.out)
    assert (event["level"], event["event"]) == ("critical", "the service failed")
    assert (event["exit_status"], captured.err) == (status, "")
    assert "Received: " in event["reason"]


def test_wrong_option(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid value is reported with the option or the variable that it came from."""
    assert call("serve", "--port", "99999") == 2
    assert "--port must be" in capsys.readouterr().err
    monkeypatch.setenv("VALENCE_MAX_TEXT_CHARS", "0")
    assert call("serve", "--port", "0") == 2
    assert "VALENCE_MAX_TEXT_CHARS must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("models", "--models-dir", "nowhere"), "the folder of models, nowhere, cannot be read"),
        (("predict", "--models-dir", "nowhere", "good"), "cannot be read"),
        (("serve", "--models-dir", "nowhere"), "nowhere; name another with --models-dir"),
        (("serve", "--host", "no.such.host.invalid"), "cannot listen"),
        (("serve", "--host", "a" * 80 + ".x"), "the host name is invalid"),
    ],
)
def test_failure(arguments: tuple[str, ...], words: str, capsys: Output) -> None:
    """A failure exits with 1 and one clear sentence on stderr."""
    assert call(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("valence: ")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [("serve",), ("predict", "good")])
def test_engine_that_is_not_installed(
    command: tuple[str, ...], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine without its library: exit status 1, and the extra to install."""
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    assert call(*command, "--engine", "onnx") == 1
    assert "install valence[onnx]" in capsys.readouterr().err


def test_debug(capsys: Output) -> None:
    """--debug shows the traceback of a failure."""
    with pytest.raises(Exception, match="cannot be read"):
        call("models", "--debug", "--models-dir", "nowhere")


@pytest.fixture
def aliased_models(fake_models: Path, tmp_path: Path) -> Path:
    """The models of the tests, the default one with aliases."""
    folder = shutil.copytree(fake_models, tmp_path / "models")
    aliases = folder / "lstm" / "aliases.json"
    aliases.write_text('{"stable": 1, "canary": 2, "gone": 7, "canary_share": 0.1}')
    return folder


def test_predict(fake_models: Path, capsys: Output) -> None:
    """`valence predict` prints the label, the probability of each, and the number of tokens."""
    assert call("predict", "--models-dir", fake_models, "a good film") == 0
    label, *probabilities, _ = capsys.readouterr().out.splitlines()
    assert label == "positive"
    assert [line.split()[0] for line in probabilities] == ["negative", "positive"]


def test_predict_json(fake_models: Path, capsys: Output) -> None:
    """`valence predict --json` prints what the service would answer."""
    options = ("--models-dir", fake_models, "--model", "lstm", "--version", 1)
    assert call("predict", *options, "--json", "a bad film") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["model"], answer["version"], answer["label"]) == ("lstm", 1, "negative")


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))


def test_predict_reads_stdin(
    fake_models: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`valence predict -` reads all of standard input as one text, in UTF-8."""
    give_stdin(monkeypatch, "bad, bad\nand a good film – really\n".encode())
    assert call("predict", "--models-dir", fake_models, "--json", "-") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["label"], answer["tokens"]) == ("negative", 7)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the text must"), (b" \n", "the text must"), (b"caf\xe9", "must be UTF-8. Received")],
)
def test_predict_with_unusable_stdin(
    content: bytes, words: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input that is empty or not UTF-8 is a wrong call."""
    give_stdin(monkeypatch, content)
    assert call("predict", "-") == 2
    assert words in capsys.readouterr().err


def test_predict_with_closed_stdin(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed standard input is a wrong call."""
    monkeypatch.setattr(sys, "stdin", None)
    assert call("predict", "-") == 2
    assert "standard input, which is closed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "there_are"),
    [
        (("--model", "nobody"), "bow, lstm"),
        (("--version", "9"), "bow, lstm"),
        (("--version", "new"), "no such alias of lstm; there are: stable, canary, gone"),
        (("--model", "bow", "--version", "stable"), "no such alias of bow; there is none"),
        (("--model", "nobody", "--version", "stable"), "bow, lstm"),
        (("--version", "gone"), "gone of lstm stands for version 7, which is not there"),
    ],
)
def test_predict_with_an_unknown_model(
    aliased_models: Path, asked: tuple[str, ...], there_are: str, capsys: Output
) -> None:
    """An unknown model, version or alias: exit status 1, and a list of what there is."""
    assert call("predict", "--models-dir", aliased_models, *asked, "good") == 1
    assert there_are in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "version"), [((), 1), (("--version", "canary"), 2), (("--version", "stable"), 1)]
)
def test_predict_with_an_alias(
    aliased_models: Path, asked: tuple[str, ...], version: int, capsys: Output
) -> None:
    """A version may be named by an alias; `stable` answers where none is named."""
    assert call("predict", "--models-dir", aliased_models, "--json", *asked, "good") == 0
    assert json.loads(capsys.readouterr().out)["version"] == version


@pytest.mark.parametrize("version", ["New", "1.5", "-1", "9" * 19, ""])
def test_predict_with_a_version_that_is_none(version: str, capsys: Output) -> None:
    """The rule, and what was received."""
    assert call("predict", f"--version={version}", "good") == 2
    rule = "--version must be a whole number of at most 18 digits, or an alias"
    assert capsys.readouterr().err == f"valence: {rule}. Received: {version!r}\n"


def test_predict_with_invalid_aliases(aliased_models: Path, capsys: Output) -> None:
    """Aliases that are asked for must be valid: exit status 1, and the rule."""
    (aliased_models / "lstm" / "aliases.json").write_text('{"stable": "2"}')
    assert call("predict", "--models-dir", aliased_models, "--version", "stable", "good") == 1
    assert "stable must be the number of a version" in capsys.readouterr().err


def test_predict_with_a_damaged_version(tmp_path: Path, capsys: Output) -> None:
    """A version that fails its checks: exit status 1, and the reason."""
    (write_version(tmp_path, "lstm", 1) / "saved_model.pb").unlink()
    assert call("predict", "--models-dir", tmp_path, "good") == 1
    assert "saved_model.pb is missing" in capsys.readouterr().err


def models(folder: Path, capsys: Output, *options: str) -> tuple[int, list[Any]]:
    status = call("models", "--models-dir", folder, "--json", *options)
    return status, json.loads(capsys.readouterr().out)


def test_models(fake_models: Path, capsys: Output) -> None:
    """`valence models` lists every version, and which model is the default."""
    status, rows = models(fake_models, capsys)
    assert status == 0
    assert [(row["model"], row["version"], row["default"]) for row in rows] == [
        ("bow", 1, False),
        ("lstm", 2, True),
        ("lstm", 1, True),
    ]
    assert call("models", "--models-dir", fake_models) == 0
    assert "lstm/2 (default): not verified: negative, positive" in capsys.readouterr().out
    assert call("models", "--models-dir", fake_models, "--verify") == 0
    assert "lstm/2 (default): ok: negative, positive" in capsys.readouterr().out


def test_models_with_quality(tmp_path: Path, capsys: Output) -> None:
    """`valence models` says what a version is worth, by kind of text."""
    full = Quality(
        texts=98,
        accuracy=0.9,
        calibration_error=0.04,
        sure_and_wrong=0.0408,
        neutral_texts=20,
        undecided=0.85,
    )
    write_version(tmp_path, "lstm", 1, quality={"ordinary": full, "news": Quality(texts=7)})
    assert call("models", "--models-dir", tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  ordinary: 90.0% of 98 right, 4.1% wrong above 0.8, 85% of 20 neutral undecided, "
        "calibration error 0.040",
        "  news: 7 texts",
    ]
    _, (row,) = models(tmp_path, capsys)
    assert row["quality"]["ordinary"] == full.model_dump(exclude={"interval"})
    assert row["reliability"]["max_unknown_share"] == 1.0


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("good xx", ["positive", "0.2689", "0.7311", "2, 1 unknown"]),
        ("xx yy", ["negative", "0.5000", "0.5000", "2, 2 unknown", "to judge it"]),
    ],
)
def test_predict_says_what_is_unknown(
    text: str, lines: list[str], fake_models: Path, capsys: Output
) -> None:
    """`valence predict` says how many tokens are unknown, and when the verdict is none."""
    assert call("predict", "--models-dir", fake_models, text) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line[-len(end) :] for line, end in zip(printed, lines, strict=True)] == lines


def test_unreadable_model(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose folder cannot be read: exit status 1, its name, and the others."""
    write_version(tmp_path, "bow", 1)
    lock(write_version(tmp_path, "lstm", 1).parent, monkeypatch)
    assert call("models", "--models-dir", tmp_path) == 1
    captured = capsys.readouterr()
    assert "bow/1: not verified" in captured.out
    assert "lstm: its folder cannot be read: Permission denied" in captured.err


def alter_file(version: Path) -> None:
    """Change a file of a version."""
    (version / "saved_model.pb").write_bytes(b"altered")


def alter_answers(version: Path) -> None:
    """Change what the model answered at export, and the digests with it."""
    rows = [row.model_copy(update={"probabilities": (0.0, 1.0)}) for row in read_golden(version)]
    write_golden(version, rows)
    write_manifest(version, read_manifest(version))


def reorder_labels(version: Path) -> None:
    """Change the order of the labels in the manifest by hand."""
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["labels"].reverse()
    (version / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (alter_file, "saved_model.pb must have 25 bytes"),
        (alter_answers, "golden row 1 must get its probabilities"),
        (reorder_labels, "negative, positive. Received: positive, negative"),
    ],
)
def test_models_verify(
    tmp_path: Path, capsys: Output, alter: Callable[[Path], None], reason: str
) -> None:
    """--verify says what the service would say; without it a version counts as not verified."""
    alter(write_version(tmp_path, "lstm", 1))
    status, (row,) = models(tmp_path, capsys)
    assert (status, row["usable"], row["verified"]) == (0, True, False)
    status, (row,) = models(tmp_path, capsys, "--verify")
    assert (status, row["usable"], row["verified"]) == (1, False, True)
    assert reason in row["reason"]


def test_models_copy(tmp_path: Path, capsys: Output) -> None:
    """--copy-to copies what an engine reads of every version, and the aliases."""
    version = write_version(tmp_path / "from", "lstm", 1)
    (version / "model.onnx").write_bytes(b"read by ONNX Runtime")
    write_manifest(version, read_manifest(version))
    (version.parent / "aliases.json").write_text('{"stable": 1}')
    to = tmp_path / "to"
    options = ("--models-dir", tmp_path / "from", "--engine", "onnx", "--copy-to", to)
    assert call("models", *options) == 0
    assert capsys.readouterr().out == f"{to / 'lstm' / '1'}\n"
    assert sorted(path.relative_to(to / "lstm").as_posix() for path in to.rglob("*.*")) == [
        *("1/golden.jsonl", "1/manifest.json", "1/model.onnx", "1/tokenizer.json"),
        "aliases.json",
    ]
    assert call("models", *options) == 0
    assert capsys.readouterr() == ("", "valence: lstm/1 is there already\n")


def test_models_copy_leaves_aliases(fake_models: Path, tmp_path: Path) -> None:
    """Aliases that are there stay: they may have been moved since the first copy."""
    version = write_version(tmp_path / "from", "lstm", 1)
    (version / "model.onnx").write_bytes(b"read by ONNX Runtime")
    write_manifest(version, read_manifest(version))
    (version.parent / "aliases.json").write_text('{"stable": 1}')
    moved = tmp_path / "to" / "lstm" / "aliases.json"
    moved.parent.mkdir(parents=True)
    moved.write_text('{"stable": 7}')
    options = ("--models-dir", tmp_path / "from", "--engine", "onnx", "--copy-to", tmp_path / "to")
    assert call("models", *options) == 0
    assert moved.read_text() == '{"stable": 7}'


def test_models_copy_without_weights(fake_models: Path, tmp_path: Path, capsys: Output) -> None:
    """A version that the engine cannot run is not copied."""
    options = ("--models-dir", fake_models, "--engine", "onnx", "--copy-to", tmp_path)
    assert call("models", *options) == 1
    assert "bow/1 has no model.onnx" in capsys.readouterr().err


def test_key(tmp_path: Path, capsys: Output) -> None:
    """`key` prints a line for the file on stdout, and on stderr the key that it is the hash of."""
    for name, rate in (("shop", ()), ("app.2", ("--requests-per-second", "2.5"))):
        assert call("key", name, *rate) == 0
    captured = capsys.readouterr()
    file = tmp_path / "keys.txt"
    file.write_text(captured.out)
    shown = [line.split(": ")[1] for line in captured.err.splitlines()]
    assert [(key.name, key.rate) for key in read_keys(file)] == [("shop", None), ("app.2", 2.5)]
    keys = Keys(file)
    for key in shown:
        keys.admit([(b"x-api-key", key.encode())])
        assert key not in captured.out


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_damaged_keys(
    fake_models: Path, tmp_path: Path, options: tuple[str, ...], capsys: Output
) -> None:
    """With a damaged file of keys, or none, the start ends like with any other wrong setting."""
    file = tmp_path / "keys.txt"
    for content, words in (
        ("", "No such file"),
        (f"shop {PLAIN}", "line 1 must be NAME SHA256"),
    ):
        if content:
            file.write_text(content)
        start = ("serve", "--port", "0", "--models-dir", fake_models, "--api-keys-file", file)
        assert call(*start, *options) == 2
        captured = capsys.readouterr()
        (sentence,) = captured.err.splitlines()
        assert words in sentence
        assert PLAIN not in captured.out + captured.err
