"""A client that accounts for every request while a service loses a worker or ends."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

_HOST: Final = "127.0.0.1"
_REQUESTS_PER_CONNECTION: Final = 20
_ANSWER_WITHIN_S: Final = 10.0
_RETRY_AFTER_S: Final = 0.02


@dataclass
class Account:
    """What became of the requests.

    Attributes:
        answered: Complete answers with status 200.
        unanswered: Requests sent on an established connection that ended, or was silent for 10
            seconds, before the answer was complete.
        not_ready: Complete answers with another status; 503 from a worker that is not ready.
        refused: Connections that could not be made, so that a request could not be sent.
    """

    answered: int = 0
    unanswered: int = 0
    not_ready: int = 0
    refused: int = 0


@contextlib.asynccontextmanager
async def open_connections(port: int, count: int) -> AsyncIterator[list["Connection"]]:
    """Open connections, all at once; close them at the end of the context."""
    opened = [Connection(port) for _ in range(count)]
    try:
        await asyncio.gather(*(connection.open() for connection in opened))
        yield opened
    finally:
        await asyncio.gather(*(connection.close() for connection in opened))


def get(path: str) -> bytes:
    """A request for a page."""
    return f"GET {path} HTTP/1.1\r\nHost: {_HOST}\r\n\r\n".encode()


def post(body: bytes) -> bytes:
    """A request for a prediction."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """One HTTP connection.

    Attributes:
        closing: The server has announced that it closes after the last answer.
    """

    def __init__(self, port: int) -> None:
        self.closing = False
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            OSError: The connection is refused.
        """
        self._streams = await asyncio.open_connection(_HOST, self._port)

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of its answer.

        Raises:
            OSError: The connection has ended.
            EOFError: It ended before the answer was complete.
            TimeoutError: The answer took longer than 10 seconds.
        """
        if self._streams is None:
            raise ConnectionError("the connection must be open")
        reader, writer = self._streams
        writer.write(request)
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            lines = head.split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in lines[1:] if line)
            self.closing = headers.get(b"connection") == b"close"
            body = await reader.readexactly(int(headers.get(b"content-length", 0)))
        return int(lines[0].split(b" ")[1]), body

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(OSError):
                await self._streams[1].wait_closed()


class Client:
    """Keep-alive connections that send one request after the other.

    A connection is replaced after 20 requests, so that some are always being opened.

    Args:
        port: Of the service, on this machine.
        bodies: JSON, sent in turn by all connections together.
        until_refused: A connection that is refused is not tried again: the service is ending, and
            its port is closed.

    Attributes:
        account: What became of the requests so far.
    """

    def __init__(self, port: int, bodies: Sequence[bytes], *, until_refused: bool) -> None:
        self.account = Account()
        self._port = port
        self._requests = itertools.cycle([post(body) for body in bodies])
        self._until_refused = until_refused
        self._stopped = False

    @contextlib.asynccontextmanager
    async def sending(self, connections: int) -> AsyncIterator[None]:
        """Send from the beginning to the end of the context, then wait for the last answers."""
        tasks = [asyncio.create_task(self._run()) for _ in range(connections)]
        try:
            yield
        finally:
            self._stopped = True
            await asyncio.gather(*tasks)

    async def _run(self) -> None:
        """Keep one connection busy."""
        while not self._stopped:
            connection = Connection(self._port)
            try:
                await connection.open()
            except OSError:
                self.account.refused += 1
                if self._until_refused:
                    return
                await asyncio.sleep(_RETRY_AFTER_S)
                continue
            try:
                await self._use(connection)
            except (OSError, EOFError):  # TimeoutError is one
                self.account.unanswered += 1
            finally:
                await connection.close()

    async def _use(self, connection: Connection) -> None:
        for _ in range(_REQUESTS_PER_CONNECTION):
            if self._stopped or connection.closing:
                return
            status, _ = await connection.send(next(self._requests))
            if status == 200:
                self.account.answered += 1
            else:
                self.account.not_ready += 1
                await asyncio.sleep(_RETRY_AFTER_S)
