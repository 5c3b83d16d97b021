"""What HTTP clients expect of any server: codings, HEAD, OPTIONS, slashes, byte order marks."""

import asyncio
import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.api.body import Bodies
from app.api.codings import MIN_BYTES, choose_coding
from tests.fakes import Running, run_service

pytestmark = pytest.mark.anyio

BODY = b'{"text": "good"}'
LIMIT = 200_000


def pack(data: bytes) -> bytes:
    """Gzip without the time of day, so that every process collects the same tests."""
    return gzip.compress(data, mtime=0)


def deflate(data: bytes) -> bytes:
    """The data of zlib's format without its header and checksum, as some clients send it."""
    return zlib.compress(data)[2:-4]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, so that its tests share a service."""
    return "asyncio"


@pytest.fixture(scope="module")
async def small(fake_models: Path) -> AsyncIterator[Running]:
    """A service with a limit of 200 kB."""
    async with run_service(fake_models, max_body_bytes=LIMIT) as service:
        yield service


async def send(service: Running, body: bytes, coding: str, path: str = "/predict") -> Any:
    return await service.client.post(path, content=body, headers={"Content-Encoding": coding})


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", pack(BODY)),
        ("GZIP", pack(BODY)),
        ("x-gzip", pack(BODY)),
        ("gzip", pack(BODY[:5]) + pack(b"") + pack(BODY[5:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
)
async def test_packed_body(small: Running, coding: str, body: bytes) -> None:
    """A body in gzip or deflate is unpacked, in several parts too."""
    assert (await send(small, body, coding)).json()["label"] == "positive"


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", BODY, 415),
        ("gzip, gzip", pack(pack(BODY)), 415),
        ("gzip", BODY, 400),
        ("gzip", b"", 400),
        ("gzip", pack(BODY)[:-1], 400),
        ("gzip", pack(BODY) + b"SECRET", 400),
        ("deflate", zlib.compress(BODY) + b"\0", 400),
        ("deflate", b"\xff\xff", 400),
        ("gzip", pack(b"not JSON"), 400),
    ],
)
async def test_body_that_cannot_be_unpacked(
    small: Running, coding: str, body: bytes, status: int
) -> None:
    """415 names the codings that are taken; 400 is a body that is not whole."""
    for path in ("/predict", "/v2/models/lstm/infer", "/v1/models/lstm:predict"):
        response = await send(small, body, coding, path)
        assert response.status_code == status
        assert response.headers.get("Accept-Encoding") == (
            "gzip, deflate" if status == 415 else None
        )
        assert "SECRET" not in response.text


async def test_large_packed_body(small: Running) -> None:
    """A body that unpacks to many pieces is whole: no byte is lost between them."""
    letters = random.Random(1).choices("abcdefgh ", k=90_000)
    body = json.dumps({"text": "".join(letters)}).encode()
    native = await small.client.post("/predict", content=body)
    for coding, packed in (("gzip", pack(body)), ("deflate", deflate(body))):
        assert (await send(small, packed, coding)).json() == native.json()


@pytest.mark.parametrize("size", [LIMIT + 1, 20 * LIMIT])
async def test_bomb(small: Running, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """413 for what unpacks to more than the limit, and no more of it is ever unpacked."""
    held: list[int] = []
    release = Bodies.release

    def note(bodies: Bodies, count: int) -> None:
        held.append(bodies.received)
        release(bodies, count)

    monkeypatch.setattr(Bodies, "release", note)
    response = await send(small, pack(b" " * size), "gzip")
    assert response.status_code == 413
    assert 0 < max(held) <= LIMIT


async def test_body_that_unpacks_to_nothing(small: Running) -> None:
    """What arrives is limited, too: thousands of empty parts are refused."""
    response = await send(small, pack(b"") * (LIMIT // 20 + 1), "gzip")
    assert response.status_code == 413


# --- answers


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br", b"gzip"),
        (b"deflate", b"deflate"),
        (b"deflate, gzip;q=0.5", b"deflate"),
        (b"GZip ; q=1", b"gzip"),
        (b"*", b"gzip"),
        (b"gzip;q=0, *", b"deflate"),
        (b"br", None),
        (b"identity", None),
        (b"gzip;q=0", None),
        (b"gzip;q=high", None),
        (b"", None),
        (b"," * 10_000, None),
    ],
)
def test_choice(header: bytes, coding: bytes | None) -> None:
    """The coding with the highest weight, gzip if they are equal."""
    assert choose_coding(header) == coding


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_packed_answer(small: Running, coding: str) -> None:
    """A long answer is packed when asked, a short one or one that nobody asked for is not."""
    texts = ["good film"] * 100

    async def ask(texts: list[str], asked: str) -> Any:
        headers = {"Accept-Encoding": asked}
        return await small.client.post("/predict", json={"texts": texts}, headers=headers)

    packed, plain, short = await asyncio.gather(
        ask(texts, coding), ask(texts, "identity"), ask(texts[:1], coding)
    )
    assert packed.headers["Content-Encoding"] == coding
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 10
    assert packed.json() == plain.json()
    for each in (plain, short):
        assert "Content-Encoding" not in each.headers
        assert int(each.headers["Content-Length"]) == len(each.content)
    assert len(short.content) < MIN_BYTES


async def test_packed_metrics(small: Running) -> None:
    """Prometheus asks for gzip, and gets it."""
    response = await small.client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert "valence_requests_in_flight 0" in response.text


# --- methods and paths


async def test_head(running: Running) -> None:
    """HEAD is GET without a body, wherever GET is."""
    for path in (
        "/livez",
        "/readyz",
        "/metrics",
        "/models",
        "/models/lstm",
        "/v2",
        "/v1/models/lstm",
    ):
        head, get = await running.client.head(path), await running.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert (await running.client.head("/none")).status_code == 404
    assert (await running.client.head("/predict")).status_code == 405
    labels = {"route": "/v2", "model": "", "status": "200"}
    assert running.sample("requests_total", **labels) == 2


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/predict", "OPTIONS, POST"),
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/v2/models/lstm/infer", "OPTIONS, POST"),
        ("/V1/Models/lstm:predict", "OPTIONS, POST"),
        ("*", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_options(small: Running, path: str, methods: str) -> None:
    """OPTIONS, and a method that a path does not take, name those that it takes."""
    sent: list[Any] = []

    async def note(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "OPTIONS", "path": path, "query_string": b"", "headers": []}
    await small.app(scope, None, note)  # type: ignore[arg-type]
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"allow"]) == (204, methods.encode())
    if path != "*":
        response = await small.client.delete(path)
        assert response.headers.get("Allow") == methods
    assert (await small.client.options("/none")).status_code == 404


@pytest.mark.parametrize("path", ["/predict/", "/predict"])
async def test_slash(small: Running, path: str) -> None:
    """A slash at the end of a path changes nothing, two are another path."""
    assert (await small.client.post(path, content=BODY)).status_code == 200
    assert (await small.client.get("/livez/")).status_code == 200
    assert (await small.client.post(f"{path.rstrip('/')}//", content=BODY)).status_code == 404


async def test_byte_order_mark(small: Running) -> None:
    """A byte order mark before UTF-8 is taken; UTF-16 is not."""
    marked = await small.client.post("/predict", content=b"\xef\xbb\xbf" + BODY)
    assert marked.json()["label"] == "positive"
    wide = await small.client.post("/predict", content=BODY.decode().encode("utf-16"))
    assert wide.status_code == 400
