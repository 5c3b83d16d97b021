"""What a load generator is asked and what it tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send: each connection sends its next one when the last was answered.

    Attributes:
        port: On this machine.
        bodies: JSON, sent in turn by all connections together.
        connections: Kept alive, all busy.
        seconds: How long; whole seconds for wrk.
    """

    port: int
    bodies: Sequence[bytes]
    connections: int
    seconds: float
    path: str = "/predict"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back.

    Attributes:
        answered: Requests answered with 200.
        seconds: From the first request to the end.
        p50_ms: Half of the requests took at most this long; 0 where none was answered.
        p99_ms: 99 of 100.
        errors: How many requests failed, by what was wrong.
        sample: Some of the answers, each with the position in `bodies` of what was asked.
    """

    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int] = field(default_factory=dict)
    sample: Sequence[tuple[int, bytes]] = ()


class Generator(Protocol):
    """Puts load on a server."""

    name: str

    def run(self, load: Load) -> Outcome:
        """Send for as long as asked.

        Raises:
            BenchError: The generator itself cannot run.
        """
        ...
