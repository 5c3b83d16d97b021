"""The load generator for machines without wrk: one event loop, requests built beforehand.

It takes several times as much processor time as wrk, on the cores that the service uses too, so
measured throughput is lower and latency higher.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load, Outcome
from load_tests.bench.signals import signals_deferred
from load_tests.slo import percentile

_SAMPLE_EVERY: Final = 97  # a prime, so that the sample covers all bodies in time
_SAMPLE_SIZE: Final = 256
_MAX_ERRORS: Final = 1000


class Bundled:
    """Sends from this process, on uvloop where it is installed.

    Args:
        each_once: Send every body once and keep every answer, instead of sending until the time is
            up and keeping a sample. A request without an answer by then is an error.
    """

    name = "bundled"

    def __init__(self, *, each_once: bool = False) -> None:
        self._each_once = each_once

    def run(self, load: Load) -> Outcome:
        """Send requests for the duration of the load; see `Generator.run`."""

        async def send() -> Outcome:
            run = _Run(load, self._each_once)
            with signals_deferred(run.end_soon):
                return await run.outcome()

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(send())


class _Run:
    """The shared state of a run's connections. Create it on the running event loop."""

    def __init__(self, load: Load, each_once: bool) -> None:
        self.stopped = False
        self._load = load
        self._each_once = each_once
        self._requests = load.requests()
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._sent = 0
        self._latencies_s: list[float] = []
        self._errors: Counter[str] = Counter()
        self._sample: list[tuple[int, bytes]] = []

    async def outcome(self) -> Outcome:
        """Connect, then send requests and count answers until the run ends."""
        try:
            for _ in range(self._load.connections):
                await self._connect()
            started = time.perf_counter()
            self._loop.call_later(self._load.seconds, self._end)
            for connection in tuple(self._connections):
                connection.send()
            await self._ended
            seconds = time.perf_counter() - started
        except OSError as error:
            raise BenchError(f"no connection to port {self._load.port}") from error
        finally:
            await self._close()
        return self._count(seconds)

    def next_request(self) -> tuple[int, bytes] | None:
        """The next request and the position of its body; None if all have been sent."""
        if self._each_once and self._sent == len(self._requests):
            return None
        index = self._sent % len(self._requests)
        self._sent += 1
        return index, self._requests[index]

    def answered(self, index: int, seconds: float, status: int, body: bytes) -> None:
        """Count an answer."""
        if status != 200:
            self.failed(f"status {status}")
            return
        self._latencies_s.append(seconds)
        wanted = self._each_once or (
            len(self._latencies_s) % _SAMPLE_EVERY == 1 and len(self._sample) < _SAMPLE_SIZE
        )
        if wanted:
            self._sample.append((index, body))
        self._end_if_done()

    def failed(self, what: str) -> None:
        """Count a failed request."""
        self._errors[what] += 1
        if self._errors.total() >= _MAX_ERRORS:
            self._end()
        self._end_if_done()

    def lost(self, connection: "_Connection") -> None:
        """Replace a closed connection."""
        self._connections.discard(connection)
        if not self.stopped and not self._ended.done():
            task = self._loop.create_task(self._reconnect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _close(self) -> None:
        """Close all connections, including those that are being opened.

        uvloop's own close would wait for them forever.
        """
        self.stopped = True
        await asyncio.gather(*self._opening)
        while self._connections:
            for connection in tuple(self._connections):
                connection.close()
            await asyncio.sleep(0)

    async def _reconnect(self) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.failed("no connection")
            if not self._connections:
                self._end()
        else:
            if not self.stopped:
                connection.send()

    async def _connect(self) -> "_Connection":
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self), "127.0.0.1", self._load.port
        )
        self._connections.add(connection)
        return connection

    def _end_if_done(self) -> None:
        done = len(self._latencies_s) + self._errors.total()
        if self._each_once and done >= len(self._requests):
            self._end()

    def end_soon(self) -> None:
        """End the run; may be called from a signal handler or another thread."""
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _count(self, seconds: float) -> Outcome:
        missing = len(self._requests) - len(self._latencies_s) - self._errors.total()
        if self._each_once and missing > 0:
            self._errors["no answer in time"] += missing
        p50_ms, p99_ms = (percentile(self._latencies_s, share) * 1e3 for share in (0.50, 0.99))
        return Outcome(
            answered=len(self._latencies_s),
            seconds=seconds,
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            errors=dict(self._errors),
            sample=self._sample,
        )


class _Connection(asyncio.Protocol):
    """A connection that sends one request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._index: int | None = None  # position of the request in flight
        self._sent_at = 0.0
        self._received = bytearray()
        self._head = -1  # bytes of the answer's head; -1 until it is complete
        self._total = 0  # bytes of head and body
        self._status = 0
        self._closing = False  # the server closes after this answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit it

    def send(self) -> None:
        """Send the next request, if there is one."""
        request = self._run.next_request()
        if request is None or self._transport is None:
            return
        self._index, content = request
        self._sent_at = time.perf_counter()
        self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        """Collect the answer; when it is complete, count it and send the next request."""
        self._received += data
        if self._head < 0 and not self._read_head():
            return
        if len(self._received) < self._total:
            return
        seconds = time.perf_counter() - self._sent_at
        index, body = self._index, bytes(self._received[self._head : self._total])
        self._index, self._head = None, -1
        self._received.clear()
        if index is not None and not self._run.stopped:
            self._run.answered(index, seconds, self._status, body)
        if self._closing:
            self.close()
        else:
            self.send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Report the loss to the run, which opens another connection."""
        if self._index is not None and not self._run.stopped:
            self._run.failed("connection lost")
        self._run.lost(self)

    def close(self) -> None:
        """Close this connection immediately."""
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> bool:
        """Read status and length of the answer; False until its head is complete."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = bytes(self._received[:end]).lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
        try:
            self._status = int(lines[0].split(b" ", 2)[1])
            length = int(headers[b"content-length"])
        except (IndexError, KeyError, ValueError):
            self._run.failed("no status or Content-Length")
            self._index = None
            self.close()
            return False
        self._closing = headers.get(b"connection", b"").strip() == b"close"
        self._head = end + 4
        self._total = self._head + length
        return True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
