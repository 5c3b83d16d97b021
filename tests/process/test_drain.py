import asyncio
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.server import ServerProcess

BODY = b'{"text": "superb"}'
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: valence\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
)
CONNECTIONS, LONGEST_PAUSE_S, DELAY_S = 256, 0.5, 2


@dataclass
class Account:
    """What became of the requests of all connections.

    Attributes:
        answered: Answered with 200.
        lost: Sent on a connection that the server then closed without an answer.
        told: Connections whose last answer said `Connection: close`.
    """

    answered: int = 0
    lost: int = 0
    told: int = 0


async def ask_now_and_then(address: httpx.URL, account: Account) -> None:
    """Ask on one connection, with pauses, until an answer says that it is the last."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    told = False
    while not told:
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))
        writer.write(REQUEST)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            account.lost += 1
            break
        assert head.startswith(b"HTTP/1.1 200 ")
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        account.answered += 1
        told = b"\r\nconnection: close\r\n" in head
    account.told += told
    writer.close()


async def ask_until_the_end(server: ServerProcess) -> Account:
    """Ask on many connections, send SIGTERM, and go on until every connection is closed."""
    address = httpx.URL(server.wait_for("the service is ready") and server.log[0]["address"])
    account = Account()
    clients = [asyncio.create_task(ask_now_and_then(address, account)) for _ in range(CONNECTIONS)]
    while account.answered < CONNECTIONS:  # noqa: ASYNC110 - the count has no event
        await asyncio.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    return account


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sparse_connections(workers: str, bow_models: Path) -> None:
    """At SIGTERM no request is lost on many connections that rarely ask, and each is told."""
    options = ("--workers", workers, "--threads", "1", "--drain-delay-s", str(DELAY_S))
    with ServerProcess(bow_models, *options) as server:
        account = asyncio.run(ask_until_the_end(server))
        assert (account.lost, account.told) == (0, CONNECTIONS)
        assert server.wait() == 0
