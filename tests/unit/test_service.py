"""Memory that is given back."""

import asyncio
from pathlib import Path

import pytest

from app import service
from app.main import create_service
from app.settings import Settings
from tests.fakes import until

pytestmark = pytest.mark.anyio


async def test_released_once_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is given back once for everything that ended in a while, and again later."""
    monkeypatch.setattr(service, "_RELEASE_AFTER_S", 0)
    released: list[int] = []
    one = create_service(Settings(models_dir=tmp_path), on_released=lambda: released.append(1))
    for count in (1, 2):
        for _ in range(10):
            one.release_memory_soon()
        await until(lambda count=count: len(released) == count)  # type: ignore[misc]
    await asyncio.sleep(0)
    assert len(released) == 2
    await one.drain()
