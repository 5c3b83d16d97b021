"""Service level objectives of a load test, which decide its exit code."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objectives:
    """Bounds for a run. A field that is None is not checked.

    Attributes:
        max_error_ratio: The highest share of failed requests, wrong answers included, from 0 to 1.
        p95_ms: The highest 95th percentile of the latency of each kind of request.
        p99_ms: The highest 99th percentile.
        min_rate: The lowest number of requests per second, all kinds together. Users wait for
            their answers, so a slow server gets fewer requests, which improves its latencies;
            this bound reveals it.
    """

    max_error_ratio: float = 0.0
    p95_ms: float | None = None
    p99_ms: float | None = None
    min_rate: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_error_ratio <= 1:
            raise ValueError(
                f"max_error_ratio must be from 0 to 1. Received: {self.max_error_ratio}"
            )
        for name, limit in (("p95", self.p95_ms), ("p99", self.p99_ms), ("rate", self.min_rate)):
            if limit is not None and not limit > 0:
                raise ValueError(f"the objective for {name} must be above 0. Received: {limit}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured for one kind of request over the whole run."""

    name: str
    requests: int
    failures: int
    p95_ms: float
    p99_ms: float
    rate: float


def missed(objectives: Objectives, kinds: Iterable[Measured]) -> list[str]:
    """Describe each missed objective in a sentence; an empty list means that all were met.

    A run without requests counts as missed, because it shows nothing.
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
                f" allowed {objectives.max_error_ratio:.2%}"
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
    """The nearest-rank percentile: the smallest value that `share` of the values do not exceed.

    0 without values.
    """
    if not values:
        return 0.0
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
