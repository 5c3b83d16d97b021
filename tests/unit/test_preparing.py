"""What a worker holds while it prepares a plan."""

import asyncio
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.artifact import digest_manifest
from app.main import create_service
from app.serving.engines import Engine
from app.serving.plan import Plan
from app.settings import Settings
from tests.fakes import FakeEngine, until, write_version

pytestmark = pytest.mark.anyio


class Worker:
    """A worker whose supervisor is the test."""

    number = 1

    def __init__(self, plan: Plan) -> None:
        self.generation = [plan.generation]
        self.agreed = plan.to_message()
        self.states: list[Any] = []
        self.reports: list[Mapping[str, Any]] = []

    def report(self, message: Mapping[str, Any]) -> None:
        self.reports.append(message)

    async def gather(self) -> list[Any]:
        return []


async def test_another_plan_is_dropped_meanwhile(tmp_path: Path) -> None:
    """What was loaded for a plan is kept while the rest is loaded, whatever else is dropped."""
    write_version(tmp_path, "bow", 1)
    late = write_version(tmp_path, "lstm", 1)
    keys = ("bow/1", "lstm/1")
    worker = Worker(Plan(5, "lstm", {key: digest_manifest(tmp_path / key) for key in keys}))
    aside = late.rename(tmp_path / "aside")
    gate, loading = threading.Event(), threading.Event()

    def load(folder: Path) -> Engine:
        if folder == late:
            loading.set()
            gate.wait(30)
        return FakeEngine()

    settings = Settings(models_dir=tmp_path, threads=1)
    service = create_service(settings, load=load, workers=worker)
    service.start()
    await until(lambda: len(worker.reports) == 1)
    aside.rename(late)
    service.obey({"prepare": worker.agreed})
    await asyncio.to_thread(loading.wait)
    service.obey({"discard": 6})
    gate.set()
    await until(lambda: len(worker.reports) == 2)
    assert [list(report["reasons"]) for report in worker.reports] == [["lstm/1"], []]
    assert service.lifecycle.ready
    await service.drain()


async def test_next_plan_needs_what_was_loaded(tmp_path: Path) -> None:
    """A newcomer whose plan was replaced while it loaded loads the rest, and nothing twice."""
    for name, number in (("bow", 1), ("lstm", 1), ("lstm", 2)):
        write_version(tmp_path, name, number)
    digests = {key: digest_manifest(tmp_path / key) for key in ("bow/1", "lstm/1", "lstm/2")}
    first = Plan(5, "lstm", {key: digests[key] for key in ("bow/1", "lstm/1")})
    second = Plan(6, "lstm", {key: digests[key] for key in ("bow/1", "lstm/2")})
    worker = Worker(first)
    shutil.rmtree(tmp_path / "lstm" / "1")
    loaded: list[str] = []

    def load(folder: Path) -> Engine:
        loaded.append(str(folder.relative_to(tmp_path)))
        return FakeEngine()

    service = create_service(Settings(models_dir=tmp_path, threads=1), load=load, workers=worker)
    service.start()
    await until(lambda: len(worker.reports) == 1)
    worker.generation[0] = 6
    service.obey({"serving": 6})
    service.obey({"prepare": second.to_message()})
    await until(lambda: len(worker.reports) == 2)
    assert service.lifecycle.ready
    assert loaded == ["bow/1", "lstm/2"]
    await service.drain()
