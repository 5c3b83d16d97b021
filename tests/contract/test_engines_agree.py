"""All engines give the same predictions for one model."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact import read_manifest
from app.serving.engines import EngineName, EngineOptions, infer, load_engine
from app.serving.repository import load_version
from tests.corpus import make_corpus
from tests.trained import Workshop

BATCH = 32


@pytest.fixture(params=["lstm", "bow"])
def version(workshop: Workshop, request: pytest.FixtureRequest) -> Path:
    """An exported version of each architecture."""
    return workshop.models / str(request.param) / "1"


def predict(version: Path, engine: EngineName, texts: list[str]) -> NDArray[np.float64]:
    """Load a version as the service does, with all checks, and predict texts in batches."""
    loaded = load_version(version, partial(load_engine, options=EngineOptions(engine, "cpu")))
    assert loaded.engine.name == engine
    rows = [loaded.encoder.encode(text).ids for text in texts]
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return np.concatenate([infer(loaded.engine, batch, labels=2) for batch in batches])


def test_two_thousand_texts(version: Path) -> None:
    """ENGINE=tensorflow and ENGINE=onnx give 2,000 texts the same labels and similar probabilities.

    With int8 weights the label of at most two texts in a thousand may differ, if their
    probabilities are within 0.02 of a tie; which ones depends on the CPU's integer kernels.
    """
    texts = [sample.text for sample in make_corpus(2_000, seed=77)]
    first, second = (predict(version, engine, texts) for engine in ("tensorflow", "onnx"))
    precision = read_manifest(version).engines["onnx"]["precision"]
    other = first.argmax(axis=1) != second.argmax(axis=1)
    assert other.mean() <= {"fp32": 0, "int8": 0.002}[precision]
    assert (np.abs(first[other] - 0.5) < 0.02).all()
    np.testing.assert_allclose(second, first, atol={"fp32": 1e-4, "int8": 0.05}[precision])


def test_alone_and_together(version: Path) -> None:
    """On ONNX Runtime a text gets the same probabilities alone and in any batch."""
    texts = [sample.text for sample in make_corpus(BATCH, seed=78)]
    together = predict(version, "onnx", texts)
    alone = np.concatenate([predict(version, "onnx", [text]) for text in texts[:8]])
    np.testing.assert_allclose(together[:8], alone, atol=1e-5)
