import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from app.telemetry.logs import LogFormat, configure_logs, log_loop_errors


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Leave the loggers as they were."""
    root, own = logging.getLogger(), logging.getLogger("app")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def lines(log_format: LogFormat, level: str = "info") -> io.StringIO:
    """A log that is set up, and where its lines go."""
    stream = io.StringIO()
    configure_logs(log_format, level, stream)
    return stream


def fail(message: str) -> None:
    raise ValueError(message)


def log_failure(message: str) -> None:
    try:
        fail(message)
    except ValueError:
        logging.getLogger("some.library").exception("it failed")


def test_json_line() -> None:
    """An event is one JSON object a line: time, level, logger, event, and what varies."""
    stream = lines("json")
    logging.getLogger("app.x").info("a version is ready", extra={"model": "lstm", "version": 3})
    event = json.loads(stream.getvalue())
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "info",
        "logger": "app.x",
        "event": "a version is ready",
        "model": "lstm",
        "version": 3,
    }


def test_text_line() -> None:
    """For people the same stands in one line of text."""
    stream = lines("text")
    logging.getLogger("app.x").info("a version is ready", extra={"model": "lstm", "version": 3})
    assert stream.getvalue().endswith('INFO a version is ready model="lstm" version=3\n')


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_line_breaks_stay_inside(log_format: LogFormat) -> None:
    """Whatever an event holds, it is one line."""
    stream = lines(log_format)
    logging.getLogger("app.x").info("a\nb %s", "c\r\nd", extra={"e": "f\n\ud800\x1b[31m"})
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exception_without_its_message(log_format: LogFormat) -> None:
    """An exception is logged as its type and place; its message may quote a text."""
    stream = lines(log_format)
    log_failure("SECRET")
    assert "SECRET" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "test_logs.py" in stream.getvalue()


def test_level() -> None:
    """What is less than the level is not logged."""
    stream = lines("json", "warning")
    logging.getLogger("app.x").info("quiet")
    logging.getLogger("app.x").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_libraries_do_not_debug() -> None:
    """The level is that of our own loggers: a library is heard when something is wrong."""
    stream = lines("json", "debug")
    for name in ("app.x", "some.library", "uvicorn.error"):
        logging.getLogger(name).debug("%s", name)
        logging.getLogger(name).info("%s", name)
    logging.getLogger("some.library").warning("wrong")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["app.x", "app.x", "wrong"]


def test_libraries_keep_to_a_higher_level() -> None:
    """A level above warning holds for libraries, too."""
    stream = lines("json", "error")
    logging.getLogger("some.library").warning("wrong")
    assert stream.getvalue() == ""


@pytest.mark.anyio
async def test_errors_of_the_event_loop() -> None:
    """What nobody awaited is logged, too, without its message."""
    stream = lines("json")
    loop = asyncio.get_running_loop()
    log_loop_errors(loop)
    loop.call_soon(fail, "SECRET")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert json.loads(stream.getvalue())["error"] == "ValueError"
    assert "SECRET" not in stream.getvalue()
