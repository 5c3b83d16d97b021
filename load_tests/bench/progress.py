"""A bar on stderr, where that is a terminal."""

import shutil
import sys
import time
from types import TracebackType
from typing import Final

_WIDTH: Final = 24


class Progress:
    """Shows how many of so many steps are done and what the next one is.

    Args:
        steps: How many there will be.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = -1
        self._started = time.monotonic()
        self._visible = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._show("")

    def step(self, what: str) -> None:
        """The step before is done, this one begins."""
        self._done += 1
        share = min(self._done / self._steps, 1)
        full = round(share * _WIDTH)
        bar = "█" * full + "░" * (_WIDTH - full)
        seconds = time.monotonic() - self._started
        self._show(f"{bar} {self._done}/{self._steps} {seconds:.0f} s  {what}")

    def _show(self, line: str) -> None:
        """Put `line` in the place of the one before."""
        if self._visible:
            sys.stderr.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
