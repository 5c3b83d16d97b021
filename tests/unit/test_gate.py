"""Which requests are refused from their bytes, and with what answer."""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.api.gate import Gate
from app.api.keys import Keys
from app.main import make_gate
from app.serving.admission import Admission
from app.settings import Settings
from tests.fakes import ManualClock, Running, run_service

pytestmark = pytest.mark.anyio

BODY = b'{"text": "good"}'


def request(*headers: bytes, body: bytes = BODY, start: bytes = b"POST /predict HTTP/1.1") -> bytes:
    lines = (start, b"Host: valence", *headers, b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, b"", body))


@pytest.fixture
def overloaded(running: Running, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The gate of a service whose model runs, and whose every answer would be late."""
    monkeypatch.setattr(Admission, "lateness_s", lambda *_: 2.5)
    predictor = running.service.repository.find().predictor
    assert predictor is not None
    predictor._admission.begin(10, 1)
    running.service.engine_load.refused_at = math.inf
    return make_gate(running.service, Settings())


async def test_same_answer_as_the_ordinary_way(overloaded: Gate, running: Running) -> None:
    """A request that is refused early gets the same answer as one that is refused late."""
    answer = overloaded.refuse(request(b"X-Request-ID: abc \t"))
    late = await running.client.post("/predict", content=BODY, headers={"X-Request-ID": "abc"})
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status == "HTTP/1.1 429 Too Many Requests"
    assert dict(line.split(": ") for line in lines) == dict(late.headers)
    assert json.loads(body) == late.json()


async def test_counted(overloaded: Gate, running: Running) -> None:
    """An early refusal is counted like any other."""
    overloaded.refuse(request())
    labels = {"route": "/predict", "model": "lstm", "status": "429"}
    assert running.sample("requests_total", **labels) == 1
    assert running.sample("rejected_total", reason="too_late") == 1


@pytest.mark.parametrize(
    "data",
    [
        request(),
        request(b"X-Request-Timeout-Ms: 200"),
        request(b"content-type: application/json", b"Accept: */*"),
        request(body=b'{"text": "good", "model": "lstm"}'),
        request(body=b'{"text": "he said \\"model\\": \\"none\\""}'),
        request(body=b"not read"),
    ],
)
async def test_refused(overloaded: Gate, data: bytes) -> None:
    """A whole request in one read is refused early, the same headers again too."""
    assert overloaded.refuse(data)
    assert overloaded.refuse(data)


@pytest.mark.parametrize(
    "data",
    [
        request(start=b"GET /predict HTTP/1.1"),
        request(start=b"POST /predict HTTP/1.0"),
        request(start=b"POST /predict?x=1 HTTP/1.1"),
        request()[:-1],
        request()[:30],
        request() + request(),
        request(b"Transfer-Encoding: chunked"),
        request(b"Transfer-Encoding : chunked"),
        request(b"Content-Length: 16"),
        request(b"Host: other"),
        request(b"Connection: close"),
        request(b"Expect: 100-continue"),
        request(b"Upgrade: h2c"),
        request(b"X: a\nTransfer-Encoding: chunked"),
        request(b" folded: yes"),
        request(b"X\0: a"),
        request(b"Authorization: Bearer key"),
        request(b"X-API-Key: key"),
        request(b"Origin: https://example.com"),
        request(b"X-Request-Timeout-Ms: 0"),
        request(b"X-Request-Timeout-Ms: soon"),
        request(body=b'{"text": "good", "model": 5}'),
        request(body=b'{"text": "good", "model": "nobody"}'),
        request(body=b'{"text": "good", "version": 1}'),
        request(body=b'{"inputs": "good"}'),
        b"POST /predict HTTP/1.1\r\nContent-Length: 16\r\n\r\n" + BODY,
    ],
)
async def test_ordinary_way(overloaded: Gate, data: bytes) -> None:
    """Whatever is not plainly a whole request for a model takes the ordinary way."""
    assert overloaded.refuse(data) is None
    assert overloaded.refuse(data) is None


async def test_without_overload(overloaded: Gate, running: Running) -> None:
    """The first refusal goes the ordinary way; the ones of the next second are early."""
    running.service.engine_load.refused_at = -math.inf
    assert overloaded.refuse(request()) is None
    assert (await running.predict(text="good")).status_code == 429
    assert overloaded.refuse(request())


async def test_in_time(running: Running) -> None:
    """A request that can be answered in time takes the ordinary way."""
    running.service.engine_load.refused_at = math.inf
    assert make_gate(running.service, Settings()).refuse(request()) is None


async def test_late_canary(
    fake_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary that is late refuses its own share of the requests alone."""
    models = shutil.copytree(fake_models, tmp_path / "models")
    aliases = '{"stable": 1, "canary": 2, "canary_share": 0.1}'
    (models / "lstm" / "aliases.json").write_text(aliases)
    async with run_service(models) as running:
        canary = running.service.repository.find("lstm", "canary").predictor
        assert canary is not None
        late = canary._admission
        monkeypatch.setattr(Admission, "lateness_s", lambda self, *_: 2.5 if self is late else -1)
        late.begin(10, 1)
        running.service.engine_load.refused_at = math.inf
        gate = make_gate(running.service, Settings())
        asked = [request(b"X-Request-ID: %d" % number) for number in range(300)]
        refused = sum(gate.refuse(data) is not None for data in asked)
    assert 15 <= refused <= 45


async def test_expected_requests_count(fake_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that were read and do not wait yet count as waiting."""
    expected: list[float] = []
    async with run_service(fake_models) as service:
        gate: Any = make_gate(service.service, Settings())
        service.service.engine_load.refused_at = math.inf
        monkeypatch.setattr(Admission, "tokenizing", lambda _self, tokens: expected.append(tokens))
        gate.refuse(request())
        gate.refuse(request())
        await service.predict(text="good")
    assert expected[0] == expected[1] > 0
    assert sum(expected) == pytest.approx(0)


KEY = b"vk_of_the_test"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """One key, which may be used twice at once."""
    file = tmp_path / "keys.txt"
    file.write_text(f"shop {hashlib.sha256(KEY).hexdigest()} 2")
    return Keys(file, clock=ManualClock())


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ((b"Authorization: Bearer " + KEY,), True),
        ((b"authorization:bearer " + KEY,), True),
        ((b"X-API-Key: " + KEY,), True),
        ((b"Authorization: Basic a:b", b"X-API-Key: " + KEY), True),
        ((), False),
        ((b"X-API-Key: wrong",), False),
        ((b"Authorization: " + KEY,), False),
        ((b"X-API-Key: " + KEY, b"Authorization: Bearer " + KEY), False),
        ((b"X-API-Key: " + KEY, b"X-API-Key: wrong"), False),
    ],
)
async def test_with_keys(
    overloaded: Gate, running: Running, keys: Keys, headers: tuple[bytes, ...], refused: bool
) -> None:
    """With keys only a request with a valid one is refused early; the others get 401 later."""
    gate = make_gate(running.service, Settings(), keys)
    answers = [gate.refuse(request(*headers)) for _ in range(2)]
    assert [answer is not None for answer in answers] == [refused] * 2
    assert all(KEY not in (answer or b"") for answer in answers)


async def test_rate_under_overload(overloaded: Gate, running: Running, keys: Keys) -> None:
    """An early refusal counts against the rate of the key, and then says so."""
    gate = make_gate(running.service, Settings(), keys)
    data = request(b"X-API-Key: " + KEY)
    types = [b"rate-limit" in (gate.refuse(data) or b"") for _ in range(3)]
    assert types == [False, False, True]
    assert running.sample("rejected_total", reason="too_late") == 2
    assert running.sample("rejected_total", reason="rate_limit") == 1
