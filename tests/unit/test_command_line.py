import json
from pathlib import Path
from typing import Any

import pytest

from app import main as composition
from app.__main__ import main
from app.serving import engines
from app.settings import Settings
from tests.fakes import FakeEngine, lock, write_version


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, and no TensorFlow."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"VALENCE_{name.upper()}", raising=False)
    monkeypatch.setattr(composition, "load_engine", lambda _folder, options: FakeEngine())


def call(*arguments: object) -> int:
    """The exit status of `valence` with these arguments."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse leaves by itself
        return int(end.code or 0)


Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", [(), ("serve",), ("predict",), ("models",)])
def test_help(command: tuple[str, ...], capsys: Output) -> None:
    """--help of every command shows examples, and exits with 0."""
    assert call(*command, "--help") == 0
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
        ("predict", "--version", "new", "good"),
        ("predict", " "),
        ("predict", "a\0b"),
    ],
)
def test_wrong_call(arguments: tuple[str, ...], capsys: Output) -> None:
    """A wrong call exits with 2 and says what is wrong on stderr, without a traceback."""
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip()
    assert "Traceback" not in captured.err


def test_wrong_option(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value is refused under the name by which it came: the option or the variable."""
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
        (("serve", "--host", "a" * 80 + ".x"), "no host name"),
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
    """An engine without its library: exit status 1 at once, and the extra that brings it."""
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    assert call(*command, "--engine", "onnx") == 1
    assert "install valence[onnx]" in capsys.readouterr().err


def test_debug(capsys: Output) -> None:
    """--debug shows the traceback of a failure."""
    with pytest.raises(Exception, match="cannot be read"):
        call("models", "--debug", "--models-dir", "nowhere")


def test_predict(fake_models: Path, capsys: Output) -> None:
    """`valence predict` prints the label, then the probability of each."""
    assert call("predict", "--models-dir", fake_models, "a good film") == 0
    label, *probabilities = capsys.readouterr().out.splitlines()
    assert label == "positive"
    assert [line.split()[0] for line in probabilities] == ["negative", "positive"]


def test_predict_json(fake_models: Path, capsys: Output) -> None:
    """`valence predict --json` prints what the service would answer."""
    options = ("--models-dir", fake_models, "--model", "lstm", "--version", 1)
    assert call("predict", *options, "--json", "a bad film") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["model"], answer["version"], answer["label"]) == ("lstm", 1, "negative")


@pytest.mark.parametrize("asked", [("--model", "nobody"), ("--version", "9")])
def test_predict_with_an_unknown_model(
    fake_models: Path, asked: tuple[str, str], capsys: Output
) -> None:
    """An unknown model or version: exit status 1, and what there is."""
    assert call("predict", "--models-dir", fake_models, *asked, "good") == 1
    assert "bow, lstm" in capsys.readouterr().err


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
    assert "lstm/2 (default): ok: negative, positive" in capsys.readouterr().out


def test_unreadable_model(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose folder cannot be read: exit status 1, its name, and the others."""
    write_version(tmp_path, "bow", 1)
    lock(write_version(tmp_path, "lstm", 1).parent, monkeypatch)
    assert call("models", "--models-dir", tmp_path) == 1
    captured = capsys.readouterr()
    assert "bow/1: ok" in captured.out
    assert "lstm: its folder cannot be read: Permission denied" in captured.err


def test_models_verify(tmp_path: Path, capsys: Output) -> None:
    """--verify compares every file with its sha256; without it only the manifest is read."""
    (write_version(tmp_path, "lstm", 1) / "saved_model.pb").write_bytes(b"altered")
    assert models(tmp_path, capsys)[0] == 0
    status, (row,) = models(tmp_path, capsys, "--verify")
    assert status == 1
    assert (row["usable"], "saved_model.pb" in row["reason"]) == (False, True)
