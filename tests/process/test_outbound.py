"""A running service looks nothing up, connects to nobody and writes no file."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.workers import can_fork_workers
from tests.server import PATIENCE_S, ROOT, environment

ISOLATE = ("unshare", "--net", "--map-root-user")
SERVICES = {
    "one process": ("serve", "--workers", "1", "--engine", "onnx", "--drain-delay-s", "0"),
    "several workers": ("serve", "--workers", "2", "--engine", "onnx", "--drain-delay-s", "0"),
}
PROGRAMS = {**SERVICES, "training": ("training",)}

Seen = dict[str, tuple[list[str], list[str]]]
"""The packets that a program has sent, and the files that it has written, by its name."""


def may_isolate() -> bool:
    """Whether this machine lets us have a network namespace, and has `ip` to set it up."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*ISOLATE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.skipif(not may_isolate(), reason="no network namespace: unshare or ip fails"),
    pytest.mark.skipif(not can_fork_workers(), reason="one process is all there is here"),
]


class Isolated:
    """A program of `tests.isolated` with an empty home folder and an empty temporary folder."""

    def __init__(self, folder: Path, *program: str) -> None:
        self.home, self._temporary = folder / "home", folder / "tmp"
        for path in (self.home, self._temporary):
            path.mkdir(parents=True)
        self._process = subprocess.Popen(
            [*ISOLATE, sys.executable, "-m", "tests.isolated", *program],
            cwd=ROOT,
            env=environment() | {"HOME": str(self.home), "TMPDIR": str(self._temporary)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_for(self, word: str) -> None:
        """Read on until the program says `word`."""
        assert self._process.stdout is not None
        line = next((line for line in self._process.stdout if line.strip() == word), "the end")
        assert line.strip() == word

    def files(self) -> list[str]:
        """What the program has written so far."""
        folders = (self.home, self._temporary)
        return [str(path) for folder in folders for path in folder.rglob("*")]

    def finish(self) -> list[str]:
        """End the program; the packets that were not HTTP to the service."""
        output, _ = self._process.communicate("finish\n", timeout=PATIENCE_S)
        assert self._process.returncode == 0
        packets: list[str] = json.loads(output.splitlines()[-1])
        return packets


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """The packets and the files of each program, and of ONNX Runtime with its telemetry on.

    ONNX Runtime looks its host up seconds after it was imported. So the control imports it when
    the programs have long done so: once its look-up was seen, theirs would have been, too.
    """
    with ExitStack() as stack:

        def start(name: str, *program: str) -> Isolated:
            return stack.enter_context(Isolated(tmp_path_factory.mktemp(name), *program))

        programs = {name: start("program", *program) for name, program in PROGRAMS.items()}
        for program in programs.values():
            program.wait_for("running")
        control = programs["control"] = start("control", "onnxruntime")
        control.wait_for("running")
        if control.files():  # this version of ONNX Runtime has telemetry
            control.wait_for("packet")
        yield {name: (program.finish(), program.files()) for name, program in programs.items()}


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_silent(seen: Seen, service: str) -> None:
    """A service that has answered requests has sent no packet but answers, and written no file."""
    assert seen[service] == ([], [])


def test_training_sends_no_telemetry(seen: Seen) -> None:
    """Training runs a model on ONNX Runtime without a packet and without the files of telemetry."""
    packets, files = seen["training"]
    assert packets == []
    assert not any("Microsoft" in path for path in files)


def test_telemetry_would_be_seen(seen: Seen) -> None:
    """The look-up and the files of ONNX Runtime's telemetry are seen here where it is on."""
    packets, files = seen["control"]
    if not files:
        pytest.skip("this version of ONNX Runtime has no telemetry")
    assert any("events" in packet for packet in packets)
    assert any(path.endswith("onnxruntime.db") for path in files)
