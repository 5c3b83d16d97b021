"""`POST /predict` with `inputs`, as Hugging Face's clients see it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.serving.admission import Admission
from tests.fakes import Running, run_service

pytestmark = pytest.mark.anyio

GOOD = [
    {"label": "positive", "score": pytest.approx(0.7311, abs=1e-4)},
    {"label": "negative", "score": pytest.approx(0.2689, abs=1e-4)},
]
BAD = [{**GOOD[0], "label": "negative"}, {**GOOD[1], "label": "positive"}]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, so that its tests share a service."""
    return "asyncio"


@pytest.fixture(scope="module")
async def small(fake_models: Path) -> AsyncIterator[Running]:
    """A ready service with small limits."""
    limits = {"max_text_chars": 300, "max_texts_per_request": 3}
    async with run_service(fake_models, **limits) as service:
        yield service


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"inputs": "good"}, GOOD),
        ({"inputs": ["good"]}, [GOOD]),
        ({"inputs": ["good", "bad"]}, [GOOD, BAD]),
        ({"inputs": [["good"], ["bad"]]}, [GOOD, BAD]),
        ({"inputs": "good", "raw_scores": False, "truncate": True}, GOOD),
        ({"inputs": "good", "truncate": False}, GOOD),
        ({"inputs": "good", "parameters": {"top_k": 1}}, GOOD[:1]),
        ({"inputs": ["bad"], "parameters": {"top_k": 9, "function_to_apply": "softmax"}}, [BAD]),
        ({"inputs": "good", "parameters": {"top_k": None, "function_to_apply": None}}, GOOD),
        ({"inputs": "good", "parameters": {}, "model": "lstm", "version": 1}, GOOD),
    ],
)
async def test_answer(small: Running, body: Any, answer: Any) -> None:
    """The best label first; a list for each text if the texts are a list."""
    response = await small.client.post("/predict", json=body)
    assert response.json() == answer
    assert "queue;dur=" in response.headers["Server-Timing"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"inputs": 5}, 422, "inputs must be a string or a list"),
        ({"inputs": None}, 422, "inputs must be a string or a list"),
        ({"inputs": []}, 422, "at least one text"),
        ({"inputs": ["a", 5]}, 422, "inputs[1] must be a string"),
        ({"inputs": [["a", "b"]]}, 422, "pairs are not classified"),
        ({"inputs": [[]]}, 422, "inputs[0] must be one text"),
        ({"inputs": " "}, 422, "inputs must have a character"),
        ({"inputs": ["good", "SECRET\0"]}, 422, "inputs[1] must not contain NUL"),
        ({"inputs": "x" * 301}, 413, "300 characters"),
        ({"inputs": ["a"] * 4}, 413, "at most 3 texts"),
        ({"inputs": "good", "text": "good"}, 422, "1 more"),
        ({"inputs": "good", "options": {}}, 422, "1 more"),
        ({"inputs": "good", "raw_scores": True}, 422, "raw_scores must be false"),
        ({"inputs": "good", "truncate": "yes"}, 422, "truncate must be a boolean"),
        ({"inputs": "good " * 60, "truncate": False}, 413, "no longer than the model reads"),
        ({"inputs": "good", "parameters": []}, 422, "parameters must be an object"),
        ({"inputs": "good", "parameters": {"other": 1}}, 422, "top_k and function_to_apply only"),
        ({"inputs": "good", "parameters": {"function_to_apply": "sigmoid"}}, 422, "softmax"),
        ({"inputs": "good", "parameters": {"function_to_apply": []}}, 422, "softmax"),
        *(
            ({"inputs": "good", "parameters": {"top_k": k}}, 422, "top_k must be a whole number")
            for k in (0, -1, True, "1", 1.5)
        ),
        ({"inputs": "good", "model": "none"}, 404, "there is no such model"),
    ],
)
async def test_refused(small: Running, body: Any, status: int, words: str) -> None:
    """What cannot be honoured is refused with `error` and `error_type`; no text is quoted."""
    response = await small.client.post("/predict", content=json.dumps(body))
    assert (response.status_code, list(response.json())) == (status, ["error", "error_type"])
    assert words in response.json()["error"]
    assert response.json()["error_type"] == "Validation"
    assert "SECRET" not in response.text


async def test_types_of_errors(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the model, overload and a service that stops have the types of their kind."""
    answers = [await running.client.post("/predict", json={"inputs": "poison"})]
    with monkeypatch.context() as late:
        late.setattr(Admission, "lateness_s", lambda *_: 2.5)
        answers.append(await running.client.post("/predict", json={"inputs": "good"}))
    await running.service.drain()
    answers.append(await running.client.post("/predict", json={"inputs": "good"}))
    assert [(each.status_code, each.json()["error_type"]) for each in answers] == [
        *((500, "Backend"), (429, "Overloaded"), (503, "Unhealthy")),
    ]


async def test_a_field_twice(small: Running) -> None:
    """A body with a field twice is refused before its form is known, as problem details."""
    response = await small.client.post("/predict", content=b'{"inputs": "a", "inputs": "b"}')
    assert response.headers["Content-Type"] == "application/problem+json"
