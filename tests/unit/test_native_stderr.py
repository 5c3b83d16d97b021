import logging
import os

import pytest

from app.telemetry.native_stderr import logged_stderr

logger = logging.getLogger("app.test")


def test_lines_are_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What a library writes to the descriptor becomes events, a line each, without colours."""
    with logged_stderr(logger):
        os.write(2, b"\x1b[0;93m[W:onnxruntime] one\x1b[m\nt\xffwo")
    assert [vars(record)["line"] for record in caplog.records] == ["[W:onnxruntime] one", "t�wo"]
    assert capfd.readouterr().err == ""


def test_more_than_a_pipe_holds(caplog: pytest.LogCaptureFixture) -> None:
    """However much is written, nobody waits for a reader."""
    with logged_stderr(logger):
        os.write(2, b"x" * 2**20)
    assert len(vars(caplog.records[0])["line"]) == 2**20


def test_stderr_comes_back(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """When an import fails, what it wrote is logged, and stderr is what it was before."""

    def fail() -> None:
        with logged_stderr(logger):
            os.write(2, b"a symbol is missing\n")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    os.write(2, b"after")
    assert [vars(record)["line"] for record in caplog.records] == ["a symbol is missing"]
    assert capfd.readouterr().err == "after"
