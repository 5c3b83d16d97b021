"""What a supervisor must know of a worker at once, even when the worker no longer speaks."""

import mmap
import time
from typing import Final

_CELL_BYTES: Final = 8
_CLOSED, _BEAT = 0, 1


class Pulse:
    """Two numbers in memory that a worker writes and its supervisor reads; made before the fork."""

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, 2 * _CELL_BYTES)).cast("q")
        self.beat()

    @property
    def closed(self) -> int:
        """Connections of the worker that have ended."""
        return self._cells[_CLOSED]

    def count_closed(self) -> None:
        """One more has ended."""
        self._cells[_CLOSED] += 1

    @property
    def last_beat_s(self) -> float:
        """When the event loop of the worker turned last, by the monotonic clock."""
        return self._cells[_BEAT] / 1e9

    def beat(self) -> None:
        """It turns now."""
        self._cells[_BEAT] = time.monotonic_ns()
