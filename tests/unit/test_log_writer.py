"""Lines are written in order by a thread; a reader who stalls blocks nobody."""

import json
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from app.telemetry.log_writer import LineHandler, LineWriter
from app.telemetry.logs import JSONFormatter, configure_logs, count_dropped_lines
from app.telemetry.metrics import Metrics


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.received = b""

    def fill(self) -> None:
        """Leave no room in the pipe."""
        os.set_blocking(self.write_end, False)
        try:
            while os.write(self.write_end, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(self.write_end, True)

    def read_until(self, ending: bytes) -> list[str]:
        """Read until the pipe has sent `ending`; the lines, without what filled the pipe."""
        while not self.received.endswith(ending):
            self.received += os.read(self.read_end, 65_536)
        return self.received.lstrip(b"x").decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.read_end)
    os.close(made.write_end)


def log(handler: logging.Handler, event: str) -> None:
    """Log one event."""
    handler.handle(logging.makeLogRecord({"msg": event}))


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """Lines arrive whole, in the order they were logged, and `flush` waits for them."""
    writer = LineWriter(pipe.write_end)
    for number in range(100):
        assert writer.write(f"line {number}")
    assert writer.flush(60)
    assert pipe.read_until(b"line 99\n") == [f"line {number}" for number in range(100)]


def test_a_stalled_reader(pipe: Pipe) -> None:
    """While nobody reads, lines over the limit are dropped and counted; later ones are written."""
    pipe.fill()
    writer = LineWriter(pipe.write_end, max_lines=3)
    kept = [number for number in range(50) if writer.write(f"line {number}")]
    assert writer.dropped == 50 - len(kept)
    assert 3 <= len(kept) <= 4  # the thread may hold one more
    assert not writer.flush(0)
    assert pipe.read_until(b"line %d\n" % kept[-1]) == [f"line {number}" for number in kept]
    assert writer.flush(60)
    assert writer.write("later")
    assert pipe.read_until(b"later\n")[-1] == "later"


def test_the_gap_is_named(pipe: Pipe) -> None:
    """The first event after a gap is preceded by one that says how many lines are missing."""
    pipe.fill()
    handler = LineHandler(LineWriter(pipe.write_end, max_lines=2))
    handler.setFormatter(JSONFormatter())
    for _ in range(9):
        log(handler, "dropped or not")
    dropped = handler.writer.dropped
    pipe.read_until(b"\n")
    assert handler.writer.flush(60)
    log(handler, "after the gap")
    *_, gap, last = (json.loads(line) for line in pipe.read_until(b'after the gap"}\n'))
    assert (gap["event"], gap["lines"]) == ("log lines were dropped", dropped)
    assert gap["level"] == "warning"
    assert last["event"] == "after the gap"


@pytest.mark.usefixtures("logging_state")
def test_dropped_lines_are_a_metric(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """`log_lines_dropped_total` counts them; it exists from the start."""
    monkeypatch.setattr("sys.stdout", os.fdopen(os.dup(pipe.write_end), "w"))
    monkeypatch.setattr("app.telemetry.log_writer.MAX_LINES", 2)
    configure_logs("json", "info")
    metrics = Metrics()
    name = "valence_log_lines_dropped_total"
    assert f"{name} 0.0" in metrics.tally.render(metrics.tally.snapshot()).decode()
    pipe.fill()
    for _ in range(9):
        logging.getLogger("app").info("an event")
    assert count_dropped_lines() >= 6
    for _ in range(2):  # a second snapshot counts nothing twice
        page = metrics.tally.render(metrics.tally.snapshot()).decode()
        assert f"{name} {count_dropped_lines()}.0" in page


def test_a_closed_pipe() -> None:
    """Once the reader is gone, lines are dropped and counted, and nothing is raised."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LineWriter(write_end)
    writer.write("nobody reads this")
    assert writer.flush(60)
    assert writer.dropped == 1
    os.close(write_end)


def test_a_forked_process_has_its_own_thread(pipe: Pipe) -> None:
    """A child writes its own lines; those that wait in its parent are written once."""
    pipe.fill()
    writer = LineWriter(pipe.write_end, max_lines=8)
    writer.write("from the parent")
    child = os.fork()
    if child == 0:
        writer.write("from the child")
        os._exit(0 if writer.flush(60) and not writer.dropped else 1)
    reader = threading.Thread(target=pipe.read_until, args=(b"\n",))
    reader.start()
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert writer.flush(60)
    reader.join()
    pipe.received += os.read(pipe.read_end, 65_536) if pipe.received.count(b"\n") < 2 else b""
    lines = pipe.received.lstrip(b"x").decode().splitlines()
    assert sorted(lines) == ["from the child", "from the parent"]
