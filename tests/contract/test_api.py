"""The HTTP API, as clients see it."""

import asyncio
import gc
import gzip
import json
import logging
import re
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest

from app.api.error_handlers import HTTP_PROBLEMS, INTERNAL
from app.artifact import Quality, Reliability, digest_manifest
from app.errors import Overloaded
from app.gc_tuning import freeze_heap
from app.main import create_app
from app.serving.admission import Admission
from app.serving.engines import Engine
from app.serving.plan import Plan
from app.settings import Settings
from tests.fakes import (
    POISON,
    FakeEngine,
    Running,
    lock,
    make_encoder,
    run_service,
    until,
    write_version,
)

pytestmark = pytest.mark.anyio

TEXT_TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES"}
LIMITS = {"max_text_chars": 100, "max_texts_per_request": 4, "max_body_bytes": 1000}


@pytest.fixture
async def small(fake_models: Path) -> AsyncIterator[Running]:
    """A ready service with small limits."""
    async with run_service(fake_models, **LIMITS) as service:
        yield service


def http_scope(path: str, **headers: bytes) -> dict[str, Any]:
    """The ASGI scope of a POST."""
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value) for name, value in headers.items()],
    }


async def drop(_message: Any) -> None:
    """Ignore what the application sends."""


# --- answers ---


async def test_one_text(running: Running) -> None:
    """`text` gets model, version, label, all probabilities, and how much of it was known."""
    response = await running.predict(text="a good film")
    assert response.status_code == 200
    body = response.json()
    probabilities = body.pop("probabilities")
    assert body == {
        "model": "lstm",
        "version": 2,
        "label": "positive",
        "tokens": 3,
        "unknown": 1,
        "truncated": False,
        "reliable": True,
    }
    assert list(probabilities) == ["negative", "positive"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)


async def test_several_texts(running: Running) -> None:
    """`texts` gets one prediction each, in order."""
    response = await running.predict(texts=["good", "bad", "good good", "bad bad bad"])
    body = response.json()
    labels = [prediction["label"] for prediction in body["predictions"]]
    assert labels == ["positive", "negative", "positive", "negative"]
    assert (body["model"], body["version"]) == ("lstm", 2)


async def test_truncated(running: Running) -> None:
    """A truncated text says so, and counts all its tokens."""
    body = (await running.predict(text="good " * 100)).json()
    assert (body["tokens"], body["truncated"]) == (100, True)


@pytest.mark.parametrize(
    ("text", "counts"),
    [("...", (0, 0)), ("zzyzx qwrt", (2, 2)), ("\U0001f600 :)", (2, 2)), ("x " * 99, (99, 99))],
)
async def test_nothing_to_go_by(running: Running, text: str, counts: tuple[int, int]) -> None:
    """A text without a known token gets even odds, the first label, and `reliable` false."""
    for body, explain in (({"text": text}, False), ({"texts": [text, "good"]}, True)):
        answer = (await running.predict(**body, explain=explain)).json()
        first = answer["predictions"][0] if "texts" in body else answer
        assert first["probabilities"] == {"negative": 0.5, "positive": 0.5}
        assert (first["label"], first["reliable"]) == ("negative", False)
        assert (first["tokens"], first["unknown"]) == counts
    assert answer["predictions"][1]["reliable"]
    assert {word["contribution"] for word in first["explanation"]} <= {0.0}


async def test_nothing_to_go_by_in_other_protocols(running: Running) -> None:
    """All protocols answer the same."""
    post = running.client.post
    scores = (await post("/predict", json={"inputs": "..."})).json()
    assert scores == [{"label": "negative", "score": 0.5}, {"label": "positive", "score": 0.5}]
    rows = (await post("/v1/models/lstm:predict", json={"instances": ["..."]})).json()
    assert rows == {"predictions": [[0.5, 0.5]]}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["..."]}
    outputs = (await post("/v2/models/lstm/infer", json={"inputs": [tensor]})).json()["outputs"]
    assert {each["name"]: each["data"] for each in outputs} == {
        "probabilities": [0.5, 0.5],
        "label": ["negative"],
    }


async def test_explain(running: Running) -> None:
    """With `explain` each word has its place, its contribution, and whether it is known."""
    text = "\U0001f600 A <i>good</i> film"
    for body in ({"text": text}, {"texts": [text, "film", " "]}):
        answer = (await running.predict(**body, explain=True)).json()
        first = answer["predictions"][0] if "texts" in body else answer
        words = first["explanation"]
        spoken = [text[word["start"] : word["end"]] for word in words]
        assert spoken == ["\U0001f600", "A", "good", "film"]
        assert [word["contribution"] for word in words] == pytest.approx([0, 0, 1, 0], abs=1e-4)
        assert [word["known"] for word in words] == [False, False, True, True]
        plain = (await running.predict(**body)).json()
        assert "explanation" not in json.dumps(plain)
    assert "error" in answer["predictions"][2]


async def test_wrong_explain(running: Running) -> None:
    """`explain` is true or false, and for few texts."""
    assert_problem(await running.predict(text="good", explain="yes"), 422)
    assert_problem(await running.predict(texts=["good"] * 17, explain=True), 413)
    for explain in (False, None):
        response = await running.predict(texts=["good"] * 17, explain=explain)
        assert response.status_code == 200


