import shutil
from pathlib import Path

import pytest

from load_tests.bench import __main__ as command
from load_tests.bench.__main__ import main


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows examples."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "python -m load_tests.bench --quick" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--engines", "abacus"], ["--connections", "-1"], ["what"]]
)
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid value of an option is a wrong call."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "abacus"], "bench: --models must name models in"),
        (["--data", "/nowhere/texts"], "bench: texts cannot be read as text: FileNotFoundError"),
    ],
)
def test_wrong_calls(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    fake_models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing model or file is a wrong call: one sentence, and no report."""
    out = tmp_path / "out"
    assert main(["--models-dir", str(fake_models), "--out", str(out), *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith(sentence) for line in errors] == [True]
    assert not out.exists()


def test_without_wrk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without wrk the bundled generator is used, unless wrk was requested explicitly."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert command.choose_generator("auto").name == "bundled"
    assert main(["--generator", "wrk"]) == 2
    assert "wrk is not installed" in capsys.readouterr().err


def test_generator_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrk is used if it is installed, unless the bundled generator was requested."""
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/wrk")
    names = [command.choose_generator(name).name for name in ("auto", "wrk", "bundled")]
    assert names == ["wrk", "wrk", "bundled"]


def test_engines_that_are_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine whose library is missing is skipped, with one sentence."""
    monkeypatch.setattr(command, "find_spec", lambda name: name == "onnxruntime" or None)
    assert command._installed(["onnx", "tensorflow"]) == ["onnx"]
    assert "tensorflow is skipped" in capsys.readouterr().err
