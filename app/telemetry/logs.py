"""Logs: one event a line, on stdout. Lengths and ids, never a user's text.

An event is a constant sentence; what varies goes into `extra`:

    logger.info("version is ready", extra={"model": "lstm", "version": 3})

An exception is logged as its type and where it was raised. Its message is left out, because a
library may quote its input there.
"""

import asyncio
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO

LogFormat = Literal["json", "text"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FRAMES: Final = 6


def describe_exception(error: BaseException) -> dict[str, str]:
    """Type and place of an exception and of its causes, without their messages."""
    names: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(names) < _FRAMES:
        names.append(type(cause).__qualname__)
        cause = cause.__cause__
    return {"error": " from ".join(names), "where": _describe_place(error.__traceback__)}


def _describe_place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    return " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What varies in an event: its `extra`, and its exception."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    fields.pop("color_message", None)  # uvicorn repeats its message there
    if record.exc_info and record.exc_info[1] is not None:
        fields |= describe_exception(record.exc_info[1])
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JSONFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `event`, then what the event adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Lay a record out as one line."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        return json.dumps(event | _fields(record), default=str)


class TextFormatter(logging.Formatter):
    """The same for people: `12:30:05.120 INFO version is ready model=lstm version=3`."""

    def format(self, record: logging.LogRecord) -> str:
        """Lay a record out as one line."""
        # JSON strings, so that a line break inside a value stays inside its line.
        fields = "".join(
            f" {key}={json.dumps(value, default=str)}" for key, value in _fields(record).items()
        )
        event = json.dumps(record.getMessage(), ensure_ascii=False)[1:-1]
        return f"{_time(record)[11:23]} {record.levelname} {event}{fields}"


def configure_logs(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process, uvicorn's too, to one handler on stdout.

    The level is that of our own loggers. Of the libraries only what is wrong is logged: their
    debugging is a flood, uvicorn's start and stop lines repeat ours.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    own_level = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(own_level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("app").setLevel(own_level)
    logging.getLogger("uvicorn.access").disabled = True  # it costs more than an answer


def tag_logs(**fields: Any) -> None:
    """Add the same fields to every event that this process logs from now on."""
    make = logging.getLogRecordFactory()

    def make_tagged(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        vars(record).update(fields)
        return record

    logging.setLogRecordFactory(make_tagged)


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log what nobody awaited, without asyncio's habit of quoting the exception."""
    logger = logging.getLogger("app.loop")

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        extra = describe_exception(error) if isinstance(error, BaseException) else {}
        logger.error("an error reached the event loop", extra=extra)

    loop.set_exception_handler(handle)
