"""A fake engine for other processes: it says which one it is in, and waits."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.text.padding import Int32Array
from tests.fakes import GOLDEN_TEXTS, FakeEngine

_PATIENCE_S = 100


class WaitingEngine(FakeEngine):
    """After its golden runs it leaves a file with its process id, and waits for the file `go`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, ids: Int32Array, lengths: Int32Array) -> Any:
        if len(self.batches) == 1 + len(GOLDEN_TEXTS):
            (self.folder / str(os.getpid())).touch()
            wait_until((self.folder / "go").exists)
        return super().run(ids, lengths)


def load_waiting(_version: Path, options: object, *, signals: Path) -> WaitingEngine:
    """Load such an engine; `options` are ignored."""
    return WaitingEngine(signals)


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