@pytest.mark.parametrize("version", [1, "1"])
async def test_model_and_version(running: Running, version: Any) -> None:
    """`model` and `version` choose the version; a string of digits is a version too."""
    body = (await running.predict(text="good", model="lstm", version=version)).json()
    assert (body["model"], body["version"]) == ("lstm", 1)
    assert (await running.predict(text="good", model="bow")).json()["model"] == "bow"


async def test_body_without_content_type(running: Running) -> None:
    """The body is read as JSON whatever the Content-Type says."""
    response = await running.client.post("/predict", content=b'{"text": "good"}')
    assert response.status_code == 200


async def test_request_id_is_kept(running: Running) -> None:
    """A valid X-Request-ID is returned; an invalid one is replaced."""
    for sent, kept in (("a.B-1_2", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)):
        response = await running.client.get("/livez", headers={"X-Request-ID": sent})
        assert (response.headers["X-Request-ID"] == sent) == kept


@pytest.mark.parametrize("behind", [b" ", b"\t", b" \t "])
async def test_whitespace_behind_a_header(running: Running, behind: bytes) -> None:
    """It is no part of the value."""
    headers = {b"X-Request-ID": b"mine" + behind, b"X-Request-Timeout-Ms": b"9000" + behind}
    response = await running.client.post("/predict", json={"text": "good"}, headers=headers)
    assert (response.status_code, response.headers["X-Request-ID"]) == (200, "mine")


async def test_request_id_is_generated(running: Running) -> None:
    """Without X-Request-ID each response gets its own, errors too."""
    responses = [await running.client.get(path) for path in ("/livez", "/livez", "/nothing")]
    assert len({response.headers["X-Request-ID"] for response in responses}) == 3
    assert responses[2].json()["request_id"] == responses[2].headers["X-Request-ID"]


async def test_server_timing(running: Running) -> None:
    """A prediction has the durations of its parts in milliseconds."""
    timing = (await running.predict(text="good")).headers["Server-Timing"]
    parts = dict(part.strip().split(";dur=") for part in timing.split(","))
    assert list(parts) == ["tokenize", "queue", "infer"]
    assert all(float(duration) >= 0 for duration in parts.values())


# --- errors ---


