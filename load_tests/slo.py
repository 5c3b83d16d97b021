"""Objectives of a load test, and the verdict that becomes its exit code."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a run must reach. A field that is None is not judged.

    Attributes:
        max_error_ratio: Failed requests of all requests, wrong answers included, from 0 to 1.
        p95_ms: 95 of 100 requests of a kind take at most this long.
        p99_ms: 99 of 100.
        min_rate: Requests per second of all kinds together. Users of constant throughput slow
            down with a slow server, and fewer requests make better latencies: this shows it.
    """

    max_error_ratio: float = 0.0
    p95_ms: float | None = None
    p99_ms: float | None = None
    min_rate: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_error_ratio <= 1:
            raise ValueError(f"an error ratio is from 0 to 1. Received: {self.max_error_ratio}")
        for name, limit in (("p95", self.p95_ms), ("p99", self.p99_ms), ("rate", self.min_rate)):
            if limit is not None and not limit > 0:
                raise ValueError(f"the objective for {name} is above 0. Received: {limit}")


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of request, over the whole run."""

    name: str
    requests: int
    failures: int
    p95_ms: float
    p99_ms: float
    rate: float


def missed(objectives: Objectives, kinds: Iterable[Measured]) -> list[str]:
    """One sentence for each objective that was missed; empty when all were reached.

    A run without requests misses: it shows nothing.
    """
    kinds = [kind for kind in kinds if kind.requests]
    if not kinds:
        return ["no requests at all"]
    sentences: list[str] = []
    for kind in kinds:
        ratio = kind.failures / kind.requests
        if ratio > objectives.max_error_ratio:
            sentences.append(
                f"{kind.name}: {kind.failures} of {kind.requests} failed ({ratio:.2%}),"
                f" at most {objectives.max_error_ratio:.2%} may"
            )
        for name, value, limit in (
            ("p95", kind.p95_ms, objectives.p95_ms),
            ("p99", kind.p99_ms, objectives.p99_ms),
        ):
            if limit is not None and value > limit:
                sentences.append(f"{kind.name}: {name} {value:.0f} ms, at most {limit:.0f} ms")
    rate = sum(kind.rate for kind in kinds)
    if objectives.min_rate is not None and rate < objectives.min_rate:
        sentences.append(f"{rate:.1f} requests/s, at least {objectives.min_rate:.1f}")
    return sentences


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
