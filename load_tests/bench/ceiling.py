"""The in-process ceiling: the throughput of the same engine without HTTP.

This is the only module of the load tests that imports the service, for its version files, text
preprocessing and engines.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np

from app.artifact import TOKENIZER, read_manifest
from app.errors import ValenceError
from app.serving.engines import (
    Engine,
    EngineName,
    EngineOptions,
    infer,
    load_engine,
)
from app.serving.hardware import visible_cores
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array, pad_rows
from load_tests.bench.errors import BenchError

_ANSWER_BATCH = 8


class Ceiling:
    """One version of a model, with one engine per thread.

    Attributes:
        threads: The number of threads, one per core.
        precision: The precision of the weights, if the manifest names it; otherwise empty.

    Args:
        folder: `models/<name>/<version>/`.
        engine: `onnx` or `tensorflow`.
        texts: The texts to compute.

    Raises:
        BenchError: The version cannot be loaded.
    """

    def __init__(self, folder: Path, engine: str, texts: Sequence[str]) -> None:
        self.threads = visible_cores()
        options = EngineOptions(cast(EngineName, engine), "cpu", self.threads)
        try:
            manifest = read_manifest(folder)
            self._encoder = TextEncoder.load(folder / TOKENIZER)
            self._engines = [load_engine(folder, options) for _ in range(self.threads)]
        except ValenceError as error:
            raise BenchError(f"{folder.parent.name}/{folder.name}: {error}") from error
        self.precision = str(manifest.engines.get(engine, {}).get("precision") or "")
        self._labels = manifest.labels
        self._texts = texts
        self._rows = [self._encoder.encode(text).ids for text in texts]
        # Longest first: with long texts at the end, one core would wait for the other.
        self._by_length = sorted(range(len(texts)), key=lambda index: -len(self._rows[index]))

    def answers(self) -> list[dict[str, float]]:
        """Predict every text; returns its probabilities by label, in the order of the texts."""
        found: list[dict[str, float]] = [{} for _ in self._texts]
        for batch in self._batches(_ANSWER_BATCH):
            rows = [self._rows[index] for index in batch]
            for index, row in zip(batch, self._infer(self._engines[0], rows), strict=True):
                found[index] = dict(zip(self._labels, row, strict=True))
        return found

    def throughput(self, batch_size: int, seconds: float) -> float:
        """Measure texts per second from ids, which are already padded and sorted by length.

        Args:
            batch_size: Texts per model run.
            seconds: The minimum duration; every pass over the texts is completed.
        """
        batches = [self._rectangle(batch) for batch in self._batches(batch_size)]

        def compute(engine: Engine, index: int) -> None:
            engine.run(*batches[index])

        return self._passes(compute, len(batches), seconds) * len(self._texts)

    def throughput_from_text(self, batch_size: int, seconds: float) -> float:
        """Measure texts per second from strings, tokenizing and output checks included."""
        batches = self._batches(batch_size)

        def compute(engine: Engine, index: int) -> None:
            self._infer(engine, [self._encode(text) for text in batches[index]])

        return self._passes(compute, len(batches), seconds) * len(self._texts)

    def latencies_ms(self, seconds: float) -> list[float]:
        """Measure the milliseconds from a string to its probabilities, one text at a time."""
        found: list[float] = []
        end = time.perf_counter() + seconds
        for index in itertools.cycle(range(len(self._texts))):
            started = time.perf_counter()
            if started >= end and found:
                break
            self._infer(self._engines[0], [self._encode(index)])
            found.append((time.perf_counter() - started) * 1e3)
        return found

    def _batches(self, size: int) -> list[list[int]]:
        """Positions of the texts of each batch."""
        return [self._by_length[start : start + size] for start in range(0, len(self._texts), size)]

    def _rectangle(self, batch: Sequence[int]) -> tuple[Int32Array, Int32Array]:
        """Pad a batch; returns ids of shape (texts, longest) and lengths of shape (texts,)."""
        rows = [self._rows[index] for index in batch]
        lengths = np.array([len(row) for row in rows], dtype=np.int32)
        return pad_rows(rows, width=int(lengths.max())), lengths

    def _encode(self, index: int) -> Int32Array:
        return self._encoder.encode(self._texts[index]).ids

    def _infer(self, engine: Engine, rows: Sequence[Int32Array]) -> list[list[float]]:
        answer: list[list[float]] = infer(engine, rows, labels=len(self._labels)).tolist()
        return answer

    def _passes(self, compute: Callable[[Engine, int], None], count: int, seconds: float) -> float:
        """Compute all `count` batches repeatedly on all threads; returns passes per second."""

        def work(engine: Engine, tickets: "itertools.count[int]") -> None:
            while (index := next(tickets)) < count:
                compute(engine, index)

        with ThreadPoolExecutor(self.threads, thread_name_prefix="ceiling") as pool:
            started = time.perf_counter()
            passes = 0
            elapsed = 0.0
            while elapsed < seconds:
                tickets = itertools.count()  # shared by the threads: next() is atomic under the GIL
                list(pool.map(work, self._engines, itertools.repeat(tickets)))
                passes += 1
                elapsed = time.perf_counter() - started
        return passes / elapsed
