import io

from app.scoring.progress import Progress
from tests.fakes import ManualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def line(self) -> str:
        """What the terminal shows."""
        return self.getvalue().rpartition("\r\x1b[K")[2]


def test_the_line_tells_pace_and_time_left() -> None:
    """Rows, share, rows per second of the last seconds, and the time that the rest will take."""
    terminal, clock = Terminal(), ManualClock()
    progress = Progress(terminal, clock)
    for second in range(31):
        progress.update(100 * second if second < 20 else 2000 + 400 * (second - 20), second / 120)
        clock.advance(1)
    shown = terminal.line()
    assert "6,000 rows  400 rows/s  0:01:30 left" in shown
    assert " 25%" in shown
    progress.clear()
    assert terminal.line() == ""


def test_only_a_terminal_has_a_line() -> None:
    """A file or a pipe gets nothing, and a closed stderr breaks nothing."""
    for stream in (io.StringIO(), None):
        progress = Progress(stream)
        progress.update(1, 0.5)
        progress.clear()
        assert stream is None or stream.getvalue() == ""


def test_it_is_not_rewritten_for_every_chunk() -> None:
    """At most five times per second."""
    terminal, clock = Terminal(), ManualClock()
    progress = Progress(terminal, clock)
    for _ in range(100):
        clock.advance(0.01)
        progress.update(1, 0.5)
    assert 4 <= terminal.getvalue().count("\r") <= 6
