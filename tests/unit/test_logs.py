import asyncio
import io
import json
import logging
import threading
import warnings
from collections.abc import Callable

import pytest

from app.telemetry.logs import LogFormat, configure_logs, log_loop_errors

pytestmark = pytest.mark.usefixtures("logging_state")


def lines(log_format: LogFormat, level: str = "info") -> io.StringIO:
    """Configure the logs; the stream that they are written to."""
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
    """An event is one line with a JSON object: time, level, logger, event, and its fields."""
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
    """In text format the event and its fields are one line of text."""
    stream = lines("text")
    logging.getLogger("app.x").info("a version is ready", extra={"model": "lstm", "version": 3})
    assert stream.getvalue().endswith('INFO a version is ready model="lstm" version=3\n')


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_line_breaks_stay_inside(log_format: LogFormat) -> None:
    """An event is one line, whatever characters it holds."""
    stream = lines(log_format)
    logging.getLogger("app.x").info("a\nb %s", "c\r\nd", extra={"e": "f\n\ud800\x1b[31m"})
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exception_without_its_message(log_format: LogFormat) -> None:
    """An exception is logged with its type and place; its message may quote a text."""
    stream = lines(log_format)
    log_failure("SECRET")
    assert "SECRET" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "test_logs.py" in stream.getvalue()


def test_level() -> None:
    """Events below the level are not logged."""
    stream = lines("json", "warning")
    logging.getLogger("app.x").info("quiet")
    logging.getLogger("app.x").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_libraries_do_not_debug() -> None:
    """The level applies to our own loggers; libraries log warnings and errors only."""
    stream = lines("json", "debug")
    for name in ("app.x", "some.library", "uvicorn.error"):
        logging.getLogger(name).debug("%s", name)
        logging.getLogger(name).info("%s", name)
    logging.getLogger("some.library").warning("wrong")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["app.x", "app.x", "wrong"]


def test_libraries_keep_to_a_higher_level() -> None:
    """A level above warning applies to libraries, too."""
    stream = lines("json", "error")
    logging.getLogger("some.library").warning("wrong")
    assert stream.getvalue() == ""


@pytest.mark.anyio
async def test_errors_of_the_event_loop() -> None:
    """An exception that no task handled is logged without its message."""
    stream = lines("json")
    loop = asyncio.get_running_loop()
    log_loop_errors(loop)
    loop.call_soon(fail, "SECRET")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert json.loads(stream.getvalue())["error"] == "ValueError"
    assert "SECRET" not in stream.getvalue()


def test_python_warnings() -> None:
    """A Python warning is an event, one line like any other."""
    stream = lines("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # the context has put the printing hook in
        logging.captureWarnings(capture=True)
        warnings.warn("it is deprecated", DeprecationWarning, stacklevel=1)
    event = json.loads(stream.getvalue())
    assert (event["level"], event["logger"]) == ("warning", "py.warnings")
    assert "it is deprecated" in event["event"]


class Fragile:
    def __del__(self) -> None:
        fail("SECRET")


def make_and_drop() -> None:
    Fragile()


def run_in_thread() -> None:
    thread = threading.Thread(target=fail, args=("SECRET",))
    thread.start()
    thread.join()


@pytest.mark.parametrize("act", [run_in_thread, make_and_drop])
def test_exceptions_that_nobody_catches(
    act: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception that ends a thread or cannot be raised is an event, without its message."""
    stream = lines("json")
    act()
    event = json.loads(stream.getvalue())
    assert (event["level"], event["error"]) == ("error", "ValueError")
    assert "SECRET" not in stream.getvalue() + capfd.readouterr().err


def test_line_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    """A log that cannot be written leaves stderr alone."""
    lines("json").close()
    logging.getLogger("app.x").info("lost")
    assert capfd.readouterr().err == ""
