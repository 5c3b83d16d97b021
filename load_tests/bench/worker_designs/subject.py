"""A running server under test, and what is sent to it."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.bench.load import Generator
from load_tests.bench.server import Server
from load_tests.bench.worker_designs.designs import Design
from load_tests.bench.worker_designs.sockets import count_connections, workers_of

_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        models_dir: A repository of models.
        model: Its default model.
        workers: Of each design.
        bodies: What is sent, one text each, no two alike.
        connections: Of the load and of the faults.
        seconds: Of the load in each round.
        generator: Sends the load.
    """

    models_dir: Path
    model: str
    workers: int
    bodies: Sequence[bytes]
    connections: int
    seconds: float
    generator: Generator


@dataclass(frozen=True, slots=True)
class Subject:
    """One running server.

    Attributes:
        design: Of its workers.
        plan: What is sent to it.
        server: The process.
    """

    design: Design
    plan: Plan
    server: Server

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        return workers_of(self.server.pid)

    def connections(self) -> dict[int, int]:
        """How many connections each worker holds."""
        return count_connections(self.workers(), self.port)

    def times_ready(self) -> int:
        """How often all workers became ready."""
        return self.design.count_ready(self.server, self.plan.workers)

    def kill_worker(self) -> int:
        """Kill the worker with the most connections; returns how many it held."""
        held = self.connections()
        victim = max(held, key=lambda pid: held[pid])
        os.kill(victim, signal.SIGKILL)
        return held[victim]


@contextlib.contextmanager
def run_subject(design: Design, plan: Plan) -> Iterator[Subject]:
    """Start a server and wait until all of its workers are ready."""
    with design.start(plan.models_dir, plan.workers) as server:
        subject = Subject(design, plan, server)
        asyncio.run(until("all workers are ready", lambda: subject.times_ready() > 0))
        yield subject


async def until(what: str, condition: Callable[[], bool], seconds: float = _PATIENCE_S) -> None:
    """Wait for a condition that a server fulfils by itself.

    Args:
        what: The condition in words, for the error.
        condition: Asked again and again.
        seconds: How long.

    Raises:
        BenchError: It is not fulfilled in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {seconds:.0f} seconds: {what}")
        await asyncio.sleep(_POLL_S)
