"""A real server process, started like by a user, and its log."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import httpx

COMMAND = (sys.executable, "-m", "app")
ROOT = Path(__file__).parents[1]
PATIENCE_S = 120
_REMOVED = ("VALENCE_", "TF_CPP_", "ORT_", "PYTHON")
_KEPT = ("PYTHONPATH", "PYTHONHOME")  # where the packages under test are


def environment(*, gpu: bool = False) -> dict[str, str]:
    """Ours, without what would change how a process under test behaves."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.upper().startswith(_REMOVED)
    }
    return clean if gpu else clean | {"CUDA_VISIBLE_DEVICES": "-1"}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment() | variables,
        timeout=PATIENCE_S,
        capture_output=True,
        text=True,
        check=False,
    )


class LoggingProcess:
    """A process that logs JSON to stdout; its log is read while it runs."""

    def __init__(self, *command: str, gpu: bool = False) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(gpu=gpu),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.log: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read_log, args=(self.process.stdout,)),
            threading.Thread(target=self.errors.extend, args=(self.process.stderr,)),
        ]
        for reader in self._readers:
            reader.start()

    def _read_log(self, stream: Any) -> None:
        for line in stream:
            with self._news:
                self.log.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self.log.append({"event": "the log has ended"})
            self._news.notify_all()

    def events(self) -> list[str]:
        """The events of the log, without their fields."""
        return [line["event"] for line in self.log]

    def wait_for(self, event: str, *, times: int = 1) -> dict[str, Any]:
        """Wait until an event was logged so many times; returns its first line."""

        def settled() -> bool:
            return self.events().count(event) >= times or "the log has ended" in self.events()

        with self._news:
            assert self._news.wait_for(settled, PATIENCE_S), self.log
        assert self.events().count(event) >= times, (self.log, self.errors)
        return self.log[self.events().index(event)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(sig)
        return self.wait()

    def wait(self) -> int:
        """Return the exit status, once the log has been read to its end."""
        status = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return status

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class ServerProcess(LoggingProcess):
    """A `valence serve` process; `setup` is a shell command that is run in it before."""

    def __init__(
        self,
        models: Path,
        *options: str,
        gpu: bool = False,
        setup: str = "",
    ) -> None:
        # The last value counts: a test that is about the delay sets its own.
        address = ("--port", "0", "--models-dir", str(models), "--drain-delay-s", "0")
        before = ("sh", "-c", f'{setup}; exec "$@"', "sh") if setup else ()
        super().__init__(*before, *COMMAND, "serve", *address, *options, gpu=gpu)

    def client(self) -> httpx.Client:
        """A client for the address in the log."""
        address = self.wait_for("the service is starting")["address"]
        return httpx.Client(base_url=address, timeout=PATIENCE_S)
