"""The comparison of worker designs, without the service."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from load_tests.bench.worker_designs.client import Account, Client, get, open_connections
from load_tests.bench.worker_designs.designs import DESIGNS
from load_tests.bench.worker_designs.promises import Promises
from load_tests.bench.worker_designs.rounds import SPREAD_OVER, Fault, Round
from load_tests.bench.worker_designs.sockets import count_connections, workers_of
from load_tests.bench.worker_designs.table import make_table, summarize
from tests.fakes import until

pytestmark = pytest.mark.anyio

needs_proc = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="the system has no /proc"
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
UNREADY = b"HTTP/1.1 503 Unready\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def serve(*answers: bytes) -> AsyncIterator[int]:
    """A server that gives these answers in turn, the last for ever; yields its port.

    It closes a connection after an answer that is not complete.
    """
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content = OK
        while content in (OK, LAST, UNREADY) and await reader.read(65_536):
            content = left.pop(0) if len(left) > 1 else left[0]
            writer.write(content)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def send_until_answered(port: int) -> Account:
    """Send on one connection until there is an answer with status 200."""
    client = Client(port, [b"{}"], until_refused=False)
    async with client.sending(1):
        await until(lambda: client.account.answered > 0)
    return client.account


async def test_status() -> None:
    """Complete answers are counted by their status, 200 or another one."""
    async with serve(UNREADY, UNREADY, OK) as port:
        found = await send_until_answered(port)
    assert (found.not_ready, found.unanswered, found.refused) == (2, 0, 0)


@pytest.mark.parametrize("cut", [b"", OK[:20], OK[:-1]], ids=["nothing", "head", "body"])
async def test_answer_that_is_cut_off(cut: bytes) -> None:
    """A request whose answer is cut off is unanswered, and the client connects again."""
    async with serve(cut, cut, OK) as port:
        assert (await send_until_answered(port)).unanswered == 2


async def test_announced_end() -> None:
    """A client does not send on a connection that the server has announced to close."""
    async with serve(LAST, OK) as port:
        async with open_connections(port, 1) as (connection,):
            assert await connection.send(get("/")) == (200, b"ok")
            assert connection.closing
        assert (await send_until_answered(port)).unanswered == 0


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_refused_while_the_service_ends() -> None:
    """A refused connection is counted once when the service is ending."""
    client = Client(closed_port(), [b"{}"], until_refused=True)
    async with client.sending(3):
        await until(lambda: client.account.refused == 3)
    assert client.account == Account(refused=3)


async def test_refused_while_the_service_should_run() -> None:
    """A client that is refused tries again, and every try is counted."""
    client = Client(closed_port(), [b"{}"], until_refused=False)
    async with client.sending(1):
        await until(lambda: client.account.refused > 1)
    assert (client.account.answered, client.account.unanswered) == (0, 0)


@needs_proc
def test_connections_of_a_process() -> None:
    """Established connections to a port are counted for the process that accepted them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert count_connections([os.getpid()], port) == {os.getpid(): 0}
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            assert count_connections([os.getpid()], port) == {os.getpid(): 1}


@needs_proc
def test_workers_of_nobody() -> None:
    """A process that has ended has no workers and no connections."""
    gone = 2**22 + 1  # above the largest process id that Linux gives
    assert workers_of(gone) == []
    assert count_connections([gone], 1) == {gone: 0}


def a_round(requests_per_s: float) -> Round:
    return Round(
        ready_s=1.0,
        shares={count: [0.5, 0.75] for count in SPREAD_OVER},
        requests_per_s=requests_per_s,
        p99_ms=50.0,
        errors=0,
        resident_bytes=2**28,
        kill=Fault(Account(unanswered=32), held=32, seconds=1.0),
        end=Fault(Account(), held=0, seconds=0.5),
    )


def test_table() -> None:
    """The table has a column for each design, ratios round by round, and the promises."""
    rounds = {
        design.name: [a_round(1000.0 * factor), a_round(3000.0 * factor)]
        for factor, design in enumerate(DESIGNS, start=1)
    }
    promises = {design.name: Promises(True, False, 16, None) for design in DESIGNS}
    table = make_table(rounds, promises)
    assert "| requests/s | 2,000 (1,000 to 3,000) | 4,000 (2,000 to 6,000) |" in table
    assert "| over supervisor | 1.00 | 2.00 | 3.00 |" in table
    assert "| largest share of 64 connections | 62% (50% to 75%) |" in table
    assert "| a worker stopped: new connections answered | 16 of 32 |" in table
    assert "lines of its own code" in table
    assert "stopped" not in make_table(rounds, {})


def test_summary() -> None:
    """A figure is its median, with its range where there is one."""
    assert summarize([3, 1, 2], ".0f") == "2 (1 to 3)"
    assert summarize([2, 2], ".1f") == "2.0"
