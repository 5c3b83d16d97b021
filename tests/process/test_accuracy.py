"""The bundled models answer the IMDB test reviews as well through HTTP as their manifests say."""

from collections.abc import Iterator

import pytest

from app.artifact import read_manifest
from tests.corpus import real_data
from tests.deferred import deferred
from tests.server import ROOT, ServerProcess

with deferred():
    from training.data.readers import read

MODELS = ROOT / "models"
TEXTS_PER_REQUEST = 256
AT_LEAST = {"lstm": 0.925, "bow": 0.89, "bow-ngrams": 0.91}


@pytest.fixture(scope="module", params=["onnx", "tensorflow"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[ServerProcess]:
    """A server with the bundled models, all of them ready."""
    with ServerProcess(MODELS, "--engine", engine) as server:
        server.wait_for("the service is ready")
        yield server


@pytest.fixture(scope="module")
def reviews() -> list[tuple[str, str]]:
    """The test reviews with their labels."""
    corpus = read(real_data("imdb"), split="test")
    return [(example.text, example.label) for example in corpus.examples]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", AT_LEAST)
def test_accuracy_through_http(
    server: ServerProcess, engine: str, reviews: list[tuple[str, str]], model: str
) -> None:
    """All 25,000 reviews, 256 a request: the accuracy of the manifest, and the promised one."""
    right = 0
    with server.client() as client:
        for start in range(0, len(reviews), TEXTS_PER_REQUEST):
            asked = reviews[start : start + TEXTS_PER_REQUEST]
            body = {"texts": [text for text, _ in asked], "model": model}
            answer = client.post("/predict", json=body).raise_for_status().json()
            predictions = zip(answer["predictions"], asked, strict=True)
            right += sum(prediction["label"] == label for prediction, (_, label) in predictions)
    accuracy = right / len(reviews)
    print(f"{model} {answer['version']} on {engine}: {accuracy:.4%} of {len(reviews):,}")  # noqa: T201 - the figure that is asked for
    assert accuracy >= AT_LEAST[model]
    manifest = read_manifest(MODELS / model / str(answer["version"]))
    assert accuracy == pytest.approx(manifest.metrics["test"][engine]["accuracy"], abs=1e-4)
