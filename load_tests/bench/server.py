"""A server of ours as a process of its own: started, waited for, asked, always ended."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError
from load_tests.bench.processes import Usage, read_usage
from load_tests.bench.signals import signals_later

ROOT: Final = Path(__file__).parents[2]

_PATIENCE_S: Final = 90
_POLL_S: Final = 0.005
_STOP_S: Final = 10
_ANSWER_S: Final = 30


class Server:
    """`python -m ...` in a process group of its own, from entering the context to leaving it.

    It must print lines of JSON, one of which has its `address`, and answer `/readyz`.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        ready_s: From the start of the process to the first 200 of `/readyz`.
    """

    def __init__(self, *arguments: str) -> None:
        self.port = 0
        self.ready_s = 0.0
        self._command = [sys.executable, "-m", *arguments]
        self._what = " ".join(arguments[:2])
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._log, self._complaints = folder / "stdout", folder / "stderr"
            stdout = stack.enter_context(self._log.open("wb"))
            stderr = stack.enter_context(self._complaints.open("wb"))
            started = time.perf_counter()
            stack.callback(self._stop)
            with signals_later():
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our modules
                    self._command,
                    cwd=ROOT,
                    env=_environment(),
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
        """Ask for a page; returns its status and text.

        Raises:
            BenchError: There is no answer.
        """
        try:
            return self._get(path)
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{self._what} does not answer {path}") from error

    def usage(self) -> Usage | None:
        """What it has taken of the machine so far, its children included."""
        return read_usage(self._process.pid) if self._process else None

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def _wait_until_ready(self, started: float) -> None:
        while time.perf_counter() - started < _PATIENCE_S:
            if self._process is not None and self._process.poll() is not None:
                lines = self._complaints.read_text(errors="replace").split("\n")
                sentence = next((line for line in reversed(lines) if line.strip()), "no word")
                raise BenchError(f"{self._what} ended before it was ready: {sentence}")
            self._read_log()
            if self.port:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if self._get("/readyz")[0] == 200:
                        return
            time.sleep(_POLL_S)
        raise BenchError(f"{self._what} was not ready within {_PATIENCE_S} seconds")

    def _read_log(self) -> None:
        """Look for the address, and for what keeps the server from becoming ready.

        Raises:
            BenchError: It logged an error.
        """
        for event in map(_parse, self._log.read_text(errors="replace").split("\n")):
            if event.get("level") == "error":
                raise BenchError(f"{self._what}: {event.get('event')}: {event.get('reason', '')}")
            if not self.port and "address" in event:
                self.port = int(str(event["address"]).rpartition(":")[2])

    def _stop(self) -> None:
        """End the whole group: politely, then not."""
        process = self._process
        if process is None:
            return
        with signals_later():
            self._signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            self._signal(process.pid, signal.SIGKILL)
            process.wait()

    @staticmethod
    def _signal(group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def serve(models: Path, engine: str, options: Sequence[str] = ()) -> Server:
    """The service, to be entered, on a free port; `options` win over what is set here."""
    return Server(
        *("app", "serve", "--port", "0", "--log-format", "json", "--models-dir", str(models)),
        *("--engine", engine, "--device", "cpu", *options),
    )


def serve_floor(framework: str) -> Server:
    """The bare route in one process, to be entered, on a free port."""
    return Server("load_tests.bench.floor", framework)


def _environment() -> dict[str, str]:
    """Ours without settings of the service: what was measured stands in the command alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VALENCE_")}


def _parse(line: str) -> dict[str, Any]:
    """An event of a log; empty for what is none, such as a line that is still being written."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
