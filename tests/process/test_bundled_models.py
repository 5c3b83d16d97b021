"""The bundled models in a real server, on each engine."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from load_tests.corpus import texts
from tests.server import ROOT, ServerProcess

TEXT = "I went in expecting little, and for two hours I forgot where I was. See it."
OTHERS = list(itertools.islice(texts(seed=4), 31))
LONG = " ".join(["It goes on and on, from one room to the next, and nothing comes of it."] * 134)


@pytest.fixture(scope="module", params=["onnx", "tensorflow"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A ready server with the bundled models."""
    with ServerProcess(ROOT / "models", "--engine", request.param) as server:
        server.wait_for("the service is ready")
        yield server


def ask(server: ServerProcess, **body: Any) -> Any:
    """The response to one request."""
    with server.client() as client:
        return client.post("/predict", json=body).raise_for_status().json()


def test_every_bundled_version_is_ready(server: ServerProcess) -> None:
    """Each bundled version passes its checks on each engine, golden rows included."""
    with server.client() as client:
        models = client.get("/models").json()["models"]
    states = {(m["name"], v["version"]): v["state"] for m in models for v in m["versions"]}
    assert states == {
        ("bow", 2): "ready",
        ("bow-ngrams", 1): "ready",
        ("lstm", 2): "ready",
        ("tweets-lstm", 1): "ready",
    }


@pytest.mark.parametrize("model", ["lstm", "bow", "bow-ngrams", "tweets-lstm"])
@pytest.mark.parametrize(
    "others", [OTHERS, [LONG]], ids=["31 other texts", "a text of 2,000 words"]
)
def test_answers_do_not_depend_on_the_batch(
    server: ServerProcess, model: str, others: list[str]
) -> None:
    """A text gets the same probabilities, within 1e-5, alone and in a batch with any others."""
    alone = ask(server, text=TEXT, model=model)["probabilities"]
    together = ask(server, texts=[*others, TEXT], model=model)["predictions"][-1]["probabilities"]
    assert together == pytest.approx(alone, abs=1e-5)


PLAIN = [
    ("A warm, funny and moving film. I loved every minute.", "positive"),
    ("Dull, clumsy and far too long. A waste of a good cast.", "negative"),
]
PLAIN_TWEETS = [
    ("He was the best on stage tonight, a great night and a great answer! #GOPDebate", "positive"),
    ("The moderators of Fox News are a disgrace and a joke. Terrible questions.", "negative"),
    ("Watch the #GOPDebate live tonight: http://example.org/live", "neutral"),
]


@pytest.mark.parametrize(
    ("model", "text", "label"),
    [
        *((model, *plain) for model in ("lstm", "bow", "bow-ngrams") for plain in PLAIN),
        *(("tweets-lstm", *plain) for plain in PLAIN_TWEETS),
    ],
)
def test_plain_verdicts(server: ServerProcess, model: str, text: str, label: str) -> None:
    """Texts with a plain sentiment get the right label."""
    assert ask(server, text=text, model=model)["label"] == label
