"""Structured logs: one event per line, on stdout. Lengths and ids, never a user's text.

An event is a constant sentence; what varies goes into `extra`:

    logger.info("a version is ready", extra={"model": "lstm", "version": 3})

An exception is logged with its type and where it was raised. Its message is left out, because
libraries quote their input in messages.
"""

import asyncio
import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from app.telemetry.log_writer import LineHandler, LineWriter

LogFormat = Literal["json", "text"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MAX_FRAMES: Final = 6

logger = logging.getLogger(__name__)


def describe_exception(error: BaseException) -> dict[str, str]:
    """The types of an exception and of its causes, and where it was raised; no messages."""
    names: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(names) < _MAX_FRAMES:
        names.append(type(cause).__qualname__)
        cause = cause.__cause__
    return {"error": " from ".join(names), "where": _describe_place(error.__traceback__)}


def _describe_place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_MAX_FRAMES:]
    return " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The variable part of an event: its `extra` and its exception."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    fields.pop("color_message", None)  # uvicorn's copy of the message
    if record.exc_info and record.exc_info[1] is not None:
        fields |= describe_exception(record.exc_info[1])
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JSONFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `event`, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        return json.dumps(event | _fields(record), default=str)


class TextFormatter(logging.Formatter):
    """One line of text: `12:30:05.120 INFO a version is ready model="lstm" version=3`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        # JSON strings escape line breaks and control characters.
        fields = "".join(
            f" {key}={json.dumps(value, default=str)}" for key, value in _fields(record).items()
        )
        event = json.dumps(record.getMessage(), ensure_ascii=False)[1:-1]
        return f"{_time(record)[11:23]} {record.levelname} {event}{fields}"


def configure_logs(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send the events of all loggers, uvicorn's included, to one handler on stdout.

    A thread writes them, so that a reader who stalls blocks nothing else; see `LineWriter`.

    Warnings and exceptions that Python would print on stderr are logged, too, so that the output
    of the process can be parsed as a whole.

    Args:
        log_format: The format of a line.
        level: The lowest level that is logged. Libraries log warnings and errors only: their
            debug output is too much, and uvicorn's start and stop events repeat ours.
        stream: Where lines go, written at once; stdout by default.
    """
    handler = logging.StreamHandler(stream) if stream else _handle_stdout()
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    own_level = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(own_level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("app").setLevel(own_level)
    logging.getLogger("uvicorn.access").disabled = True  # costs more than answering the request
    logging.raiseExceptions = False  # a line that cannot be written prints no traceback instead
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable


def _handle_stdout() -> logging.Handler:
    try:
        return LineHandler(LineWriter(sys.stdout.fileno()))
    except (AttributeError, OSError):  # it is closed, or an object that only looks like a file
        return logging.StreamHandler(sys.stdout)


def count_dropped_lines() -> int:
    """How many lines this process could not write, because the reader of its log stalls."""
    handlers = logging.getLogger().handlers
    return sum(each.writer.dropped for each in handlers if isinstance(each, LineHandler))


def _log_thread_exception(args: threading.ExceptHookArgs) -> None:
    """Log an exception that ended a thread."""
    extra = describe_exception(args.exc_value) if args.exc_value else {}
    logger.error("unhandled exception in a thread", extra=extra)


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Log an exception that cannot be raised, as in a `__del__` method."""
    extra = describe_exception(unraisable.exc_value) if unraisable.exc_value else {}
    logger.error("unraisable exception", extra=extra)


def tag_logs(**fields: Any) -> None:
    """Add the same fields to every event that this process logs from now on."""
    make = logging.getLogRecordFactory()

    def make_tagged(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        vars(record).update(fields)
        return record

    logging.setLogRecordFactory(make_tagged)


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log exceptions that no task handled; asyncio's own handler would print their messages."""
    logger = logging.getLogger("app.loop")

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        extra = describe_exception(error) if isinstance(error, BaseException) else {}
        logger.error("unhandled exception in the event loop", extra=extra)

    loop.set_exception_handler(handle)
