"""Fakes for tests: a model with a gate, a manual clock, a service in the test's process."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from app.artifact import (
    CONFIDENCE_BOUNDS,
    TOKENIZER,
    Baseline,
    DataCard,
    GoldenRow,
    Manifest,
    Quality,
    Reliability,
    write_golden,
    write_manifest,
)
from app.main import create_app
from app.service import Service
from app.serving.batcher import Batcher
from app.serving.engines import Engine, infer
from app.serving.predictor import Predictor
from app.serving.request_queue import BatchPolicy
from app.serving.slots import EngineSlots
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.text.encoder import TextConfig, TextEncoder
from app.text.padding import Int32Array
from app.text.vocabulary import Vocabulary

WORDS = ("good", "bad", "film", "the", "poison", "broken")
GOOD, BAD, FILM, THE, POISON, BROKEN = range(3, 9)
LABELS = ("negative", "positive")
GOLDEN_TEXTS = ("a good film", "the bad, bad film!", "...", "good " * 50)


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition holds."""
    while not condition():  # noqa: ASYNC110 - the condition has no event to wait for
        await asyncio.sleep(0)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series, as rendered; None if there is none."""
    page = metrics.tally.render(metrics.tally.snapshot()).decode()
    for family in text_string_to_metric_families(page):
        for series in family.samples:
            if (series.name, series.labels) == (f"valence_{name}", labels):
                return series.value
    return None


class ManualClock:
    """A monotonic clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds


@asynccontextmanager
async def open_predictor(
    engine: Engine,
    metrics: Metrics,
    *,
    labels: Sequence[str] = LABELS,
    encoder: TextEncoder | None = None,
) -> AsyncIterator[Predictor]:
    """A predictor of `lstm/3`, whose batchers share one slot; it is drained at the end."""
    slots = EngineSlots(1)
    make_batcher = partial(
        Batcher,
        engine,
        labels=len(labels),
        policy=BatchPolicy(8, 1000, 0.0, 100),
        slots=slots,
        metrics=metrics.for_model("lstm"),
        on_failure=pytest.fail,
    )
    predictor = Predictor(
        name="lstm",
        version=3,
        labels=labels,
        encoder=encoder or make_encoder(),
        batcher=make_batcher(),
        background=make_batcher(background=True),
        metrics=metrics,
    )
    yield predictor
    await predictor.drain()
    slots.close()


