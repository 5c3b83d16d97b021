"""The Open Inference Protocol v2 at `/v2`, as clients see it."""

import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.api.openinference import encode_bytes
from tests.fakes import Running, run_service, until

pytestmark = pytest.mark.anyio

INFER = "/v2/models/lstm/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, so that its tests share a service."""
    return "asyncio"


@pytest.fixture(scope="module")
async def small(fake_models: Path) -> AsyncIterator[Running]:
    """A ready service with small limits."""
    limits = {"max_text_chars": 100, "max_texts_per_request": 4}
    async with run_service(fake_models, **limits) as service:
        yield service


def make_request(*texts: Any, **changes: Any) -> dict[str, Any]:
    """A request in JSON; `changes` are of its only input."""
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return {"inputs": [{**tensor, **changes}]}


def make_binary(
    *texts: str, size: int | None = None, shape: list[int] | None = None
) -> tuple[bytes, bytes]:
    """The JSON of a request, and its binary tensor."""
    blob = encode_bytes(texts)
    parameters = {"binary_data_size": len(blob) if size is None else size}
    tensor = {"name": "text", "shape": shape or [len(texts)], "datatype": "BYTES"}
    return json.dumps({"inputs": [{**tensor, "parameters": parameters}]}).encode(), blob


async def send_binary(service: Running, head: bytes, blob: bytes, length: Any = None) -> Any:
    headers = {LENGTH: str(len(head) if length is None else length)}
    return await service.client.post(INFER, content=head + blob, headers=headers)


async def test_json(small: Running) -> None:
    """Without a Content-Type the body is JSON; both outputs come, with their shapes."""
    content = json.dumps(make_request("good", "bad") | {"id": "7"})
    response = await small.client.post(INFER, content=content)
    assert response.headers["Content-Type"] == "application/json"
    assert "queue;dur=" in response.headers["Server-Timing"]
    body = response.json()
    probabilities, label = body.pop("outputs")
    assert body == {"model_name": "lstm", "model_version": "2", "id": "7"}
    assert probabilities.pop("data") == pytest.approx([0.2689, 0.7311, 0.7311, 0.2689], abs=1e-4)
    assert probabilities == {"name": "probabilities", "datatype": "FP32", "shape": [2, 2]}
    labels = ["positive", "negative"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": labels}


async def test_binary_and_json_outputs_mixed(small: Running) -> None:
    """What one output asks for itself wins over what is asked for all."""
    outputs = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    request = make_request("good") | {
        "parameters": {"binary_data_output": True},
        "outputs": outputs,
    }
    response = await small.client.post(INFER, json=request)
    size = int(response.headers[LENGTH])
    label, probabilities = json.loads(response.content[:size])["outputs"]
    assert label["data"] == ["positive"]
    assert probabilities["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", response.content[size:]) == pytest.approx((0.2689, 0.7311), 1e-3)


@pytest.mark.parametrize("path", ["versions/1/infer", "versions/1/infer/"])
async def test_version_in_the_path(small: Running, path: str) -> None:
    """The version of the path answers."""
    response = await small.client.post(f"/v2/models/lstm/{path}", json=make_request("good"))
    assert response.json()["model_version"] == "1"


@pytest.mark.parametrize("data", [["good", "bad"], [["good"], ["bad"]]])
async def test_column(small: Running, data: Any) -> None:
    """A tensor of shape (n, 1) may come flat or in rows."""
    request = make_request("", "", shape=[2, 1], data=data)
    outputs = (await small.client.post(INFER, json=request)).json()["outputs"]
    assert outputs[1]["data"] == ["positive", "negative"]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ([], 400, "object"),
        ({}, 400, "inputs must be a list of one tensor"),
        ({"inputs": [1]}, 400, "an input must be an object"),
        (make_request("a", name="other"), 400, "name of the input"),
        (make_request("a", datatype="FP32"), 400, "datatype of text must be BYTES"),
        *(
            (make_request("a", shape=shape), 400, "shape of text must be [n] or [n, 1]")
            for shape in (None, [], [0], [-1], [1, 2], [1, 1, 1], ["1"], [True], 1, [1.0])
        ),
        (make_request("a", shape=[2]), 400, "as many elements"),
        (make_request("a", data="a"), 400, "as many elements"),
        (make_request(5), 400, "element 1 of text must be a string"),
        (make_request(["a"], ["b", "c"]), 400, "lists of one string each"),
        (make_request(["a"], "b"), 400, "lists of one string each"),
        (make_request("good", " "), 400, "element 2 of text"),
        (make_request("SECRET\0"), 400, "NUL"),
        (make_request("\ud800"), 400, "lone surrogate"),
        (make_request(*"abcde"), 413, "at most 4 elements"),
        (make_request("x" * 101), 413, "100 characters"),
        (make_request("a", parameters=[]), 400, "parameters of text"),
        (make_request("a", parameters={"binary_data_size": 3}), 400, "binary_data_size"),
        (make_request("a", parameters={"binary_data_size": 0}), 400, "either data or binary"),
        (make_request("a", parameters={"shared_memory_region": "x"}), 400, "shared memory"),
        (make_request("a") | {"id": 5}, 400, "id must be a string"),
        (make_request("a") | {"id": "\ud800"}, 400, "id must not"),
        (make_request("a") | {"parameters": {"timeout": -1}}, 400, "timeout must be"),
        (make_request("a") | {"parameters": {"timeout": "1"}}, 400, "timeout must be"),
        (make_request("a") | {"parameters": {"priority": True}}, 400, "priority must be"),
        (make_request("a") | {"parameters": {"binary_data_output": 1}}, 400, "boolean"),
        (make_request("a") | {"outputs": {}}, 400, "outputs must be a list"),
        (make_request("a") | {"outputs": [{"name": "logits"}]}, 400, "outputs must be named"),
        (make_request("a") | {"outputs": [{"name": "label"}] * 2}, 400, "each once"),
        (
            make_request("a")
            | {"outputs": [{"name": "label", "parameters": {"classification": 2}}]},
            400,
            "no classification parameter",
        ),
    ],
)
async def test_wrong_request(small: Running, request_: Any, status: int, words: str) -> None:
    """`error` is one sentence that names the member and the rule, and quotes no text."""
    response = await small.client.post(INFER, content=json.dumps(request_))
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert words in response.json()["error"]
    assert "SECRET" not in response.text