def assert_problem(response: Any, status: int, *words: str) -> None:
    """The response is problem details with this status, and its detail has these words."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["status"] == status
    for word in words:
        assert word in body["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"good",
        b'{"text": "good"',
        b'{"text": "good"} x',
        b'{"text": NaN}',
        b'{"text": "a", "version": -Infinity}',
        b'{"text": "\xff\xfe"}',
        b'{"text": "\xed\xa0\x80"}',
        b'{"text": "a\nb"}',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"text": "a", "version": ' + b"1" * 5000 + b"}",
        gzip.compress(b'{"text": "good"}', mtime=0),
    ],
)
async def test_not_json(running: Running, body: bytes) -> None:
    """400: the body is not JSON in UTF-8."""
    assert_problem(await running.client.post("/predict", content=body), 400)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], ["object", "a list"]),
        ("good", ["object"]),
        (None, ["object", "null"]),
        ({}, ["text", "texts"]),
        ({"text": "good", "texts": ["good"]}, ["either"]),
        ({"text": 5}, ["text must be a string", "a number"]),
        ({"text": None}, ["text must be a string"]),
        ({"text": ["good"]}, ["text must be a string"]),
        ({"text": ""}, ["white space"]),
        ({"text": " \t\n\u3000"}, ["white space"]),
        ({"text": "SECRET and a \0"}, ["NUL (U+0000)", "found at character 14"]),
        ({"text": "SECRET\ud800"}, ["lone surrogate", "character 7"]),
        ({"texts": "good"}, ["texts must be a list"]),
        ({"texts": {}}, ["texts must be a list"]),
        ({"texts": []}, ["at least one"]),
        ({"texts": ["good", 5]}, ["texts[1] must be a string"]),
        ({"text": "good", "model": 5}, ["model must be a string"]),
        ({"text": "good", "version": "New!"}, ["version must be"]),
        ({"text": "good", "version": 1.5}, ["version must be"]),
        ({"text": "good", "version": True}, ["version must be"]),
        ({"text": "good", "version": [1]}, ["version must be"]),
        (
            {"text": "good", "SECRET": 1},
            ["text or texts, model, version and explain only", "1 more"],
        ),
        ({"text": "good", "SECRET": 1, "\ud800\n": 2}, ["Received: 2 more"]),
    ],
)
async def test_wrong_field(running: Running, body: Any, words: list[str]) -> None:
    """422: a field is wrong. The detail names the field and the rule, and quotes no text."""
    response = await running.client.post("/predict", content=json.dumps(body))
    assert_problem(response, 422, *words)
    assert "SECRET" not in response.text


DEEP, MANY = 100_000, 10_000


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        *(
            (start * DEEP, 400, "nested too deeply")
            for start in (b"[", b'{"text":', b'{"texts":[', b'[{"a":', b'{"version":')
        ),
        (b"[" * DEEP + b"]" * DEEP, 400, "nested too deeply"),
        (b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "text must be a string"),
        (b'{"texts": [{"text": "good"}]}', 422, "texts[0] must be a string. Received: an object"),
        *(
            (b'{"text": "good", "%b": %b}' % (field, b"7" * MANY), 400, "at most 4300 digits")
            for field in (b"model", b"version", b"other")
        ),
        (b'{"text": ' + b"7" * MANY + b"}", 400, "at most 4300 digits"),
        (b'{"texts": [' + b"-" + b"7" * MANY + b"]}", 400, "at most 4300 digits"),
        (b'{"text": "good", "version": "' + b"7" * MANY + b'"}', 422, "version must be"),
        (b'{"text": "good", "version": 0.' + b"7" * MANY + b"}", 422, "version must be"),
        (b'{"text": "good", "version": 1e' + b"7" * MANY + b"}", 422, "version must be"),
        (b'{"text": "good", "version": ' + b"7" * 4300 + b"}", 404, "lstm (2, 1)"),
        (b'{"text": NaN}', 400, "must be finite"),
        (b'{"text": "good", "version": -Infinity}', 400, "must be finite"),
        (b'{"text": "good", "text": "bad"}', 422, "each field once"),
        (b'{"text": "good", "\\u0074ext": "bad"}', 422, "each field once"),
        (b'{"text": "good", "model": "bow", "model": "bow"}', 422, "each field once"),
        (b'{"model": {"a": 1, "a": 2}, "text": "good"}', 422, "model must be a string"),
        (b"{" + b",".join(b'"%d": 1' % n for n in range(MANY)) + b"}", 422, "10000 more"),
        (b'{"text": "\\ud800"}', 422, "lone surrogate"),
        (b'{"text": "good", "model": "\\ud800"}', 404, "lstm (2, 1)"),
        (b'{"text": "good", "version": "\\ud800"}', 422, "version must be"),
        (b'{"text": "good", "\\ud800": 1}', 422, "1 more"),
        (b'{"text": "good"}' + b"\0", 400, "invalid at character 17"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"text": "good"}', 400, "invalid at character 1"),
    ],
)
async def test_hostile_json(running: Running, body: bytes, status: int, words: str) -> None:
    """Deep nesting, endless numbers, fields that are there twice: refused in a clear sentence."""
    assert_problem(await running.client.post("/predict", content=body), status, words)


@pytest.mark.parametrize(
    "body",
    [
        {"text": "good", "model": "nobody"},
        {"text": "good", "model": ""},
        {"text": "good", "version": 3},
        {"text": "good", "version": "canary"},
        {"text": "good", "version": 0},
        {"text": "good", "version": -1},
        {"text": "good", "version": 10**30},
        {"text": "good", "model": "bow", "version": 2},
        {"text": "good", "model": "../lstm"},
        {"text": "good", "model": "l\0\ud800"},
    ],
)
async def test_unknown_model(running: Running, body: Any) -> None:
    """404: no such model or version. The detail lists those there are."""
    response = await running.client.post("/predict", content=json.dumps(body))
    assert_problem(response, 404, "bow (1)", "lstm (2, 1)")


async def test_unknown_names_are_no_labels(running: Running) -> None:
    """An unknown model or path creates no series."""
    await running.predict(text="good", model="made-up")
    await running.client.get("/made-up")
    await running.client.get("/models/made-up")
    page = (await running.client.get("/metrics")).text
    assert "made-up" not in page
    unknown = {"route": "/predict", "model": "unknown", "status": "404"}
    assert running.sample("requests_total", **unknown) == 1
    assert running.sample("requests_total", route="other", model="", status="404") == 1


async def test_text_over_its_limit(small: Running) -> None:
    """413: a text has more characters than the limit; exactly as many are accepted."""
    assert_problem(await small.predict(text="x" * 101), 413, "100 characters", "101")
    assert (await small.predict(text="x" * 100)).status_code == 200


async def test_texts_over_their_limit(small: Running) -> None:
    """413: there are more texts than the limit; exactly as many are accepted."""
    assert_problem(await small.predict(texts=["good"] * 5), 413, "4 texts", "5")
    assert (await small.predict(texts=["good"] * 4)).status_code == 200


async def test_body_over_its_limit(small: Running) -> None:
    """413: the body has more bytes than the limit."""
    assert_problem(await small.client.post("/predict", content=b" " * 1001), 413, "1000 bytes")


async def test_body_over_its_limit_is_not_read(small: Running) -> None:
    """413: a body whose Content-Length is over the limit is not read at all."""
    sent: list[Any] = []

    async def receive() -> Any:
        pytest.fail("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope("/predict", content_length=b"1001")
    await small.app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_endless_body(small: Running) -> None:
    """413: a body without Content-Length is read up to the limit."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 100

    assert_problem(await small.client.post("/predict", content=endless()), 413)
    assert sent == 11


async def test_invalid_text_fails_alone(small: Running) -> None:
    """An invalid text of a list gets an error in its place; the others are predicted."""
    body = json.dumps({"texts": [" ", "good", "x" * 101, "SECRET\0"]})
    response = await small.client.post("/predict", content=body)
    assert response.status_code == 200
    first, second, third, fourth = response.json()["predictions"]
    assert [p["error"]["status"] for p in (first, third, fourth)] == [422, 413, 422]
    assert set(first["error"]) == {"type", "title", "status", "detail"}
    assert second["label"] == "positive"
    assert "SECRET" not in response.text


