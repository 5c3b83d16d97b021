"""A load generator whose requests arrive at their own times, whatever the server does.

A closed loop waits for answers, so it never offers more than a server can take. This one takes a
connection from a pool, or opens one, whenever the next request is due. Latencies count from that
time, so a generator or a server that is behind cannot hide it.
"""

import random
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.slo import percentile

_MAX_CONNECTIONS: Final = 4096
_LAST_ANSWER_S: Final = 5.0
_RECEIVE_BYTES: Final = 64 * 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TIMING: Final = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_OK: Final = 200
LOST: Final = 0
"""The status of a request that got no answer."""


@dataclass(slots=True)
class Answers:
    """The answers to an open-loop load.

    Attributes:
        seconds: The duration of the load.
        sent: The number of requests that were due.
        latencies_ms: For each status the latencies of its answers.
        lags_ms: For each request how long after its time it was sent. It is part of the latency.
        timings: `Server-Timing` of the answers with status 200, in their order.
        cpu_s: The processor time of the generator.
        span_s: From the start of the warm-up to the last answer, or to the end of the load.
    """

    seconds: float
    sent: int = 0
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    lags_ms: list[float] = field(default_factory=list)
    timings: list[bytes] = field(default_factory=list)
    cpu_s: float = 0.0
    span_s: float = 0.0

    def count(self, status: int) -> int:
        """The number of answers with a status."""
        return len(self.latencies_ms.get(status, ()))

    def add(self, status: int, latency_ms: float) -> None:
        """Note an answer."""
        self.latencies_ms.setdefault(status, []).append(latency_ms)

    def count_later_than(self, limit_ms: float) -> int:
        """The number of predictions that came later."""
        return sum(latency > limit_ms for latency in self.latencies_ms.get(200, ()))

    def quantile_ms(self, status: int, share: float) -> float | None:
        """A quantile of the latency of a status; None without answers."""
        latencies = self.latencies_ms.get(status)
        return percentile(latencies, share) if latencies else None


class _Connection:
    """One keep-alive connection, with at most one request."""

    __slots__ = ("due", "received", "socket", "timing")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.received = b""
        self.timing = b""

    def read(self) -> int | None:
        """Receive; returns the status once the answer is complete."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return LOST
        if not data:
            return LOST
        data = self.received + data if self.received else data
        end = data.find(_END)
        length = _LENGTH.search(data, 0, end) if end >= 0 else None
        if length is None or len(data) < end + len(_END) + int(length[1]):
            self.received = data
            return None
        self.received = b""
        timing = _TIMING.search(data, 0, end)
        self.timing = timing[1] if timing else b""
        return int(data[9:12])


def make_requests(bodies: Sequence[bytes], deadline_ms: int) -> list[bytes]:
    """HTTP requests with a deadline."""
    head = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"X-Request-Timeout-Ms: %d\r\nContent-Length: %d\r\n\r\n"
    )
    return [head % (deadline_ms, len(body)) + body for body in bodies]


def arrival_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times from 0 to `seconds`, independent of each other, with a mean rate per second."""
    rng = random.Random(seed)  # noqa: S311 - the same times for the same seed
    at = 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        yield at


def run(
    port: int,
    requests: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    warm_up_s: float = 0.0,
    connections: int = 0,
    seed: int = 1,
    shuffled: bool = False,
) -> Answers:
    """Send requests at a rate, repeatedly, and wait for the last answers.

    Args:
        port: Of a server on this machine.
        requests: Whole requests.
        rate: The mean number of requests per second.
        seconds: The duration, without the warm-up.
        warm_up_s: For so long before it requests are sent and not counted.
        connections: How many are opened beforehand; more are opened when all are busy.
        seed: Determines the times.
        shuffled: Whether it also determines the order of the requests. Two loads at the same time
            would otherwise send the same texts at about the same time, and a server that shares
            the result of equal texts in flight would compute them once.

    Raises:
        BenchError: The server does not accept connections.
    """
    try:
        if shuffled:
            requests = random.Random(seed).sample(requests, len(requests))  # noqa: S311
        loop = _OpenLoop(port, requests, Answers(seconds), warm_up_s)
        return loop.run(rate, connections, seed)
    except OSError as error:
        raise BenchError(f"the open loop cannot connect: {error.strerror}") from error


