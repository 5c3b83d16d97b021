"""TensorFlow Serving's REST API at `/v1/models`, as its callers see it."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.artifact import read_manifest, write_manifest
from app.errors import RateExceeded
from app.serving.admission import Admission
from tests.fakes import Running, make_encoder, run_service, write_version
from tests.published import SOURCE

pytestmark = pytest.mark.anyio

LSTM = "/v1/models/lstm"
GOOD, BAD = pytest.approx([0.2689, 0.7311], abs=1e-4), pytest.approx([0.7311, 0.2689], abs=1e-4)
FEATURES = {"text": "good"}


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


async def ask(service: Running, path: str, body: Any) -> Any:
    return await service.client.post(path, content=json.dumps(body))


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ["good", "bad"]},
        {"instances": [{"text": "good"}, {"text": "bad"}]},
        {"instances": [{"b64": "Z29vZA=="}, {"text": {"b64": "YmFk"}}]},
        {"instances": ["good", "bad"], "signature_name": "serving_default"},
        {"instances": ["good", "bad"], "signature_name": ""},
    ],
)
async def test_rows(small: Running, body: Any) -> None:
    """`instances` get `predictions`: the only output has no name."""
    response = await ask(small, f"{LSTM}:predict", body)
    assert response.headers["Content-Type"] == "application/json"
    assert "infer;dur=" in response.headers["Server-Timing"]
    assert response.json() == {"predictions": [GOOD, BAD]}


@pytest.mark.parametrize("inputs", [["good", {"b64": "YmFk"}], {"text": ["good", "bad"]}])
async def test_columns(small: Running, inputs: Any) -> None:
    """`inputs` get `outputs`."""
    response = await ask(small, f"{LSTM}:predict", {"inputs": inputs})
    assert response.json() == {"outputs": [GOOD, BAD]}


@pytest.mark.parametrize(
    "body",
    [
        {"examples": [{"text": "good"}, {"text": ["bad"]}]},
        {"context": {"text": "bad"}, "examples": [{"text": "good"}, {}]},
        {"examples": [{"text": {"b64": "Z29vZA=="}}, {"text": "bad"}]},
    ],
)
async def test_classify(small: Running, body: Any) -> None:
    """`examples` get `results`: labels with their probabilities; `context` fills in."""
    (good, bad) = (await ask(small, f"{LSTM}:classify", body)).json()["results"]
    assert [label for label, _ in good] == ["negative", "positive"]
    assert ([score for _, score in good], [score for _, score in bad]) == (GOOD, BAD)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ([], 400, "object"),
        ({}, 400, "either instances or inputs"),
        ({"instances": ["a"], "inputs": ["a"]}, 400, "either instances or inputs"),
        ({"instances": "a"}, 400, "instances must be a list"),
        ({"instances": []}, 400, "at least one text"),
        ({"instances": [5]}, 400, "instances[0] must be a string. Received: a number"),
        ({"instances": [["a"]]}, 400, "instances[0] must be a string. Received: a list"),
        ({"instances": [{"other": "a"}]}, 400, "instances[0] must have text, and nothing else"),
        ({"instances": [{"text": {"text": "a"}}]}, 400, "instances[0].text must be a string"),
        ({"instances": [{"b64": "?"}]}, 400, "base64"),
        ({"instances": [{"b64": "/w=="}]}, 400, "base64"),
        ({"instances": [{"b64": 5}]}, 400, "base64"),
        ({"instances": ["good", " "]}, 400, "instances[1]"),
        ({"instances": ["SECRET\0"]}, 400, "NUL"),
        ({"instances": ["x" * 101]}, 413, "100 characters"),
        ({"instances": ["a"] * 5}, 413, "at most 4 texts"),
        ({"instances": ["a"], "signature_name": "serve_ids"}, 400, "serving_default"),
        ({"inputs": "a"}, 400, "inputs must be a list"),
        ({"inputs": {"text": "a"}}, 400, "inputs must be a list"),
        ({"inputs": {"text": ["a"], "more": []}}, 400, "nothing else"),
    ],
)
async def test_wrong_predict(small: Running, body: Any, status: int, words: str) -> None:
    """`error` is one sentence that names the member and the rule, and quotes no text."""
    response = await ask(small, f"{LSTM}:predict", body)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert words in response.json()["error"]
    assert "SECRET" not in response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"examples": [5]}, 400),
        ({"examples": [{}]}, 400),
        ({"examples": [{"text": ["a", "b"]}]}, 400),
        ({"examples": [FEATURES], "context": 5}, 400),
        ({"examples": [FEATURES], "context": {"other": 1}}, 400),
        ({"examples": [FEATURES] * 5}, 413),
    ],
)
async def test_wrong_classify(small: Running, body: Any, status: int) -> None:
    """The examples have rules of the same kind."""
    response = await ask(small, f"{LSTM}:classify", body)
    assert (response.status_code, list(response.json())) == (status, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/v1/models/lstm", 400, "Malformed request: POST /v1/models/lstm"),
        ("POST", f"{LSTM}:regress", 400, f"Malformed request: POST {LSTM}:regress"),
        ("POST", f"{LSTM}/versions/x:predict", 400, "Malformed request: POST"),
        ("GET", f"{LSTM}:predict", 400, "Malformed request: GET"),
        ("GET", "/v1/none", 400, "Malformed request: GET /v1/none"),
        ("POST", "/v1/models/x:predict", 404, "Servable not found for request: Latest(x)"),
        ("POST", f"{LSTM}/versions/9:predict", 404, "request: Specific(lstm, 9)"),
        ("POST", f"{LSTM}/labels/none:predict", 400, "Unrecognized servable version label: none"),
        ("GET", "/v1/models/x", 404, "Servable not found for request: Latest(x)"),
        ("GET", f"{LSTM}/versions/9", 404, "request: Specific(lstm, 9)"),
        ("GET", "/v1/models/x/metadata", 404, "Latest(x)"),
    ],
)
async def test_errors_of_paths(
    small: Running, method: str, path: str, status: int, error: str
) -> None:
    """What is not there is told as TensorFlow Serving tells it."""
    response = await small.client.request(method, path, json={"instances": ["good"]})
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert error in response.json()["error"]


async def test_busy(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 when the queue is too long, 429 when a caller asks too often, both with Retry-After."""
    monkeypatch.setattr(Admission, "lateness_s", lambda *_: 2.5)
    late = await ask(running, f"{LSTM}:predict", {"instances": ["good"]})
    assert (late.status_code, late.headers["Retry-After"]) == (503, "3")

    def refuse(*_: Any) -> None:
        raise RateExceeded("the key may be used 1 times per second", retry_after_s=1)

    monkeypatch.setattr(running.service.repository, "find", refuse)
    often = await ask(running, f"{LSTM}:predict", {"instances": ["good"]})
    assert (often.status_code, often.headers["Retry-After"]) == (429, "1")


