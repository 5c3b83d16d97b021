"""The engine threads: who gets one, and how results return."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from app.serving.slots import EngineSlots
from tests.fakes import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def slots() -> AsyncIterator[EngineSlots]:
    """One engine thread."""
    one = EngineSlots(1)
    yield one
    one.close()


async def test_first_come_first_served(slots: EngineSlots) -> None:
    """Requests are granted first come, first served, one at a time for one thread."""
    seen: list[str] = []
    for name in ("first", "second"):
        slots.request(lambda name=name: seen.append(name))  # type: ignore[misc]
    assert seen == []  # not before the next iteration of the event loop
    await asyncio.sleep(0)
    assert seen == ["first"]
    slots.release()
    assert seen == ["first", "second"]


async def test_background_comes_last(slots: EngineSlots) -> None:
    """A request in the background is granted when no other waits, also none that came later."""
    seen: list[str] = []
    slots.request(lambda: seen.append("background"), background=True)
    for name in ("first", "second"):
        slots.request(lambda name=name: seen.append(name))  # type: ignore[misc]
    await asyncio.sleep(0)
    slots.release()
    slots.request(lambda: seen.append("later"))
    slots.release()
    slots.release()
    assert seen == ["first", "second", "later", "background"]


async def test_result_returns_to_the_event_loop(slots: EngineSlots) -> None:
    """Work runs on another thread; its result is delivered on the event loop's."""
    here = threading.get_ident()
    found: list[tuple[int, int, BaseException | None]] = []
    slots.run(threading.get_ident, lambda r, e: found.append((r, threading.get_ident(), e)))
    await until(lambda: bool(found))
    there, back, error = found[0]
    assert there != here
    assert (back, error) == (here, None)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
async def test_engine_threads_give_way(slots: EngineSlots) -> None:
    """An engine thread has a lower priority than the event loop, which answers and refuses."""

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found: list[int] = []
    slots.run(niceness, lambda result, _: found.append(result))
    await until(lambda: bool(found))
    assert found[0] > niceness()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
async def test_exception_returns(slots: EngineSlots, error: BaseException) -> None:
    """Any exception of the work is delivered, and the thread runs the next job."""

    def fail() -> None:
        raise error

    found: list[BaseException | int | None] = []
    slots.run(fail, lambda _, e: found.append(e))
    slots.run(lambda: 7, lambda r, _: found.append(r))
    await until(lambda: len(found) == 2)
    assert found == [error, 7]


async def test_close_ends_the_threads(slots: EngineSlots) -> None:
    """After `close` the threads finish their work and end."""
    found: list[int] = []
    slots.run(lambda: 7, lambda r, _: found.append(r))
    (thread,) = slots._threads
    slots.close()
    await asyncio.to_thread(thread.join, 30)
    await until(lambda: bool(found))
    assert not thread.is_alive()


async def test_result_for_a_closed_event_loop() -> None:
    """A thread ends if its event loop is closed."""
    go, threads = threading.Event(), []

    async def leave_work_behind() -> None:
        slots = EngineSlots(1)
        slots.run(go.wait, lambda *_: None)
        threads.extend(slots._threads)

    await asyncio.to_thread(asyncio.run, leave_work_behind())
    go.set()
    await asyncio.to_thread(threads[0].join, 30)
    assert not threads[0].is_alive()


async def test_busy_seconds(slots: EngineSlots) -> None:
    """Busy seconds grow while a thread has work, and stand still while it has none."""
    gate = threading.Event()
    done: list[bool] = []
    slots.run(gate.wait, lambda *_: done.append(True))
    before = slots.busy_s()
    await until(lambda: slots.busy_s() > before)
    gate.set()
    await until(lambda: bool(done))
    after = slots.busy_s()
    await asyncio.sleep(0)
    assert slots.busy_s() == after > before
