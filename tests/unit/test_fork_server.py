from multiprocessing import forkserver

import pytest

from app.scoring import fork_server


def test_without_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process to fork from cannot listen, each process starts on its own."""

    def fail() -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(forkserver, "ensure_running", fail)
    assert fork_server.start().get_start_method() == "spawn"