@pytest.mark.parametrize(
    ("binary", "length", "words"),
    [
        (make_binary("good"), -1, "number of bytes"),
        (make_binary("good"), 10**6, "number of bytes"),
        (make_binary("good"), "x", "number of bytes"),
        (make_binary("good"), "9" * 50, "number of bytes"),
        (make_binary("good"), 0, "empty"),
        (make_binary("good"), 5, "JSON"),
        (make_binary("good", size=7), None, "bytes behind the JSON. Received: 7 and 8"),
        (make_binary("good", size=9), None, "Received: 9 and 8"),
        (make_binary("good", "bad", shape=[1]), None, "lengths of the 1 elements"),
        (make_binary("good", shape=[2]), None, "lengths of the 2 elements"),
        ((make_binary("a")[0], b"\xff\xff\xff\xff\1"), None, "lengths of the 1 elements"),
        ((make_binary("a")[0], b"\0\0\0\0\0"), None, "lengths of the 1 elements"),
        ((make_binary("a")[0], b"\1\0\0\0\xff"), None, "element 1 of text must be UTF-8"),
    ],
)
async def test_wrong_binary(
    small: Running, binary: tuple[bytes, bytes], length: Any, words: str
) -> None:
    """400: sizes that do not add up, or bytes that are no text."""
    response = await send_binary(small, *binary, length)
    assert response.status_code == 400
    assert words in response.json()["error"]


async def test_model_fails_on_a_text(small: Running) -> None:
    """500 for the request: a tensor has no place for an error."""
    response = await small.client.post(INFER, json=make_request("good", "poison"))
    assert (response.status_code, list(response.json())) == (500, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/none", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/none/ready", 404),
        ("GET", "/v2/models/lstm/versions/3", 404),
        ("GET", "/v2/models/lstm/versions/x!/ready", 400),
        ("POST", "/v2/models/none/infer", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
    ],
)
async def test_errors_of_routes(small: Running, method: str, path: str, status: int) -> None:
    """Every error under `/v2` has the one member that clients read."""
    response = await small.client.request(method, path, json=make_request("good"))
    assert (response.status_code, list(response.json())) == (status, ["error"])


async def test_unexpected_error(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is told in the same form."""
    monkeypatch.setattr(running.service.repository, "find", lambda *_: 1 / 0)
    response = await running.client.post(INFER, json=make_request("good"))
    assert (response.status_code, list(response.json())) == (500, ["error"])


async def test_timeout(running: Running) -> None:
    """A parameter in microseconds brings the deadline forward; 0 and longer ones leave it."""
    running.engine.gate.clear()
    slow = make_request("good") | {"parameters": {"timeout": 20_000}}
    response = await running.client.post(INFER, json=slow)
    assert response.status_code in (429, 504)
    running.engine.gate.set()
    await until(lambda: not running.service.engine_load.running)
    for timeout in (0, 10**30):
        request = make_request("bad") | {"parameters": {"timeout": timeout, "priority": 1}}
        assert (await running.client.post(INFER, json=request)).status_code == 200


async def test_metrics(running: Running) -> None:
    """The label `route` is the pattern, whatever the path."""
    for path in (INFER, "/v2/models/made-up/infer"):
        await running.client.post(path, json=make_request("good"))
    route = "/v2/models/{model}/infer"
    answered = {"route": route, "model": "lstm", "status": "200"}
    unknown = {"route": route, "model": "unknown", "status": "404"}
    assert running.sample("requests_total", **answered) == 1
    assert running.sample("requests_total", **unknown) == 1
    assert "made-up" not in (await running.client.get("/metrics")).text


async def test_not_ready(tmp_path: Path) -> None:
    """Without a model the server is live and not ready, and a probe is no rejection."""
    async with run_service(tmp_path, ready=False) as service:
        assert (await service.client.get("/v2/health/live")).status_code == 200
        for path in ("/v2/health/ready", "/v2/models/lstm/ready"):
            response = await service.client.get(path)
            assert (response.status_code, list(response.json())) == (503, ["error"])
        assert service.sample("rejected_total", reason="not_ready") == 0