class FakeEngine:
    """A model that counts good and bad words, raises for POISON and returns NaN for BROKEN.

    Attributes:
        gate: Clear it to hold every run.
        closes_behind: Whether the gate closes behind each run that passes it.
        batches: The ids of each row of each run.
        columns: The number of columns of the output.
    """

    name = "fake"

    def __init__(self, *, offset: float = 0.0) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.closes_behind = False
        self.batches: list[list[list[int]]] = []
        self.columns = len(LABELS)
        self._offset = offset
        self._started = threading.Semaphore(0)

    def forget(self) -> None:
        """Forget all runs so far."""
        self.batches.clear()
        self._started = threading.Semaphore(0)

    async def wait_until_running(self) -> None:
        """Wait for the next run to begin."""
        await asyncio.to_thread(self._started.acquire)

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Compute probabilities of shape (rows, columns); see `Engine.run`."""
        rows = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
        self.batches.append(rows)
        self._started.release()
        self.gate.wait(timeout=30)
        if self.closes_behind:
            self.gate.clear()
        if any(POISON in row for row in rows):
            raise ValueError("the model quotes its input: SECRET")
        scores = [self._offset + row.count(GOOD) - row.count(BAD) for row in rows]
        positive = 1 / (1 + np.exp(-np.clip(scores, -9, 9), dtype=np.float32))
        positive[[BROKEN in row for row in rows]] = np.nan
        return np.stack([1 - positive, positive], axis=1)[:, : self.columns]


def make_encoder(words: Sequence[str] = WORDS, *, max_length: int = 32) -> TextEncoder:
    """An encoder with a vocabulary of `words`."""
    return TextEncoder(TextConfig(max_length=max_length, head=8), Vocabulary(words))


def write_version(
    models: Path,
    name: str,
    number: int,
    *,
    max_length: int = 32,
    offset: float = 0.0,
    quality: Mapping[str, Quality] | None = None,
    reliability: Reliability | None = None,
) -> Path:
    """Write a version folder whose golden rows a `FakeEngine` of the same offset reproduces."""
    folder = models / name / str(number)
    folder.mkdir(parents=True)
    encoder = make_encoder(max_length=max_length)
    encoder.save(folder / TOKENIZER)
    (folder / "saved_model.pb").write_bytes(b"not read by a fake engine")
    rows = [encoder.encode(text).ids for text in GOLDEN_TEXTS]
    outputs = infer(FakeEngine(offset=offset), rows, labels=len(LABELS))
    write_golden(
        folder,
        [
            GoldenRow(
                text=text,
                ids=tuple(row.tolist()),
                probabilities=tuple(output.tolist()),
                labels=LABELS,
            )
            for text, row, output in zip(GOLDEN_TEXTS, rows, outputs, strict=True)
        ],
    )
    write_manifest(
        folder,
        Manifest(
            name=name,
            version=number,
            labels=LABELS,
            architecture="counting",
            hyperparameters={},
            seed=1,
            code_version="0",
            created="2026-01-01T00:00:00+00:00",
            text_fingerprint=encoder.fingerprint(),
            data=DataCard(name="none", fingerprint="0" * 64, counts={"train": 2}),
            temperature=1.0,
            metrics={"test": {"fake": {"accuracy": 0.5}}},
            engines={"fake": {}},
            limits=("Counts two words.",),
            quality=dict(quality or {}),
            reliability=reliability or Reliability(),
            baseline=Baseline(
                labels=(50, 50),
                confidence=(*[0] * len(CONFIDENCE_BOUNDS), 100),
                truncated=10,
                tokens=1000,
                unknown=20,
            ),
            files={},
        ),
    )
    return folder


def lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder unreadable, for root too."""
    read = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path)

    monkeypatch.setattr(Path, "iterdir", refuse)


@dataclass
class Running:
    """A service in the process of the test."""

    app: FastAPI
    client: httpx.AsyncClient
    service: Service
    engines: dict[str, FakeEngine] = field(default_factory=dict)

    @property
    def engine(self) -> FakeEngine:
        """The engine of the version that answers by default, without its golden runs."""
        return self.engines["lstm/2"]

    async def predict(self, **body: Any) -> httpx.Response:
        """POST /predict."""
        return await self.client.post("/predict", json=body)

    def sample(self, name: str, **labels: str) -> float | None:
        """The value of one series."""
        return sample(self.service.metrics, name, **labels)


@asynccontextmanager
async def run_service(
    models: Path, *, ready: bool = True, tracer: Any = None, **settings: Any
) -> AsyncIterator[Running]:
    """Run a service on fake engines, with one engine slot unless told otherwise.

    Args:
        models: The repository.
        ready: Whether the service must be ready when everything is loaded or rejected.
        tracer: Makes spans.
        settings: The arguments of `Settings`.
    """
    engines: dict[str, FakeEngine] = {}

    def load(folder: Path) -> Engine:
        engine = engines[f"{folder.parent.name}/{folder.name}"] = FakeEngine()
        return engine

    chosen = Settings(models_dir=models, **{"threads": 1, **settings})
    app = create_app(chosen, load=load, tracing=tracer)
    service: Service = app.state.service
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        assert service.loading is not None
        await service.loading
        for engine in engines.values():
            engine.forget()
        assert service.lifecycle.ready == ready, service.lifecycle.reason
        transport = httpx.ASGITransport(app)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://valence")
        )
        yield Running(app, client, service, engines)
        for engine in engines.values():
            engine.gate.set()