async def test_model_fails_on_a_text(small: Running) -> None:
    """500 for the request: a row has no place for an error."""
    response = await ask(small, f"{LSTM}:predict", {"instances": ["good", "poison"]})
    assert (response.status_code, list(response.json())) == (500, ["error"])


async def test_paths_in_any_case(small: Running) -> None:
    """The words of a path may be in any case, the name of a model may not."""
    body = {"instances": ["good"]}
    assert (await ask(small, "/V1/Models/lstm/Versions/1:Predict", body)).status_code == 200
    assert (await ask(small, "/v1/models/LSTM:predict", body)).status_code == 404


@pytest.fixture
async def versions(tmp_path: Path) -> AsyncIterator[Running]:
    """A service with a stable version, a newer one with a real SavedModel, and a rejected one."""
    for number in (1, 2, 3):
        write_version(tmp_path, "lstm", number)
    newer = tmp_path / "lstm" / "2"
    shutil.copy(SOURCE / "saved_model.pb", newer)
    write_manifest(newer, read_manifest(newer))
    make_encoder(("other",)).save(tmp_path / "lstm" / "3" / "tokenizer.json")
    (tmp_path / "lstm" / "aliases.json").write_text('{"stable": 1, "canary": 2}')
    async with run_service(tmp_path) as service:
        yield service


async def test_status(versions: Running) -> None:
    """All versions with their states, newest first; or the one that is named."""
    states = (await versions.client.get(LSTM)).json()["model_version_status"]
    assert [(each["version"], each["state"]) for each in states] == [
        *(("3", "END"), ("2", "AVAILABLE"), ("1", "AVAILABLE")),
    ]
    assert states[0]["status"]["error_code"] == "FAILED_PRECONDITION"
    assert "tokenizer.json" in states[0]["status"]["error_message"]
    assert states[1]["status"] == {"error_code": "OK", "error_message": ""}
    for path in ("versions/2", "labels/canary"):
        (only,) = (await versions.client.get(f"{LSTM}/{path}")).json()["model_version_status"]
        assert only["version"] == "2"


async def test_metadata(versions: Running) -> None:
    """The metadata are those of `serving_default` in the SavedModel of the version."""
    response = await versions.client.get(f"{LSTM}/labels/canary/metadata")
    text = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    probabilities = {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }
    signature = {
        "inputs": {
            "text": {
                "dtype": "DT_STRING",
                "tensor_shape": text,
                "name": "serving_default_text:0",
            }
        },
        "outputs": {
            "probabilities": {
                "dtype": "DT_FLOAT",
                "tensor_shape": probabilities,
                "name": "StatefulPartitionedCall_1:0",
            }
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert response.json() == {
        "model_spec": {"name": "lstm", "signature_name": "", "version": "2"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
    # Without a SavedModel that can be read it is the one that every export has.
    assumed = (await versions.client.get(f"{LSTM}/versions/1/metadata")).json()
    found = assumed["metadata"]["signature_def"]["signature_def"]["serving_default"]
    found["outputs"]["probabilities"]["name"] = "StatefulPartitionedCall_1:0"
    assert found == signature


async def test_default_version(versions: Running) -> None:
    """Without a version the alias `stable` answers; a label is an alias."""
    for path, number in ((LSTM, "1"), (f"{LSTM}/labels/canary", "2")):
        metadata = (await versions.client.get(f"{path}/metadata")).json()
        assert metadata["model_spec"]["version"] == number
        response = await ask(versions, f"{path}:predict", {"instances": ["good"]})
        assert response.json() == {"predictions": [GOOD]}
