"""The promises that a design keeps, each seen once on a running server."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.bench.scrape import parse
from load_tests.bench.worker_designs.client import Connection, get, open_connections, post
from load_tests.bench.worker_designs.designs import Design
from load_tests.bench.worker_designs.subject import Plan, Subject, run_subject, until

PROBES: Final = 32
"""New connections while a worker is stopped."""

_CONNECTIONS: Final = 16  # enough that no worker is left out
_NOTICED_AFTER_S: Final = 2.0
_PROBE_WITHIN_S: Final = 2.0
_ASK_EVERY_S: Final = 0.02
_READY_ASKED: Final = 3000
_REPLACED_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Promises:
    """What a design keeps by itself.

    Attributes:
        merged_metrics: `/metrics` of any worker counts the requests of all.
        ready_of_all: `/readyz` of a worker that lives tells that another one is missing.
        answered_beside_stopped: How many new connections of 32 were answered within 2 s, while one
            worker had been stopped for 2 s.
        replaced_after_s: Until the stopped worker was replaced; None where it was not within 60 s.
    """

    merged_metrics: bool
    ready_of_all: bool
    answered_beside_stopped: int
    replaced_after_s: float | None


def check_promises(design: Design, plan: Plan) -> Promises:
    """See which promises a design keeps."""
    with run_subject(design, plan) as subject:
        merged_metrics = asyncio.run(_merges_metrics(subject))
        ready_of_all = asyncio.run(_tells_of_all(subject))
        answered, replaced_after_s = asyncio.run(_stop_worker(subject))
    return Promises(merged_metrics, ready_of_all, answered, replaced_after_s)


async def _merges_metrics(subject: Subject) -> bool:
    """Send texts over several connections, then ask each connection how many texts there were."""
    bodies = subject.plan.bodies[:_CONNECTIONS]
    async with open_connections(subject.port, _CONNECTIONS) as opened:
        pairs = zip(opened, bodies, strict=True)
        await asyncio.gather(*(connection.send(post(body)) for connection, body in pairs))
        pages = await asyncio.gather(*(connection.send(get("/metrics")) for connection in opened))
    counts = {parse(page.decode(), subject.plan.model).items for _, page in pages}
    return counts == {_CONNECTIONS}


async def _tells_of_all(subject: Subject) -> bool:
    """Kill a worker, then ask connections of those that live until it is replaced."""
    before = subject.times_ready()
    async with open_connections(subject.port, _CONNECTIONS) as opened:
        await asyncio.gather(*(connection.send(get("/livez")) for connection in opened))
        subject.kill_worker()
        asking = [asyncio.create_task(_is_unready(connection)) for connection in opened]
        try:
            await until("the worker is replaced", lambda: subject.times_ready() > before)
            return any(task.done() and task.result() for task in asking)
        finally:
            for task in asking:
                task.cancel()


async def _is_unready(connection: Connection) -> bool:
    """Whether `/readyz` answers 503 sooner or later, on a connection that may end before."""
    try:
        for _ in range(_READY_ASKED):
            if (await connection.send(get("/readyz")))[0] == 503:
                return True
            await asyncio.sleep(_ASK_EVERY_S)
    except (OSError, EOFError):
        pass
    return False


async def _stop_worker(subject: Subject) -> tuple[int, float | None]:
    """Stop a worker, open new connections, and see how long it takes to be replaced."""
    victim = subject.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    stopped_at = time.monotonic()
    await asyncio.sleep(_NOTICED_AFTER_S)
    body = subject.plan.bodies[0]
    answered = await asyncio.gather(*(_is_answered(subject.port, body) for _ in range(PROBES)))
    with contextlib.suppress(BenchError):
        await until(
            "the stopped worker is gone",
            lambda: victim not in subject.workers(),
            _REPLACED_WITHIN_S,
        )
        return sum(answered), time.monotonic() - stopped_at
    os.kill(victim, signal.SIGCONT)
    return sum(answered), None


async def _is_answered(port: int, body: bytes) -> bool:
    """Whether a new connection gets an answer soon."""
    connection = Connection(port)
    try:
        async with asyncio.timeout(_PROBE_WITHIN_S):
            await connection.open()
            status, _ = await connection.send(post(body))
    except (OSError, EOFError):
        return False
    else:
        return status == 200
    finally:
        await connection.close()
