"""One line on a terminal: rows, share, rows per second and the time that is left."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

_EVERY_S: Final = 0.2
_WINDOW_S: Final = 10.0
_BAR_WIDTH: Final = 20


class Progress:
    """Rewrites its line as rows are done; silent where the stream is no terminal.

    Args:
        stream: Where to write, stderr as a rule; None if it is closed.
        clock: Monotonic, in seconds.
    """

    def __init__(self, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._clock = clock
        self._shown_at = -_EVERY_S
        self._marks: deque[tuple[float, int, float]] = deque()

    def update(self, rows: int, share: float) -> None:
        """Show so many rows, and the share of the whole from 0 to 1."""
        if self._stream is None:
            return
        now = self._clock()
        if now - self._shown_at < _EVERY_S:
            return
        self._shown_at = now
        self._marks.append((now, rows, share))
        while self._marks[0][0] < now - _WINDOW_S:
            self._marks.popleft()
        self._stream.write(f"\r\x1b[K{self._line(rows, share)}")
        self._stream.flush()

    def _line(self, rows: int, share: float) -> str:
        done = round(min(share, 1) * _BAR_WIDTH)
        parts = [f"{'━' * done}{'╌' * (_BAR_WIDTH - done)} {share:4.0%}", f"{rows:,} rows"]
        start, first_rows, first_share = self._marks[0]
        seconds = self._marks[-1][0] - start
        if seconds > 0:
            parts.append(f"{(rows - first_rows) / seconds:,.0f} rows/s")
            if share > first_share:
                left_s = round((1 - min(share, 1)) * seconds / (share - first_share))
                parts.append(f"{left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left")
        return "  ".join(parts)

    def clear(self) -> None:
        """Remove the line."""
        if self._stream is not None and self._marks:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
