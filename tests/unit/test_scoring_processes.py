import sys
import threading

import pytest

from app.scoring.local import _context

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes fork on Linux")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and no PyArrow."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)


def test_processes_fork() -> None:
    """A command with one thread forks the processes that score."""
    assert _context().get_start_method() == "fork"


@pytest.mark.parametrize("what", ["another thread", "pyarrow"])
def test_threads_rule_a_fork_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads, also those of PyArrow, processes start anew: a fork takes over their locks."""
    if what == "pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow", object())
    else:
        monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert _context().get_start_method() == "spawn"
