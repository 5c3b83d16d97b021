"""Servers as child processes: start, wait until ready, query, always stop."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError
from load_tests.bench.machine import ROOT
from load_tests.bench.processes import Usage, read_usage
from load_tests.bench.signals import signals_deferred

_READY_TIMEOUT_S: Final = 90
_POLL_S: Final = 0.005
_STOP_TIMEOUT_S: Final = 10
_ANSWER_TIMEOUT_S: Final = 30


class Server:
    """A context manager that runs `python -m ...` in a process group of its own.

    The process must print lines of JSON, one of them with its `address`, and serve `/readyz`.

    Attributes:
        port: The port of the server on 127.0.0.1.
        ready_s: Seconds from the start of the process to the first 200 of `/readyz`.

    Args:
        arguments: The module and its arguments.
        environment: Variables in addition to this process's.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.port = 0
        self.ready_s = 0.0
        self._command = [sys.executable, "-m", *arguments]
        self._name = " ".join(arguments[:2])
        self._environment = {**_environment(), **(environment or {})}
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._log, self._errors = folder / "stdout", folder / "stderr"
            stdout = stack.enter_context(self._log.open("wb"))
            stderr = stack.enter_context(self._errors.open("wb"))
            started = time.perf_counter()
            stack.callback(self._stop)
            with signals_deferred():
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our modules
                    self._command,
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
            self._wait_until_ready(started)
            self.ready_s = time.perf_counter() - started
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, path: str) -> tuple[int, str]:
        """Send GET; returns the status and the body.

        Raises:
            BenchError: The server does not answer.
        """
        try:
            return self._get(path)
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{self._name} does not answer {path}") from error

    @property
    def pid(self) -> int:
        """Of the process that was started; 0 before."""
        return self._process.pid if self._process else 0

    def exit_status(self) -> int | None:
        """Of the process; None while it runs."""
        return self._process.poll() if self._process else None

    def count_events(self, *events: str) -> int:
        """How many lines the log has with one of these events so far."""
        lines = self._log.read_text(errors="replace").split("\n")
        return sum(_parse(line).get("event") in events for line in lines)

    def log_lines(self) -> list[str]:
        """Return the lines of the log so far."""
        return self._log.read_text(errors="replace").splitlines()

    def usage(self) -> Usage | None:
        """Processor time and memory so far, children included."""
        return read_usage(self._process.pid) if self._process else None

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def _wait_until_ready(self, started: float) -> None:
        while time.perf_counter() - started < _READY_TIMEOUT_S:
            if self._process is not None and self._process.poll() is not None:
                lines = self._errors.read_text(errors="replace").split("\n")
                sentence = next((line for line in reversed(lines) if line.strip()), "no message")
                raise BenchError(f"{self._name} ended before it was ready: {sentence}")
            self._read_log()
            if self.port:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if self._get("/readyz")[0] == 200:
                        return
            time.sleep(_POLL_S)
        raise BenchError(f"{self._name} was not ready within {_READY_TIMEOUT_S} seconds")

    def _read_log(self) -> None:
        """Look for the address of the server and for errors that prevent readiness.

        Raises:
            BenchError: The server logged an error.
        """
        for event in map(_parse, self._log.read_text(errors="replace").split("\n")):
            if event.get("level") == "error":
                raise BenchError(f"{self._name}: {event.get('event')}: {event.get('reason', '')}")
            if not self.port and "address" in event:
                self.port = int(str(event["address"]).rpartition(":")[2])

    def _stop(self) -> None:
        """Stop the process group: SIGTERM, then SIGKILL."""
        process = self._process
        if process is None:
            return
        with signals_deferred():
            self._signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
            self._signal(process.pid, signal.SIGKILL)
            process.wait()

    @staticmethod
    def _signal(group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def serve(
    models: Path,
    engine: str,
    options: Sequence[str] = (),
    *,
    module: str = "app",
    environment: Mapping[str, str] | None = None,
) -> Server:
    """The service on a free port; `options` override the ones set here."""
    return Server(
        *(module, "serve", "--port", "0", "--models-dir", str(models)),
        *("--engine", engine, "--device", "cpu", "--drain-delay-s", "0", *options),
        environment=environment,
    )


def serve_floor(framework: str) -> Server:
    """The bare route in one process, on a free port."""
    return Server("load_tests.bench.floor", framework)


def _environment() -> dict[str, str]:
    """This environment without the service's variables, so that the command has all settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VALENCE_")}


def _parse(line: str) -> dict[str, Any]:
    """Parse a log event; empty for any other line, such as a partly written one."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
