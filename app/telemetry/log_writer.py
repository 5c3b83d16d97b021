"""Writes log lines to a file descriptor without ever blocking the thread that logs."""

import logging
import os
import threading
from queue import SimpleQueue
from typing import Final

MAX_LINES: Final = 4096
"""Lines that wait to be written: with some hundred bytes each, a megabyte."""
FLUSH_TIMEOUT_S: Final = 1.0
"""How long a process that ends waits for its last lines to be written."""


class LineWriter:
    """A bounded queue of lines, and a thread that writes them.

    A pipe whose reader stalls blocks every write to it. Here it blocks the thread only: once the
    queue is full, further lines are dropped and counted. A forked process gets a queue and a
    thread of its own; the lines that wait stay with its parent.

    Args:
        descriptor: Where the lines go.
        max_lines: The most lines that wait; by default `MAX_LINES`.

    Attributes:
        dropped: How many lines this process has dropped.
    """

    def __init__(self, descriptor: int, *, max_lines: int | None = None) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._max_lines = MAX_LINES if max_lines is None else max_lines
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.dropped = 0
        self._lines: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> bool:
        """Let a line be written soon; drop and count it if too many wait.

        Args:
            line: Without its line break.

        Returns:
            Whether it will be written.
        """
        if self._lines.qsize() >= self._max_lines:
            self.dropped += 1
            return False
        self._lines.put(line.encode("utf-8", errors="backslashreplace") + b"\n")
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
            self._thread.start()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until all lines are written, but not longer than `timeout_s`.

        Returns:
            Whether they are written.
        """
        if self._thread is None:
            return True
        written = threading.Event()
        self._lines.put(written)
        return written.wait(timeout_s)

    def _write_lines(self) -> None:
        """In the thread: write one line after another."""
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # the reader has closed the pipe, or the disk is full
                self.dropped += 1


class LineHandler(logging.Handler):
    """Formats events for a `LineWriter`; the first one after a gap says how many were dropped.

    Attributes:
        writer: As passed in.
    """

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self.writer = writer
        self._reported = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Let an event be written soon."""
        try:
            line = self.format(record)
            dropped = self.writer.dropped - self._reported
            if dropped > 0 and self.writer.write(self.format(_describe_gap(dropped))):
                self._reported += dropped
            self.writer.write(line)
        except Exception:  # noqa: BLE001 as logging does: a line that cannot be formatted is no error
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, but not for a reader that stalls."""
        self.writer.flush(FLUSH_TIMEOUT_S)


def _describe_gap(lines: int) -> logging.LogRecord:
    """The event in place of lines that were dropped."""
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines were dropped",
            "lines": lines,
        }
    )
