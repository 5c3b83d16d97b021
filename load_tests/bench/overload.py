"""What the service answers in time when it is offered more than it can do.

    python -m load_tests.bench.overload

The capacity is measured in a closed loop, before and after each load. A load is requests that
arrive in an open loop at a multiple of the capacity, each with the same deadline. The generator
runs on the same cores, so its processor time is part of the report: "of the rest" compares with the
capacity of the cores that the generator leaves.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.bench import open_loop
from load_tests.bench.__main__ import choose_generator
from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load
from load_tests.bench.machine import cores
from load_tests.bench.server import Server, serve
from load_tests.bench.table import align
from load_tests.bench.texts import make_texts, single_bodies

LATE_MS: Final = 100
"""An answer that comes so long after its deadline counts as late."""

_TEXTS: Final = 8192
_CONNECTIONS: Final = 64
_HEADINGS: Final = (
    *(
        "load",
        "capacity/s",
        "offered/s",
        "in time/s",
        "of capacity",
        "of the rest",
        "429/s",
        "504",
        "lost",
    ),
    *("late", "p99 ms", "429 p99 ms", "generator"),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the service answers in a closed loop.

    Attributes:
        per_s: Requests per second.
        idle_cores: The cores that its generator left to the service.
    """

    per_s: float
    idle_cores: float


def describe(
    load: float, answers: open_loop.Answers, capacity: Capacity, *, deadline_ms: int, cores: int
) -> list[str]:
    """A row of the report."""
    in_time = sum(latency <= deadline_ms for latency in answers.latencies_ms.get(200, ()))
    per_s = in_time / answers.seconds
    used = answers.cpu_s / answers.seconds
    rest = capacity.per_s * (cores - used) / capacity.idle_cores
    return [
        f"{load:g}",
        f"{capacity.per_s:.0f}",
        f"{answers.sent / answers.seconds:.0f}",
        f"{per_s:.0f}",
        f"{per_s / capacity.per_s:.0%}",
        f"{per_s / rest:.0%}",
        f"{answers.count(429) / answers.seconds:.0f}",
        str(answers.count(504)),
        str(answers.count(open_loop.LOST)),
        str(answers.count_later_than(deadline_ms + LATE_MS)),
        _number(answers.quantile_ms(200, 0.99)),
        _number(answers.quantile_ms(429, 0.99)),
        f"{used:.2f}",
    ]


def measure_capacity(server: Server, bodies: Sequence[bytes], seconds: float) -> Capacity:
    """Send requests from connections that each wait for their answer."""
    generator = choose_generator("auto")
    before = server.usage()
    outcome = generator.run(Load(server.port, bodies, _CONNECTIONS, seconds))
    after = server.usage()
    used = (after.cpu_s - before.cpu_s) / outcome.seconds if before and after else cores()
    return Capacity(outcome.answered / outcome.seconds, used)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table; returns 0 on success, 1 on failure."""
    parser = argparse.ArgumentParser(description="Measure the goodput under overload.")
    parser.add_argument("--models-dir", type=Path, default=Path("models"))
    parser.add_argument("--model", default="lstm")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--loads", type=float, nargs="+", default=[1.5, 2, 4])
    parser.add_argument("--deadline-ms", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args(arguments)
    bodies = single_bodies(make_texts(_TEXTS, seed=1), options.model)
    requests = open_loop.make_requests(bodies, options.deadline_ms)
    table: list[Sequence[str]] = [_HEADINGS]
    try:
        with serve(
            options.models_dir, options.engine, ("--workers", str(options.workers))
        ) as server:
            measure_capacity(server, bodies, 1)  # warms up
            before = measure_capacity(server, bodies, options.seconds)
            for load in options.loads:
                rate = load * before.per_s
                answers = open_loop.run(server.port, requests, rate=rate, seconds=options.seconds)
                after = measure_capacity(server, bodies, options.seconds)
                row = describe(
                    load,
                    answers,
                    Capacity(
                        (before.per_s + after.per_s) / 2,
                        (before.idle_cores + after.idle_cores) / 2,
                    ),
                    deadline_ms=options.deadline_ms,
                    cores=cores(),
                )
                table.append(row)
                before = after
    except BenchError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the reason
        return 1
    print(align(table))  # noqa: T201 - the report
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
