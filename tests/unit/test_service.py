"""Memory that is given back."""

import asyncio

import pytest

from app import gc_tuning
from app.gc_tuning import Releaser
from tests.fakes import until

pytestmark = pytest.mark.anyio


async def test_released_once_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is given back once for everything that ended in a while, and again later."""
    monkeypatch.setattr(gc_tuning, "_RELEASE_AFTER_S", 0)
    released: list[int] = []
    releaser = Releaser(lambda: released.append(1))
    for count in (1, 2):
        for _ in range(10):
            releaser.schedule()
        await until(lambda count=count: len(released) == count)  # type: ignore[misc]
    await asyncio.sleep(0)
    assert len(released) == 2
