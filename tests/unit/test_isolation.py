"""A fault of the engine hits the texts that provoke it, and no others."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from app.errors import DeadlineExceeded, InferenceFailed, NotReady
from app.serving.batcher import Batcher
from app.serving.request_queue import BatchPolicy, Submission
from app.serving.slots import EngineSlots
from app.telemetry.metrics import Metrics
from tests.fakes import BAD, GOOD, run_service, until
from tests.faulty import Fault, FaultyEngine, fail, lose_a_row, not_a_number

pytestmark = pytest.mark.anyio

SIZE = 64


class Bench:
    """A batcher on a faulty engine, with batches of up to 64 texts."""

    def __init__(self, engine: FaultyEngine, *, timeout_s: float = math.inf) -> None:
        self.engine = engine
        self.hangs: list[str] = []
        self.slots = EngineSlots(1, timeout_s=timeout_s, on_hang=self.hangs.append)
        self.batcher = Batcher(
            engine,
            labels=2,
            policy=BatchPolicy(SIZE, 10_000, 0.0, 1000),
            slots=self.slots,
            metrics=Metrics().for_model("fake"),
            on_failure=pytest.fail,
        )

    def submit(self, *texts: int) -> asyncio.Task[Submission]:
        """Submit different texts of one length, each with its word in front."""
        rows = [np.array([word, 100 + n], dtype=np.int32) for n, word in enumerate(texts)]
        return asyncio.create_task(self.batcher.submit(rows, deadline=math.inf))


@asynccontextmanager
async def closing(bench: Bench) -> AsyncIterator[Bench]:
    yield bench
    bench.engine.hang.set()
    await bench.batcher.drain()
    bench.slots.close()


@pytest.mark.parametrize("fault", [fail, lose_a_row, not_a_number])
@pytest.mark.parametrize("place", [0, 31, 63])
async def test_bad_text_fails_alone(fault: Fault, place: int) -> None:
    """A text on which the model fails is found with two runs for each halving of its batch."""
    texts = [GOOD] * SIZE
    texts[place] = BAD
    async with closing(Bench(FaultyEngine(fault, ids=[BAD]))) as bench:
        items = (await bench.submit(*texts)).items
        assert [n for n, item in enumerate(items) if item.error] == [place]
        assert isinstance(items[place].error, InferenceFailed)
        assert len(bench.engine.batches) == 1 + 2 * math.log2(SIZE)


@pytest.mark.parametrize("fault", [fail, lose_a_row, not_a_number])
async def test_every_batch_fails(fault: Fault) -> None:
    """If the model fails on everything, every text gets its error, and later ones are computed."""
    async with closing(Bench(FaultyEngine(fault))) as bench:
        items = (await bench.submit(*[GOOD] * 8)).items
        assert {type(item.error) for item in items} == {InferenceFailed}
        bench.engine.fault = None
        assert (await bench.submit(GOOD)).items[0].probabilities


async def test_hanging_run() -> None:
    """A run that does not end is given up: its texts get an error, once, and it is reported."""
    engine = FaultyEngine()
    engine.fault = engine.never_end
    async with closing(Bench(engine, timeout_s=0.01)) as bench:
        items = (await bench.submit(GOOD, BAD)).items
        assert {type(item.error) for item in items} == {DeadlineExceeded}
        assert bench.hangs == ["the model took longer than 0.01 s"]
        engine.hang.set()  # the late result is dropped
        bench.batcher.fail("the engine hangs")
        with pytest.raises(NotReady, match="hangs"):
            await bench.submit(GOOD)


async def test_suspended_process() -> None:
    """A process that was suspended during a run gives the run its time again."""
    engine = FaultyEngine()
    engine.gate.clear()
    async with closing(Bench(engine, timeout_s=100)) as bench:
        waiting = bench.submit(GOOD)
        await engine.wait_until_running()
        loop = asyncio.get_running_loop()
        (job,) = bench.slots._running
        job.started = due = loop.time() - 100  # as if the timer had fired 100 s late
        bench.slots._check(loop, due)
        engine.gate.set()
        assert (await waiting).items[0].probabilities
        assert bench.hangs == []


async def test_service_with_a_hanging_model(fake_models: Path) -> None:
    """A model that hangs: 504 for its texts, 503 for others, unready, and the process ends."""
    async with run_service(fake_models, engine_timeout_s=0.1) as service:
        service.engine.gate.clear()
        hanging = asyncio.create_task(service.predict(text="good"))
        await service.engine.wait_until_running()
        waiting = asyncio.create_task(service.predict(text="bad"))
        assert (await hanging).status_code == 504
        assert (await waiting).status_code == 503
        assert (await service.predict(text="good", model="bow")).status_code == 503
        ready = await service.client.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (
            *(503, "the model took longer than 0.1 s"),
        )
        await until(lambda: service.service.failure is not None)