async def test_list_of_invalid_texts(running: Running) -> None:
    """A list of invalid texts is answered without a model run."""
    response = await running.predict(texts=["", "\0"])
    assert [p["error"]["status"] for p in response.json()["predictions"]] == [422, 422]
    assert running.engine.batches == []


async def test_failing_text(running: Running) -> None:
    """A text that the model fails on fails alone, with 500 in its place."""
    body = (await running.predict(texts=["good", "poison", "bad"])).json()
    good, failed, bad = body["predictions"]
    assert (good["label"], bad["label"]) == ("positive", "negative")
    assert failed["error"]["status"] == 500
    assert_problem(await running.predict(text="poison"), 500, "failed")


async def test_queue_full(fake_models: Path) -> None:
    """429: the queue is full; Retry-After is in whole seconds."""
    limits = {"max_queue_items": 2, "max_texts_per_request": 2}
    async with run_service(fake_models, **limits) as service:
        service.engine.gate.clear()
        first = asyncio.create_task(service.predict(text="good"))
        await service.engine.wait_until_running()
        second = asyncio.create_task(service.predict(texts=["good", "bad"]))
        await until(lambda: service.sample("queue_items", model="lstm") == 2)
        response = await service.predict(text="good")
        service.engine.gate.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
    assert_problem(response, 429, "2 of 2")
    assert int(response.headers["Retry-After"]) >= 1
    assert service.sample("rejected_total", reason="queue_full") == 1


