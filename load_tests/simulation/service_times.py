"""How long a replica takes, from the file of a capacity run."""

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import WrongCall

_MOST_BUSY: Final = 0.9
"""The busiest engine whose times are used: next to saturation the parts cannot be told apart."""


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """The time of each part of a request, in seconds, on one core.

    Attributes:
        run_s: Of a model run, however small.
        token_s: Of each token of a run, padding included.
        request_s: Of the event loop for a request: HTTP, JSON, tokenizing, the answer.
        text_s: Of the event loop for each text.
        outside_s: Outside the service: the network, the kernel, the client. It keeps no core busy.
    """

    run_s: float
    token_s: float
    request_s: float
    text_s: float
    outside_s: float


class Lengths:
    """Draws the tokens of a text.

    Args:
        quantiles: Of the tokens, in equal steps from 0 to 1.
    """

    def __init__(self, quantiles: Sequence[float]) -> None:
        self._quantiles = quantiles
        self._steps = len(quantiles) - 1

    def draw(self, rng: random.Random) -> int:
        """The tokens of one text."""
        at = rng.random() * self._steps
        low = int(at)
        left, right = self._quantiles[low], self._quantiles[min(low + 1, self._steps)]
        return max(1, round(left + (right - left) * (at - low)))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a capacity run has found.

    Attributes:
        content: The file.
        times: The times of a replica.
        times_cores: The number of cores on which these were measured.
        lengths: The tokens of texts.
        list_share, list_size: The share of requests that are lists, and their size.
        limit_ms: The objective.
    """

    content: Mapping[str, Any]
    times: ServiceTimes
    times_cores: int
    lengths: Lengths
    list_share: float
    list_size: int
    limit_ms: float

    def on(self, cores: int) -> "Measured":
        """The same with the times that were measured on so many cores, if they were.

        The workers of a replica slow each other, and where the generator had no core of its own it
        slowed them, too. `times_cores` tells whether they were.
        """
        for figures in self.content["cores"]:
            if figures["cores"] == cores:
                with suppress(ValueError):
                    times = fit(figures, self.content["run"]["texts_per_request"])
                    return replace(self, times=times, times_cores=cores)
        return self


def read_measured(path: Path) -> Measured:
    """Read the file of a capacity run.

    Raises:
        WrongCall: It cannot be read, or has too few loads to tell the times from.
    """
    try:
        content = json.loads(path.read_text())
        run = content["run"]
        # The fewest cores: there the generator had a core of its own.
        figures = min(content["cores"], key=lambda each: (not each["apart"], each["cores"]))
        return Measured(
            content=content,
            times=fit(figures, run["texts_per_request"]),
            times_cores=figures["cores"],
            lengths=Lengths(content["tokens"]),
            list_share=run["list_share"],
            list_size=run["list_size"],
            limit_ms=run["limit_ms"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        rule = f"{path.name} must be the file of a capacity run"
        raise WrongCall(f"{rule}. Received: {type(error).__name__}: {error}") from error


def fit(figures: Mapping[str, Any], texts_per_request: float) -> ServiceTimes:
    """Tell the times of the parts from loads at several rates.

    The event loop goes before the engine on the core of a worker, so a run takes longer by the
    share that the loop uses. With the processor time U of a worker per second, the share B of the
    time in which its engine runs and r requests per second, the loop takes
    h = (U - B) / (r (1 - B)) for a request. A run in itself then takes its duration times 1 - r h,
    which grows linearly with its tokens.

    Args:
        figures: Of a number of cores: `workers` and `curve`.
        texts_per_request: The mean.

    Raises:
        ValueError: There are too few loads below the knee with known processor time.
    """
    workers = figures["workers"]
    rows = [
        (trial, busy)
        for trial in figures["curve"]
        if trial["server_cores"] is not None
        and 0 < (busy := trial["runs_per_s"] * trial["run_ms"] / 1e3 / workers) < _MOST_BUSY
    ]
    if len(rows) < 2:
        raise ValueError("there must be two loads with an engine that is not always busy")
    loops = [
        max(0.0, (trial["server_cores"] / workers - busy) / (trial["rate"] / workers * (1 - busy)))
        for trial, busy in rows
    ]
    loop_s = statistics.median(loops)
    points = [
        (
            trial["run_tokens"],
            trial["run_ms"] / 1e3 * (1 - min(0.9, trial["rate"] / workers * loop_s)),
        )
        for trial, _ in rows
    ]
    run_s, token_s = _fit_line(points)
    first = min((trial for trial, _ in rows), key=lambda trial: trial["rate"])
    stages = first["stages"]
    tokenize_s = stages.get("tokenize", {}).get("mean_ms", 0.0) / 1e3
    rest_s = stages.get("rest", {}).get("mean_ms", 0.0) / 1e3
    text_s = min(tokenize_s, loop_s) / texts_per_request
    return ServiceTimes(
        run_s=run_s,
        token_s=token_s,
        request_s=loop_s - min(tokenize_s, loop_s),
        text_s=text_s,
        outside_s=max(0.0, rest_s + tokenize_s - loop_s),
    )


def _fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares; a line through 0 if the intercept would be negative."""
    mean_x, mean_y = (statistics.fmean(column) for column in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    intercept = mean_y - slope * mean_x
    if slope <= 0 or intercept < 0:
        return 0.0, mean_y / mean_x
    return intercept, slope
