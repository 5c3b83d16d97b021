"""What single flight buys: the throughput of a batcher when some of the texts in flight are equal.

Callers submit one text at a time to a batcher with one engine thread. A share of the texts is one
popular text. It is sent unchanged in one run, and with another last word each time in the next:
the same lengths, but nothing to share. Runs as

    python -m load_tests.bench.single_flight
"""

import argparse
import asyncio
import itertools
import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.artifact import TOKENIZER, read_manifest
from app.serving.batcher import Batcher
from app.serving.engines import Engine, EngineOptions, load_engine
from app.serving.request_queue import BatchPolicy
from app.serving.slots import EngineSlots
from app.telemetry.metrics import Metrics
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD
from load_tests.bench.machine import bundled_version
from load_tests.bench.table import align
from load_tests.bench.texts import make_texts

POLICY: Final = BatchPolicy(
    max_items=8, max_tokens=16_384, max_queue_delay_s=0.0, max_queue_items=4096
)
"""The defaults of the service."""

_SHARES: Final = (0.0, 0.2, 0.5)
_TEXTS: Final = 2048
_HEADINGS: Final = ("popular text", "computed", "texts/s", "without", "ratio")


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one run.

    Attributes:
        texts_per_s: Answered texts per second.
        computed: The share of the texts that the model computed.
    """

    texts_per_s: float
    computed: float


def make_traffic(
    rows: Sequence[Int32Array], *, count: int, share: float, equal: bool, seed: int
) -> Iterator[Int32Array]:
    """Yield rows of ids, a share of which is the first row.

    Args:
        rows: Different rows of ids.
        count: The number of rows to yield.
        share: The share of the first row, from 0 to 1.
        equal: Whether its copies are equal; else each has another last id.
        seed: Determines the order.
    """
    choices = random.Random(seed)  # noqa: S311 - the same order for the same seed
    popular, *others = rows
    cycle = itertools.cycle(others)
    for number in range(count):
        if choices.random() >= share:
            yield next(cycle)
        elif equal:
            yield popular
        else:
            row = popular.copy()
            row[-1] = FIRST_WORD + number % _TEXTS
            yield row


async def run(engine: Engine, traffic: Iterator[Int32Array], *, labels: int, callers: int) -> Run:
    """Submit all rows from several callers, each of which waits for its result."""
    slots = EngineSlots(1)
    metrics = Metrics().for_model("bench")
    batcher = Batcher(
        engine,
        labels=labels,
        policy=POLICY,
        slots=slots,
        metrics=metrics,
        on_failure=lambda _reason: None,  # every caller gets an exception
    )
    count = 0

    async def call() -> None:
        nonlocal count
        for row in traffic:
            await batcher.submit([row], deadline=math.inf)
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    seconds = time.perf_counter() - started
    await batcher.drain()
    slots.close()
    return Run(count / seconds, 1 - metrics.shared_items.value / count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one version, and print a table with the medians of all rounds."""
    parser = argparse.ArgumentParser(description="Measure what single flight buys.")
    parser.add_argument("--version", type=Path, default=bundled_version("lstm"), metavar="FOLDER")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--count", type=int, default=6000, help="texts of one run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    labels = len(read_manifest(options.version).labels)
    encoder = TextEncoder.load(options.version / TOKENIZER)
    rows = [encoder.encode(text).ids for text in make_texts(_TEXTS, seed=1)]
    typical = sorted(range(_TEXTS), key=lambda index: len(rows[index]))[_TEXTS // 2]
    rows.insert(0, rows.pop(typical))
    engine = load_engine(options.version, EngineOptions("onnx", "cpu"))

    def measure(share: float, seed: int, *, equal: bool) -> Run:
        traffic = make_traffic(rows, count=options.count, share=share, equal=equal, seed=seed)
        return asyncio.run(run(engine, traffic, labels=labels, callers=options.callers))

    table: list[Sequence[str]] = [_HEADINGS]
    for share in _SHARES:
        pairs = [
            (measure(share, seed, equal=True), measure(share, seed, equal=False))
            for seed in range(options.rounds)
        ]
        computed = statistics.median(equal.computed for equal, _ in pairs)
        rate = statistics.median(equal.texts_per_s for equal, _ in pairs)
        without = statistics.median(unequal.texts_per_s for _, unequal in pairs)
        ratio = statistics.median(equal.texts_per_s / u.texts_per_s for equal, u in pairs)
        table.append(
            (f"{share:.0%}", f"{computed:.0%}", f"{rate:.0f}", f"{without:.0f}", f"{ratio:.2f}")
        )
    print(align(table))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
