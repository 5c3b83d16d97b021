"""Numbers in shared memory: read and written without a message, by processes of one service."""

import mmap
import time
from typing import Final

_CELL_BYTES: Final = 8
_CLOSED, _BEAT = 0, 1


def make_shared_numbers(count: int) -> "memoryview[int]":
    """Numbers, all 0, that this process and those it forks share.

    An aligned write of 8 bytes is atomic, so there is no lock.
    """
    return memoryview(mmap.mmap(-1, count * _CELL_BYTES)).cast("q")


def make_shared_number() -> "memoryview[int]":
    """One number, 0, that this process and those it forks share; index 0 reads and writes it."""
    return make_shared_numbers(1)


class Heartbeat:
    """Two numbers in shared memory, written by a worker and read by the supervisor.

    Create it before the fork. There is no lock, so an unresponsive worker cannot block the
    supervisor.
    """

    def __init__(self) -> None:
        self._cells = make_shared_numbers(2)
        self.beat()

    @property
    def closed_connections(self) -> int:
        """How many connections the worker has closed since it was started."""
        return self._cells[_CLOSED]

    def count_closed_connection(self) -> None:
        """Count one more closed connection."""
        self._cells[_CLOSED] += 1

    @property
    def last_beat_s(self) -> float:
        """When the worker's event loop last ran, in seconds of the monotonic clock."""
        return self._cells[_BEAT] / 1e9

    def beat(self) -> None:
        """Record that the event loop runs now."""
        self._cells[_BEAT] = time.monotonic_ns()