class _OpenLoop:
    def __init__(
        self, port: int, requests: Sequence[bytes], answers: Answers, warm_up_s: float
    ) -> None:
        self._warm_up_s = warm_up_s
        self._counted_from = 0.0
        self._next = 0
        self._port = port
        self._requests = requests
        self._answers = answers
        self._poll = select.epoll()
        self._free: deque[_Connection] = deque()
        self._all: dict[int, _Connection] = {}
        self._busy: set[int] = set()

    def run(self, rate: float, connections: int, seed: int) -> Answers:
        answers = self._answers
        try:
            for _ in range(connections):
                if (connection := self._connect()) is not None:
                    self._free.append(connection)
            cpu_started: float | None = None
            started = time.perf_counter()
            self._counted_from = started + self._warm_up_s
            for at in arrival_times(rate, self._warm_up_s + answers.seconds, seed):
                due = started + at
                if cpu_started is None and due >= self._counted_from:
                    cpu_started = time.process_time()
                while (left := due - time.perf_counter()) > 0:
                    self._wait(left)
                self._send(due)
            sent_cpu_s = time.process_time()
            ended = started + self._warm_up_s + answers.seconds
            give_up = time.perf_counter() + _LAST_ANSWER_S
            while self._busy and time.perf_counter() < give_up:
                self._receive(0.1)
            answers.span_s = max(time.perf_counter(), ended) - started
            for number in self._busy:
                if self._all[number].due >= self._counted_from:
                    answers.add(LOST, 0.0)
        finally:
            for connection in self._all.values():
                connection.socket.close()
            self._poll.close()
        answers.cpu_s = sent_cpu_s - (sent_cpu_s if cpu_started is None else cpu_started)
        return answers

    def _wait(self, seconds: float) -> None:
        """Receive what comes within a time, or first comes after it began.

        epoll rounds its timeout up to milliseconds; select does not.
        """
        if select.select([self._poll], [], [], seconds)[0]:
            self._receive(0)

    def _send(self, due: float) -> None:
        if not self._free:
            self._receive(0)
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        counted = due >= self._counted_from
        self._answers.sent += counted
        connection = self._free.popleft() if self._free else self._connect()
        if connection is None:
            if counted:
                self._answers.add(LOST, 0.0)
            return
        connection.due = due
        if counted:
            self._answers.lags_ms.append((time.perf_counter() - due) * 1e3)
        self._busy.add(connection.socket.fileno())
        try:
            connection.socket.sendall(request)
        except OSError:
            self._end(connection, LOST)

    def _connect(self) -> _Connection | None:
        if len(self._all) >= _MAX_CONNECTIONS:
            return None
        connection = _Connection(self._port)
        self._all[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _receive(self, timeout_s: float) -> None:
        for number, _ in self._poll.poll(timeout_s):
            connection = self._all[number]
            status = connection.read()
            if status is not None:
                self._end(connection, status)

    def _end(self, connection: _Connection, status: int) -> None:
        """A request has its answer, or its connection is lost."""
        number = connection.socket.fileno()
        if number in self._busy:
            self._busy.remove(number)
            if connection.due >= self._counted_from:
                self._answers.add(status, (time.perf_counter() - connection.due) * 1e3)
                if status == _OK:
                    self._answers.timings.append(connection.timing)
        else:
            self._free.remove(connection)  # the server has closed it while it was idle
        if status == LOST:
            del self._all[number]
            self._poll.unregister(number)
            connection.socket.close()
        else:
            self._free.append(connection)
