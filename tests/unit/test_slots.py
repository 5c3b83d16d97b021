import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from app.serving.slots import EngineSlots
from tests.fakes import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def slots() -> AsyncIterator[EngineSlots]:
    """One slot."""
    one = EngineSlots(1)
    yield one
    one.close()


async def test_in_turn(slots: EngineSlots) -> None:
    """Who asked first gets the slot first, and one at a time holds it."""
    seen: list[str] = []
    for name in ("first", "second"):
        slots.request(lambda name=name: seen.append(name))  # type: ignore[misc]
    assert seen == []  # not before the next turn of the event loop
    await asyncio.sleep(0)
    assert seen == ["first"]
    slots.release()
    assert seen == ["first", "second"]


async def test_result_comes_back_to_the_loop(slots: EngineSlots) -> None:
    """Work runs in another thread; its result comes back to that of the event loop."""
    here = threading.get_ident()
    found: list[tuple[int, int, BaseException | None]] = []
    slots.run(threading.get_ident, lambda r, e: found.append((r, threading.get_ident(), e)))
    await until(lambda: bool(found))
    there, back, error = found[0]
    assert there != here
    assert (back, error) == (here, None)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
async def test_error_comes_back(slots: EngineSlots, error: BaseException) -> None:
    """Whatever work raises is handed over, and the thread goes on to the next."""

    def fail() -> None:
        raise error

    found: list[BaseException | int | None] = []
    slots.run(fail, lambda _, e: found.append(e))
    slots.run(lambda: 7, lambda r, _: found.append(r))
    await until(lambda: len(found) == 2)
    assert found == [error, 7]


async def test_close_ends_the_threads(slots: EngineSlots) -> None:
    """After `close` the work that was given is done, and then the threads end."""
    found: list[int] = []
    slots.run(lambda: 7, lambda r, _: found.append(r))
    (thread,) = slots._threads
    slots.close()
    await asyncio.to_thread(thread.join, 30)
    await until(lambda: bool(found))
    assert not thread.is_alive()


async def test_result_for_a_loop_that_has_ended() -> None:
    """A thread whose event loop is closed ends; there is nobody to tell."""
    go, threads = threading.Event(), []

    async def leave_work_behind() -> None:
        slots = EngineSlots(1)
        slots.run(go.wait, lambda *_: None)
        threads.extend(slots._threads)

    await asyncio.to_thread(asyncio.run, leave_work_behind())
    go.set()
    await asyncio.to_thread(threads[0].join, 30)
    assert not threads[0].is_alive()
