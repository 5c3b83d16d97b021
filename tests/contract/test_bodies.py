"""All bodies in flight together have a limit, and every end of a request frees its body."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.api.body import SMALL_BODY_BYTES, Bodies
from app.errors import BodiesFull
from tests.fakes import Running, run_service, until

pytestmark = pytest.mark.anyio

LIMIT = 4000
HALF = json.dumps({"text": "good " * 380}).encode()


@pytest.fixture
async def small(fake_models: Path) -> AsyncIterator[Running]:
    """A service with room for two of its largest bodies."""
    limits = {"max_body_bytes": LIMIT // 2, "max_bodies_bytes": LIMIT}
    async with run_service(fake_models, **limits) as service:
        yield service


class Upload:
    """A request whose body is sent piece by piece."""

    def __init__(self, service: Running, **headers: bytes) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": b"",
            "headers": [(n.replace("_", "-").encode(), value) for n, value in headers.items()],
        }
        self.task = asyncio.create_task(service.app(scope, self._messages.get, self._send))  # type: ignore[arg-type]

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def send(self, body: bytes, *, more: bool = True) -> None:
        """Send a piece, and let the application take it."""
        self._messages.put_nowait({"type": "http.request", "body": body, "more_body": more})
        await until(lambda: self._messages.empty() or self.task.done())
        await asyncio.sleep(0)

    async def leave(self) -> None:
        """Disconnect, and wait for the end of the request."""
        self._messages.put_nowait({"type": "http.disconnect"})
        await self.task

    async def status(self) -> int:
        """Wait for the answer."""
        await self.task
        return int(self.sent[0]["status"])


async def test_full(small: Running) -> None:
    """503 with Retry-After, counted, while others hold the memory; 200 when they have left."""
    others = [Upload(small) for _ in range(2)]
    for other in others:
        await other.send(HALF)
    refused = await small.client.post("/predict", content=HALF)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["type"] == "urn:valence:problem:bodies-full"
    assert small.sample("rejected_total", reason="bodies_full") == 1
    await others[0].leave()
    assert (await small.client.post("/predict", content=HALF)).status_code == 200
    await others[1].send(b"", more=False)
    assert await others[1].status() == 200


async def test_body_without_a_length(small: Running) -> None:
    """A body without Content-Length is refused as soon as it does not fit."""
    uploads = [Upload(small) for _ in range(3)]
    for upload in uploads[:2]:
        await upload.send(HALF)
    await uploads[2].send(b" " * (LIMIT - 2 * len(HALF)))
    assert uploads[2].sent == []
    await uploads[2].send(b" ")
    assert await uploads[2].status() == 503
    for upload in uploads[:2]:
        await upload.leave()


async def test_announced_bytes_keep_nobody_out(small: Running) -> None:
    """A length that was only announced takes no room."""
    silent = [Upload(small, content_length=b"2000") for _ in range(20)]
    assert (await small.client.post("/predict", content=HALF)).status_code == 200
    for each in silent:
        await each.leave()


async def test_large_body_is_refused_unread(running: Running) -> None:
    """A large body that does not fit is refused by its length, before any of it is read."""
    running.app.state.bodies.received = 60 * 2**20
    assert await Upload(running, content_length=b"100000").status() == 503
    assert await Upload(running, content_length=b"%d" % 2**22).status() == 503
    running.app.state.bodies.received = 0
    assert (await running.predict(text="good")).status_code == 200


async def leave(service: Running) -> None:
    upload = Upload(service)
    await upload.send(HALF)
    await upload.leave()


async def leave_while_waiting(service: Running) -> None:
    service.engine.gate.clear()
    upload = Upload(service)
    await upload.send(HALF, more=False)
    await upload.leave()
    service.engine.gate.set()


async def miss_the_deadline(service: Running) -> None:
    upload = Upload(service, x_request_timeout_ms=b"1")
    await upload.send(HALF)
    assert await upload.status() == 504


async def be_cancelled(service: Running) -> None:
    upload = Upload(service)
    await upload.send(HALF)
    upload.task.cancel()
    await asyncio.wait([upload.task])


def answered(status: int, body: bytes) -> Callable[[Running], Awaitable[None]]:
    async def ask(service: Running) -> None:
        assert (await service.client.post("/predict", content=body)).status_code == status

    return ask


@pytest.mark.parametrize(
    "end",
    [
        leave,
        leave_while_waiting,
        miss_the_deadline,
        be_cancelled,
        answered(200, HALF),
        answered(400, b" " * 1900),
        answered(404, json.dumps({"model": "n" * 1900, "text": "good"}).encode()),
        answered(413, b" " * 2001),
        answered(422, b'{"other": 1}' + b" " * 1900),
        answered(500, json.dumps({"text": "poison " * 270}).encode()),
    ],
)
async def test_freed(small: Running, end: Callable[[Running], Awaitable[None]]) -> None:
    """However a request ends, its body no longer counts: two of the largest still fit."""
    for _ in range(5):
        await end(small)
    last = [Upload(small) for _ in range(2)]
    for upload in last:
        await upload.send(HALF + b" " * (LIMIT // 2 - len(HALF)), more=False)
    assert [await upload.status() for upload in last] == [200, 200]


async def test_freed_after_an_unexpected_error(
    small: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug frees the body, too."""
    with monkeypatch.context() as broken:
        broken.setattr(small.service.repository, "find", lambda *_: 1 / 0)
        for _ in range(5):
            await answered(500, HALF)(small)
    await answered(200, HALF)(small)


def test_room_for_small_bodies() -> None:
    """An eighth of the memory is for small bodies: large ones cannot keep them out."""
    bodies = Bodies(8 * 2**20)
    bodies.received = 7 * 2**20
    bodies.require(2**20, SMALL_BODY_BYTES)
    with pytest.raises(BodiesFull, match="at most 8388608 bytes"):
        bodies.require(1, SMALL_BODY_BYTES + 1)
    with pytest.raises(BodiesFull):
        bodies.require(2**20 + 1, SMALL_BODY_BYTES)


@pytest.mark.parametrize(("size", "ends"), [(SMALL_BODY_BYTES, 0), (SMALL_BODY_BYTES + 1, 1)])
def test_end_of_a_large_body(size: int, ends: int) -> None:
    """The end of a request with a large body is told, because its memory can be given back."""
    told: list[int] = []
    bodies = Bodies(2**20, on_large_end=lambda: told.append(1))
    bodies.received += size
    bodies.release(size)
    assert (bodies.received, len(told)) == (0, ends)
