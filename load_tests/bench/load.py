"""The interface of load generators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send; each connection sends the next one when the last was answered.

    Attributes:
        port: The server's port on this machine.
        bodies: Bodies, sent in order and repeatedly over all connections together.
        connections: The number of keep-alive connections, all of them always busy.
        seconds: The duration; wrk rounds it to whole seconds.
        path: The route.
        json_bytes: Of each body the bytes of the JSON before its binary tensors; empty if they have
            none.
    """

    port: int
    bodies: Sequence[bytes]
    connections: int
    seconds: float
    path: str = "/predict"
    json_bytes: Sequence[int] = ()

    def requests(self) -> list[bytes]:
        """The requests as they are sent."""
        start = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        kind = "application/octet-stream" if self.json_bytes else "application/json"
        requests = []
        for index, body in enumerate(self.bodies):
            head = f"{start}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            if self.json_bytes:
                head += f"Inference-Header-Content-Length: {self.json_bytes[index]}\r\n"
            requests.append(f"{head}\r\n".encode() + body)
        return requests


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a load.

    Attributes:
        answered: The number of requests answered with status 200.
        seconds: The time from the first request to the end.
        p50_ms: The median latency; 0 if nothing was answered.
        p99_ms: The 99th percentile of the latency; 0 if nothing was answered.
        errors: The number of failed requests, by kind of failure.
        sample: Some of the answers, each with the position of its request in `bodies`.
    """

    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int] = field(default_factory=dict)
    sample: Sequence[tuple[int, bytes]] = ()


class Generator(Protocol):
    """Sends requests to a server."""

    name: str

    def run(self, load: Load) -> Outcome:
        """Send requests for the duration of the load.

        Raises:
            BenchError: The generator itself cannot run.
        """
        ...
