"""The figures of one round: load, spread, a worker that is killed, and the end of the service."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from load_tests.bench.load import Load
from load_tests.bench.worker_designs.client import Account, Client, get, open_connections
from load_tests.bench.worker_designs.designs import Design
from load_tests.bench.worker_designs.subject import Plan, Subject, run_subject, until

SPREAD_OVER: Final = (8, 64)
"""Numbers of connections whose spread over the workers is counted."""

_SPREADS_PER_ROUND: Final = 4
_BUSY_AFTER_S: Final = 1.0


@dataclass
class Fault:
    """What a fault cost.

    Attributes:
        account: Of the requests around it.
        held: Connections of the worker that was killed, just before.
        seconds: Until all workers were ready again, or until the service had ended.
    """

    account: Account
    held: int
    seconds: float


@dataclass
class Round:
    """One life of one server, from its start to SIGTERM under load.

    Attributes:
        ready_s: From the start to all workers ready.
        shares: The largest share that one worker got of new connections, by how many there were.
        requests_per_s: Under the load of the generator.
        p99_ms: Under the same load.
        errors: Failed requests of that load.
        resident_bytes: Memory after it, shared pages counted once.
        kill: One worker killed under load.
        end: SIGTERM to the parent under load.
    """

    ready_s: float
    shares: dict[int, list[float]]
    requests_per_s: float
    p99_ms: float
    errors: int
    resident_bytes: int
    kill: Fault
    end: Fault


def measure_round(design: Design, plan: Plan) -> Round:
    """Start a server, count its connections, load it, kill one of its workers, and end it."""
    started = time.monotonic()
    with run_subject(design, plan) as subject:
        ready_s = time.monotonic() - started
        shares = {
            count: [asyncio.run(largest_share(subject, count)) for _ in range(_SPREADS_PER_ROUND)]
            for count in SPREAD_OVER
        }
        load = Load(subject.port, plan.bodies, plan.connections, plan.seconds)
        outcome = plan.generator.run(load)
        usage = subject.server.usage()
        return Round(
            ready_s=ready_s,
            shares=shares,
            requests_per_s=outcome.answered / outcome.seconds,
            p99_ms=outcome.p99_ms,
            errors=sum(outcome.errors.values()),
            resident_bytes=usage.resident_bytes if usage else 0,
            kill=asyncio.run(_kill_under_load(subject)),
            end=asyncio.run(_terminate_under_load(subject)),
        )


async def largest_share(subject: Subject, count: int) -> float:
    """Open `count` connections at once; the share of the worker that got the most of them."""
    await until("old connections are closed", lambda: not any(subject.connections().values()))
    async with open_connections(subject.port, count) as opened:
        await asyncio.gather(*(connection.send(get("/livez")) for connection in opened))
        return max(subject.connections().values()) / count


async def _kill_under_load(subject: Subject) -> Fault:
    before = subject.times_ready()

    async def kill() -> int:
        held = subject.kill_worker()
        await until("the worker is replaced", lambda: subject.times_ready() > before)
        return held

    return await _disturb(subject, kill, until_refused=False)


async def _terminate_under_load(subject: Subject) -> Fault:
    async def terminate() -> int:
        os.kill(subject.server.pid, signal.SIGTERM)
        await until("the service has ended", lambda: subject.server.exit_status() is not None)
        return 0

    return await _disturb(subject, terminate, until_refused=True)


async def _disturb(
    subject: Subject, fault: Callable[[], Awaitable[int]], *, until_refused: bool
) -> Fault:
    """Account for the requests around a fault, which returns the connections it cut off."""
    client = Client(subject.port, subject.plan.bodies, until_refused=until_refused)
    async with client.sending(subject.plan.connections):
        await asyncio.sleep(_BUSY_AFTER_S)
        started = time.monotonic()
        held = await fault()
        seconds = time.monotonic() - started
    return Fault(client.account, held, seconds)