async def test_retry_after(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """429: Retry-After is the expected wait, rounded up to whole seconds."""
    monkeypatch.setattr(
        running.service.repository.find().predictor,
        "predict",
        AsyncMock(side_effect=Overloaded("the queue is full", retry_after_s=6.1)),
    )
    assert (await running.predict(text="good")).headers["Retry-After"] == "7"


async def test_rejections_do_not_fill_the_log(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client can avoid is logged at INFO, what it cannot at WARNING."""
    expect_lateness(monkeypatch, 0)
    caplog.set_level(logging.DEBUG, logger="app")
    running.engine.gate.clear()
    first = asyncio.create_task(running.predict(text="good"))
    await running.engine.wait_until_running()
    headers = {"X-Request-Timeout-Ms": "1"}
    await running.client.post("/predict", json={"text": "bad"}, headers=headers)
    running.engine.gate.set()
    await first
    await running.predict(text="poison")
    failures = [r for r in caplog.records if r.getMessage() == "a request failed"]
    assert [(vars(r)["status"], r.levelname) for r in failures] == [
        *((504, "INFO"), (500, "WARNING")),
    ]


def expect_lateness(monkeypatch: pytest.MonkeyPatch, late_s: float) -> None:
    """Let the admission expect every answer to be so late."""
    monkeypatch.setattr(Admission, "lateness_s", lambda *_: late_s)


async def test_too_late(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """429: a request that could not be answered by its deadline is refused at once."""
    expect_lateness(monkeypatch, 2.5)
    response = await running.predict(text="good")
    assert_problem(response, 429, "2500 ms longer")
    (left,) = re.findall(r"within (\d+) ms", response.json()["detail"])
    assert 0 < int(left) <= 10_000
    assert response.headers["Retry-After"] == "3"
    assert running.engine.batches == []
    assert running.sample("rejected_total", reason="too_late") == 1


async def test_deadline_while_waiting(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """504: the deadline passed in the queue; the model never sees the text."""
    expect_lateness(monkeypatch, 0)
    running.engine.gate.clear()
    first = asyncio.create_task(running.predict(text="good"))
    await running.engine.wait_until_running()
    late = await running.client.post(
        "/predict", json={"text": "bad"}, headers={"X-Request-Timeout-Ms": "1"}
    )
    running.engine.gate.set()
    assert (await first).status_code == 200
    assert_problem(late, 504, "1 ms")
    assert len(running.engine.batches) == 1
    assert running.sample("rejected_total", reason="deadline") == 1


async def test_deadline_while_reading_the_body(running: Running) -> None:
    """504: the deadline passed before the body arrived."""
    sent: list[Any] = []
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b'{"text": ', "more_body": True})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope("/predict", x_request_timeout_ms=b"1")
    await running.app(scope, messages.get, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 504
    assert running.sample("requests_in_flight") == 0


@pytest.mark.parametrize(("zeros", "length", "status"), [(5000, 16, 200), (5000, 9**30, 413)])
async def test_length_with_leading_zeros(
    running: Running, zeros: int, length: int, status: int
) -> None:
    """A Content-Length may have any number of leading zeros."""
    response = await running.client.post(
        "/predict",
        content=b'{"text": "good"}',
        headers={"Content-Length": "0" * zeros + str(length)},
    )
    assert response.status_code == status


async def test_client_disconnects_after_a_late_body(running: Running) -> None:
    """A connection is watched after its body has arrived, however late."""
    running.engine.gate.clear()
    first = asyncio.create_task(running.predict(text="good"))
    await running.engine.wait_until_running()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asking = asyncio.create_task(running.app(http_scope("/predict"), messages.get, drop))  # type: ignore[arg-type]
    looked = asyncio.get_running_loop().time() + 0.1  # the first check finds the body unread
    await until(lambda: asyncio.get_running_loop().time() > looked)
    messages.put_nowait({"type": "http.request", "body": b'{"text": "bad"}', "more_body": False})
    await until(lambda: running.sample("queue_items", model="lstm") == 1)
    messages.put_nowait({"type": "http.disconnect"})
    await asking
    running.engine.gate.set()
    await first
    assert len(running.engine.batches) == 1


async def ask_in_flight(running: Running) -> float:
    """What a scrape says of the requests in flight."""
    page = (await running.client.get("/metrics")).text
    (line,) = (each for each in page.splitlines() if each.startswith("valence_requests_in_flight "))
    return float(line.split()[1])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"text": "good"}),
        ("/predict", {"texts": ["good", "bad"]}),
        ("/predict", {"inputs": "good"}),
        ("/v1/models/lstm:predict", {"instances": ["good"]}),
        ("/v2/models/lstm/infer", {"inputs": [TEXT_TENSOR | {"data": ["good"]}]}),
    ],
)
async def test_predictions_in_flight(running: Running, path: str, body: dict[str, Any]) -> None:
    """Requests for predictions are in flight until they are answered, in every protocol.

    Probes and scrapes are not, the one that asks included: an autoscaler follows the number.
    """
    assert await ask_in_flight(running) == 0
    running.engine.gate.clear()
    asking = asyncio.create_task(running.client.post(path, json=body))
    await running.engine.wait_until_running()
    assert await ask_in_flight(running) == 1
    running.engine.gate.set()
    assert (await asking).status_code == 200
    assert (await running.client.post(path, content=b"[")).status_code in (400, 422)
    assert await ask_in_flight(running) == 0


async def test_equal_texts_in_flight(running: Running) -> None:
    """Equal texts in flight are computed once, across requests."""
    running.engine.gate.clear()
    first = asyncio.create_task(running.predict(text="film"))
    await running.engine.wait_until_running()
    texts = ("good film", "good film", "GOOD film!?", "film")
    others = [asyncio.create_task(running.predict(text=text)) for text in texts]
    await until(lambda: running.sample("queue_items", model="lstm") == 4)
    running.engine.gate.set()
    bodies = [response.json() for response in await asyncio.gather(first, *others)]
    assert bodies[1] == bodies[2]
    assert bodies[0] == bodies[4]
    computed = [row for batch in running.engine.batches for row in batch]
    assert len(computed) == len({tuple(row) for row in computed}) == 3


@pytest.mark.parametrize("header", ["0", "10001", "-5", "1.5", "soon", "", "9" * 5000, "²"])
async def test_wrong_timeout(running: Running, header: str) -> None:
    """422: X-Request-Timeout-Ms is not a whole number from 1 to the setting."""
    headers = {"X-Request-Timeout-Ms": header.encode()}
    response = await running.client.post("/predict", json={"text": "good"}, headers=headers)
    assert_problem(response, 422, "X-Request-Timeout-Ms", "10000")


async def test_no_such_route(running: Running) -> None:
    """404 and 405 of routes are problem details."""
    assert_problem(await running.client.get("/nothing"), 404)
    response = await running.client.get("/predict")
    assert_problem(response, 405)
    assert response.headers["Allow"] == "OPTIONS, POST"


async def test_client_disconnects(running: Running) -> None:
    """If a client disconnects while its text waits, the model never sees the text."""
    running.engine.gate.clear()
    first = asyncio.create_task(running.predict(text="good"))
    await running.engine.wait_until_running()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b'{"text": "bad"}', "more_body": False})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    request = asyncio.create_task(running.app(http_scope("/predict"), messages.get, send))  # type: ignore[arg-type]
    await until(lambda: running.sample("queue_items", model="lstm") == 1)
    messages.put_nowait({"type": "http.disconnect"})
    await request
    running.engine.gate.set()
    assert (await first).status_code == 200
    assert sent == []
    assert len(running.engine.batches) == 1
    assert running.sample("cancelled_items_total", model="lstm") == 1
    gone = {"route": "/predict", "model": "lstm", "status": "499"}
    assert running.sample("requests_total", **gone) == 1


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/models")])
async def test_unexpected_error(
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
) -> None:
    """500: an unexpected error is answered, and logged without its message."""

    def fail(*_args: object) -> None:
        raise KeyError("SECRET")

    monkeypatch.setattr(running.service.repository, "find", fail)
    monkeypatch.setattr("app.api.health._summarize", fail)
    response = await running.client.request(method, path, json={"text": "good"})
    assert_problem(response, 500)
    assert "SECRET" not in response.text
    assert "SECRET" not in caplog.text
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert vars(errors[0])["error"] == "KeyError"


async def test_no_text_in_the_log(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """The log never contains a text, whatever is wrong with it."""
    caplog.set_level(logging.DEBUG)
    for text in ("SECRET\0", "SECRET poison", "SECRET broken", "SECRET\ud800"):
        await running.client.post("/predict", content=json.dumps({"text": text}))
        await running.client.post("/predict", content=json.dumps({"texts": [text], "SECRET": 1}))
    assert caplog.records
    assert "SECRET" not in "".join(
        str(vars(record)) for record in caplog.records if "httpx" not in record.name
    )


# --- models, health, documentation ---


async def test_models(running: Running) -> None:
    """GET /models lists all versions, newest first, and the default model."""
    body = (await running.client.get("/models")).json()
    assert body["default"] == "lstm"
    bow, lstm = body["models"]
    assert (bow["name"], bow["default"], lstm["name"], lstm["default"]) == (
        *("bow", False),
        *("lstm", True),
    )
    assert lstm["versions"][0] == {
        "version": 2,
        "state": "ready",
        "engine": "fake",
        "labels": ["negative", "positive"],
    }


async def test_aliases(fake_models: Path, tmp_path: Path) -> None:
    """GET /models shows `aliases.json` as it is: numbers of versions are integers."""
    content = '{"stable": 1, "canary": 2, "canary_share": 0.25}'
    models = shutil.copytree(fake_models, tmp_path / "models")
    (models / "lstm" / "aliases.json").write_text(content)
    async with run_service(models) as service:
        _, lstm = (await service.client.get("/models")).json()["models"]
    assert json.dumps(lstm["aliases"]) == content


async def test_model_card(running: Running) -> None:
    """GET /models/{name} adds the card: data, metrics, calibration, limits, and for which texts."""
    body = (await running.client.get("/models/bow")).json()
    card = body["card"]
    assert card["data"]["name"] == "none"
    assert card["metrics"] == {"test": {"fake": {"accuracy": 0.5}}}
    assert card["calibration"] == {"temperature": 1.0}
    assert card["limits"] == ["Counts two words."]
    assert card["quality"] == {}
    assert card["reliability"] == {
        "max_unknown_share": 1.0,
        "min_known_tokens": 1,
        "measured": {},
    }
    assert_problem(await running.client.get("/models/nobody"), 404, "bow, lstm")


async def test_card_says_for_which_texts(tmp_path: Path) -> None:
    """The card has the quality by kind of text, and the rule; the rule decides what is answered."""
    write_version(
        tmp_path,
        "lstm",
        2,
        quality={"imdb test": Quality(texts=9, accuracy=0.9, interval=(0.8, 0.95))},
        reliability=Reliability(max_unknown_share=0.5, measured={"level": 0.8}),
    )
    async with run_service(tmp_path) as service:
        card = (await service.client.get("/models/lstm")).json()["card"]
        answers = (await service.predict(texts=["good xx", "good xx yy"])).json()["predictions"]
    assert card["quality"]["imdb test"] == {
        "texts": 9,
        "accuracy": 0.9,
        "interval": [0.8, 0.95],
        "calibration_error": None,
        "sure_and_wrong": None,
        "neutral_texts": 0,
        "undecided": None,
    }
    assert card["reliability"]["max_unknown_share"] == 0.5
    assert card["reliability"]["measured"] == {"level": 0.8}
    assert [each["reliable"] for each in answers] == [True, False]
    assert [each["probabilities"]["negative"] == 0.5 for each in answers] == [False, True]


async def test_live_and_ready(running: Running) -> None:
    """A ready service is live and ready."""
    assert (await running.client.get("/livez")).json() == {"live": True}
    response = await running.client.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (200, True)


async def test_head_of_probes(running: Running) -> None:
    """Probes may use HEAD; other methods get 405 with the allowed ones."""
    for path in ("/livez", "/readyz"):
        assert (await running.client.head(path)).status_code == 200
        rejected = await running.client.post(path)
        assert set(rejected.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    running.service.begin_drain()
    assert (await running.client.head("/readyz")).status_code == 503


async def test_no_models(tmp_path: Path) -> None:
    """Without models the service is live, not ready, and answers 503 with the reason."""
    async with run_service(tmp_path, ready=False) as service:
        assert (await service.client.get("/livez")).status_code == 200
        response = await service.client.get("/readyz")
        assert response.status_code == 503
        assert "no models" in response.json()["reason"]
        answer = await service.predict(text="good")
    assert_problem(answer, 503, "no models")
    assert int(answer.headers["Retry-After"]) >= 1


async def test_rejected_version(tmp_path: Path) -> None:
    """A version that fails its checks is rejected with a reason; the previous one answers."""
    write_version(tmp_path, "lstm", 1)
    make_encoder(("other", "words")).save(write_version(tmp_path, "lstm", 2) / "tokenizer.json")
    async with run_service(tmp_path) as service:
        newest, before = (await service.client.get("/models/lstm")).json()["versions"]
        assert (newest["state"], before["state"]) == ("rejected", "ready")
        assert "tokenizer.json" in newest["reason"]
        assert (await service.predict(text="good")).json()["version"] == 1
        assert_problem(await service.predict(text="good", version=2), 404, "lstm (1)")
        assert service.sample("model_loads_total", model="lstm", outcome="rejected") == 1


async def test_version_that_cannot_be_activated(
    fake_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that fails after loading is rejected like one that fails before."""

    def fail(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.service.Predictor", fail)
    async with run_service(fake_models, ready=False) as service:
        response = await service.client.get("/readyz")
    assert response.json()["reason"].count("unexpected ZeroDivisionError") == 2


async def test_unreadable_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model whose folder cannot be read is logged; the others answer."""
    write_version(tmp_path, "lstm", 1)
    lock(write_version(tmp_path, "bow", 1).parent, monkeypatch)
    async with run_service(tmp_path) as service:
        assert (await service.predict(text="good")).status_code == 200
    (record,) = [r for r in caplog.records if r.getMessage() == "a model cannot be read"]
    assert vars(record)["model"] == "bow"


async def test_rejected_default(tmp_path: Path) -> None:
    """If the default model is rejected the service is not ready, but other models answer."""
    (write_version(tmp_path, "lstm", 1) / "saved_model.pb").write_bytes(b"altered")
    write_version(tmp_path, "bow", 1)
    async with run_service(tmp_path, ready=False) as service:
        response = await service.client.get("/readyz")
        assert response.status_code == 503
        assert "saved_model.pb" in response.json()["reason"]
        assert (await service.predict(text="good", model="bow")).status_code == 200
        assert_problem(await service.predict(text="good"), 503, "saved_model.pb")


async def test_draining(running: Running) -> None:
    """While draining the service is not ready, but live; it answers and closes connections."""
    running.service.begin_drain()
    response = await running.client.get("/readyz")
    assert (response.status_code, response.json()["phase"]) == (503, "draining")
    assert (await running.client.get("/livez")).status_code == 200
    answer = await running.predict(text="good")
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")


async def test_stopped(running: Running) -> None:
    """After draining all requests get 503."""
    await running.service.drain()
    assert_problem(await running.predict(text="good"), 503)
    assert running.sample("rejected_total", reason="draining") == 1


async def test_bug_in_the_batcher(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the batcher of a model fails, its requests get 503 and the service is not ready."""

    def break_down(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr("app.serving.request_queue.choose_batch", break_down)
        assert_problem(await running.predict(text="good"), 503, "has failed")
    assert (await running.predict(text="good", model="bow")).status_code == 200
    response = await running.client.get("/readyz")
    assert response.status_code == 503
    assert "lstm" in response.json()["reason"]
    assert (await running.client.get("/livez")).status_code == 200


async def test_documentation(running: Running) -> None:
    """Every route is documented, /predict with examples of bodies and errors."""
    document = (await running.client.get("/openapi.json")).json()
    assert {path for path in document["paths"] if not path.startswith(("/v1/", "/v2"))} == {
        *("/predict", "/models", "/models/{name}", "/livez", "/readyz", "/metrics"),
    }
    predict = document["paths"]["/predict"]["post"]
    assert predict["requestBody"]["content"]["application/json"]["schema"]["examples"]
    problems = {"400", "404", "408", "413", "415", "422", "429", "500", "503", "504", "default"}
    assert set(predict["responses"]) == {"200", *problems}
    assert set(predict["responses"]["200"]["headers"]) == {"X-Request-ID", "Server-Timing"}
    for status in problems:
        content = predict["responses"][status]["content"]
        assert "application/problem+json" in content
        assert content["application/problem+json"]["examples"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            (kind,) = operation["responses"]["default"]["content"]
            others = path.startswith(("/v1/", "/v2"))
            assert kind == ("application/json" if others else "application/problem+json")
    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(document)
    page = await running.client.get("/docs")
    assert page.status_code == 200
    assert 'href="/openapi.json"' in page.text  # for browsers that cannot load Swagger UI


def has_example(document: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a body has an example, its own or that of its schema."""
    schemas = content["schema"].get("anyOf", [content["schema"]])
    names = [schema["$ref"].rpartition("/")[2] for schema in schemas if "$ref" in schema]
    examples = [document["components"]["schemas"][name].get("examples") for name in names]
    return bool("example" in content or "examples" in content or (examples and all(examples)))


async def test_every_response_has_an_example(running: Running) -> None:
    """Every response of every route has an example and X-Request-ID, 500 included."""
    document = (await running.client.get("/openapi.json")).json()
    for path, route in document["paths"].items():
        for operation in route.values():
            assert "500" in operation["responses"]
            for status, response in operation["responses"].items():
                assert "X-Request-ID" in response["headers"], (path, status)
                for content in response["content"].values():
                    assert has_example(document, content), (path, status)


async def test_documented_problems_are_the_real_ones(
    fake_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented details are those the service sends, except for numbers."""
    async with run_service(fake_models, max_queue_items=2, max_texts_per_request=2) as service:
        document = (await service.client.get("/openapi.json")).json()
        service.engine.gate.clear()
        held = asyncio.create_task(service.predict(text="good"))
        await service.engine.wait_until_running()
        waiting = asyncio.create_task(service.predict(text="good"))
        await until(lambda: service.sample("queue_items", model="lstm") == 1)
        answers = [
            await service.client.post("/predict", content=b'{"text" 5}'),
            await service.predict(text="good", model="nobody"),
            await service.predict(text="x" * 100_001),
            await service.predict(text="a good film with \0"),
            await service.predict(texts=["good", "bad"]),
            await service.client.get("/models/nobody"),
            *[
                await service.client.post("/predict", headers={"Content-Encoding": coding})
                for coding in ("br", "gzip")
            ],
        ]
        # Refused; admitted, and too late nevertheless.
        for late_s, timeout_ms in ((0.035, "10000"), (0, "1")):
            expect_lateness(monkeypatch, late_s)
            headers = {"X-Request-Timeout-Ms": timeout_ms}
            answers.append(
                await service.client.post("/predict", json={"text": "x"}, headers=headers)
            )
        service.engine.gate.set()
        await asyncio.gather(held, waiting)
        answers.append(await service.predict(text="poison"))
        await service.service.drain()
        answers.append(await service.predict(text="good"))
        newest = service.service.repository.find("bow")
        newest.predictor = None
        answers.append(await service.predict(text="good", model="bow"))
    async with run_service(fake_models) as service:
        service.app.state.bodies.received = 2**30
        answers.append(await service.predict(text="good"))
    sent = {re.sub(r"\d+", "0", answer.json()["detail"]) for answer in answers}
    documented = {
        re.sub(r"\d+", "0", example["value"]["detail"])
        for route in document["paths"].values()
        for operation in route.values()
        for response in operation["responses"].values()
        for kind, content in response["content"].items()
        for example in content.get("examples", {}).values()
        if kind == "application/problem+json"
    }
    # tests/unit/test_protocol.py provokes those that end a connection.
    of_http = {re.sub(r"\d+", "0", problem.example) for problem in HTTP_PROBLEMS.values()}
    assert documented - {INTERNAL.example} - of_http == sent


async def test_documented_examples_work(running: Running) -> None:
    """The documented example bodies are accepted."""
    document = (await running.client.get("/openapi.json")).json()
    body = document["paths"]["/predict"]["post"]["requestBody"]
    for example in body["content"]["application/json"]["schema"]["examples"]:
        assert (await running.predict(**example)).status_code == 200


async def test_predictions_do_not_depend_on_the_batch(running: Running) -> None:
    """A text gets the same prediction alone and beside 31 others."""
    alone = (await running.predict(text="a good film")).json()["probabilities"]
    others = ["bad film " * (n % 7 + 1) for n in range(31)]
    together = (await running.predict(texts=[*others, "a good film"])).json()["predictions"]
    assert together[-1]["probabilities"] == pytest.approx(alone, abs=1e-5)


def test_poison_has_an_id() -> None:
    """The fake engine and the fake encoder agree on ids."""
    assert make_encoder().encode("poison").ids.tolist() == [2, POISON]


async def test_ready_after_all_models(fake_models: Path) -> None:
    """The service is ready only when the last model is loaded, and no route says so before."""
    may_load = threading.Event()
    bow_begins = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load(folder: Path) -> Engine:
        if folder.parent.name == "bow":
            loop.call_soon_threadsafe(bow_begins.set)
            may_load.wait()
        return FakeEngine()

    app = create_app(Settings(models_dir=fake_models, threads=1), load=load)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://valence") as client,
    ):

        async def states() -> list[str]:
            """The states of the default model, as TensorFlow Serving tells them."""
            told = (await client.get("/v1/models/lstm")).json()["model_version_status"]
            return [each["state"] for each in told]

        try:
            await bow_begins.wait()  # the default model is loaded
            assert (await client.post("/predict", json={"text": "good"})).status_code == 503
            assert (await client.get("/v2/models/lstm/ready")).status_code == 503
            assert (await client.get("/readyz")).status_code == 503
            assert set(await states()) == {"LOADING"}
        finally:
            may_load.set()
        await app.state.service.loading
        assert (await client.post("/predict", json={"text": "good"})).status_code == 200
        assert (await client.get("/v2/models/lstm/ready")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert set(await states()) == {"AVAILABLE"}


async def test_on_loaded(fake_models: Path) -> None:
    """`on_loaded` is called before the service is ready."""
    phases: list[str] = []
    app = create_app(
        Settings(models_dir=fake_models, threads=1),
        load=lambda _folder: FakeEngine(),
        on_loaded=lambda: phases.append(app.state.service.lifecycle.phase),
    )
    async with app.router.lifespan_context(app):
        await app.state.service.loading
    assert phases == ["warming"]


async def test_on_loaded_in_a_replacement(fake_models: Path) -> None:
    """A worker that replaces another has its heap frozen and trimmed before it is ready, too."""
    plan = Plan(1, "lstm", {"lstm/2": digest_manifest(fake_models / "lstm" / "2")})
    member: Any = SimpleNamespace(generation=[1], agreed=plan.to_message(), report=lambda _: None)
    calls: list[str] = []
    app = create_app(
        Settings(models_dir=fake_models, threads=1),
        load=lambda _folder: FakeEngine(),
        on_loaded=lambda: calls.append(f"loaded, {app.state.service.lifecycle.phase}"),
        on_released=lambda: calls.append(f"released, {app.state.service.lifecycle.phase}"),
        workers=member,
    )
    async with app.router.lifespan_context(app):
        await app.state.service.loading
    assert calls == ["loaded, warming", "released, warming"]


def test_frozen_heap() -> None:
    """A frozen heap is excluded from garbage collections."""
    freeze_heap()
    try:
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
