"""What is done to the service while clients ask: new versions, moved aliases, killed workers."""

import http.client
import json
import math
import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from load_tests.bench.processes import PROC
from load_tests.bench.server import Server
from load_tests.bench.swaps import publish
from load_tests.soak.truth import Line
from load_tests.soak.verdict import Ledger
from load_tests.wire import Connection

_CHANGE_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05
_DYING_POLL_S: Final = 0.001
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_LOCAL_PORT, _REMOTE_PORT, _INODE = 1, 2, 9
"""The columns of /proc/net/tcp."""

Note = Callable[[str], None]
"""Notes what was done."""


class Reloads:
    """New versions of one model, aliases that move, and versions that must be rejected.

    Each new version is a copy of the next of the sources, so neighbouring versions give different
    answers.

    Args:
        server: The service.
        models: Its repository.
        name: The model.
        sources: Version folders.
        stable: The versions behind the alias `stable`, which answers requests without a version.
        canary: The versions behind the alias `canary`.
        ledger: Counts the changes that do not take effect.
        note: Notes what was done.
        rng: Decides what is done.
    """

    def __init__(
        self,
        server: Server,
        models: Path,
        name: str,
        sources: Sequence[Path],
        *,
        stable: Line,
        canary: Line,
        ledger: Ledger,
        note: Note,
        rng: random.Random,
    ) -> None:
        self._server = server
        self._models = models
        self._name = name
        self._sources = sources
        self._stable = stable
        self._canary = canary
        self._ledger = ledger
        self._note = note
        self._rng = rng
        self._newest = len(sources)
        self._answering, self._trying = 1, self._newest

    def take_turn(self) -> None:
        """Change something, and wait until it has taken effect."""
        self._rng.choice((self.publish_new, self.publish_new, self.roll_back, self.publish_bad))()

    def publish_new(self) -> None:
        """A new version answers, the one before is the canary, older ones are removed."""
        self._newest += 1
        publish(self._source_of(self._newest), self._models, self._name, self._newest)
        self._look()
        if not self._await("reload", self._newest, "ready"):
            return
        before, removed = self._answering, self._trying
        self._move(stable=self._newest, canary=before)
        if removed not in (before, self._newest):
            shutil.rmtree(self._models / self._name / str(removed))
            self._look()
        self._note("reload")

    def roll_back(self) -> None:
        """`stable` and `canary` change places."""
        self._move(stable=self._trying, canary=self._answering)
        self._note("rollback")

    def publish_bad(self) -> None:
        """A version with a damaged file is rejected, and removed."""
        number = self._newest + 1
        folder = publish(self._source_of(number), self._models, self._name, number)
        (folder / "model.onnx").write_bytes(b"half")
        self._look()
        self._await("bad version", number, "rejected")
        shutil.rmtree(folder)
        self._look()
        self._await("bad version", number, None)
        self._note("bad version")

    def _source_of(self, number: int) -> Path:
        return self._sources[number % len(self._sources)]

    def _look(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._server.pid, signal.SIGHUP)

    def _move(self, *, stable: int, canary: int) -> None:
        self._stable.announce(stable)
        self._canary.announce(canary)
        aside = self._models / self._name / ".aliases.json"
        aside.write_text(json.dumps({"stable": stable, "canary": canary}))
        aside.replace(self._models / self._name / "aliases.json")
        self._answering, self._trying = stable, canary
        self._look()
        self._wait("aliases", lambda: self._stable.has_arrived() and self._canary.has_arrived())

    def _await(self, what: str, number: int, state: str | None) -> bool:
        return self._wait(f"{what} {number}", lambda: self._state_of(number) == state)

    def _state_of(self, number: int) -> str | None:
        listed = get_json(self._server.port, f"/models/{self._name}")
        states = {each["version"]: str(each["state"]) for each in listed.get("versions", ())}
        return states.get(number)

    def _wait(self, what: str, condition: Callable[[], bool]) -> bool:
        until = time.monotonic() + _CHANGE_TIMEOUT_S
        while not condition():
            if time.monotonic() > until:
                self._ledger.count("fault", what)
                return False
            time.sleep(_POLL_S)
        return True


@dataclass(slots=True)
class _Kill:
    """A worker that was killed.

    Attributes:
        living: The connections of the other workers just before, by their clients' ports.
        ended_at: When it had ended, on the monotonic clock.
    """

    living: frozenset[int]
    ended_at: float = math.inf


class Kills:
    """kill -9 of one worker after another, each when all are ready.

    Requests in flight on a killed worker are lost with it. A connection was on it if it was opened
    before the worker's end, and belongs to none of the workers that live on. While the system takes
    a process down, it still gets connections: its end is when its sockets are closed.

    Args:
        server: The service.
        note: Notes what was done.
        rng: Chooses the worker.
    """

    def __init__(self, server: Server, note: Note, rng: random.Random) -> None:
        self._server = server
        self._note = note
        self._rng = rng
        self._kills: list[_Kill] = []

    def take_turn(self) -> None:
        """Kill a worker, if all are ready."""
        if not all_ready(self._server.port):
            return
        workers = children_of(self._server.pid)
        victim = self._rng.choice(workers)
        living = ports_of([pid for pid in workers if pid != victim], self._server.port)
        kill = _Kill(living)
        self._kills.append(kill)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            while _is_running(victim):
                time.sleep(_DYING_POLL_S)
        kill.ended_at = time.monotonic()
        self._note("kill -9")

    def was_killed(self, connection: Connection) -> bool:
        """Whether a connection ended because its worker was killed."""
        return any(
            connection.opened < kill.ended_at and connection.local_port not in kill.living
            for kill in self._kills
        )


def _is_running(pid: int, proc: Path = PROC) -> bool:
    """Whether a process has not been reaped: until its last thread ends, its sockets are open."""
    return (proc / str(pid)).exists()


def all_ready(port: int) -> bool:
    """Whether every worker can answer."""
    workers = get_json(port, "/readyz").get("workers") or [""]
    return all(phase == "ready" for phase in workers)


def get_json(port: int, path: str) -> dict[str, Any]:
    """The answer to GET as JSON; empty without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection), suppress(OSError, http.client.HTTPException, ValueError):
        connection.request("GET", path)
        content = json.loads(connection.getresponse().read())
        return content if isinstance(content, dict) else {}
    return {}


def children_of(pid: int, proc: Path = PROC) -> list[int]:
    """The child processes of a process."""
    return [int(c) for c in (proc / f"{pid}/task/{pid}/children").read_text().split()]


def ports_of(pids: Sequence[int], port: int, proc: Path = PROC) -> frozenset[int]:
    """The clients' ports of the connections that some processes hold.

    Args:
        pids: The processes.
        port: The port of the service.
        proc: Where the system shows them.
    """
    inodes = set()
    for pid in pids:
        for descriptor in (proc / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if found := _SOCKET.fullmatch(str(descriptor.readlink())):
                    inodes.add(found[1])
    rows = (line.split() for line in (proc / "net" / "tcp").read_text().splitlines()[1:])
    return frozenset(
        int(row[_REMOTE_PORT].rpartition(":")[2], 16)
        for row in rows
        if row[_INODE] in inodes and int(row[_LOCAL_PORT].rpartition(":")[2], 16) == port
    )


def repeat(turn: Callable[[], None], pause_s: float, stop: threading.Event) -> None:
    """Take turns, with pauses between them, until all is over."""
    while not stop.wait(pause_s):
        turn()
