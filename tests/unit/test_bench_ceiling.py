from pathlib import Path

import numpy as np
import pytest

from app.artifact import read_golden
from load_tests.bench.ceiling import Ceiling
from load_tests.bench.errors import BenchError

TEXTS = ["A good film.", "The bad, bad film! " * 9, "...", "good " * 30, "bad"]


@pytest.fixture(scope="module", params=["lstm", "bow"])
def folder(request: pytest.FixtureRequest, exported_models: Path) -> Path:
    """A version that was exported for real."""
    return exported_models / str(request.param) / "1"


@pytest.fixture(scope="module")
def ceiling(folder: Path) -> Ceiling:
    """Its ceiling on ONNX Runtime."""
    return Ceiling(folder, "onnx", TEXTS)


def test_answers(folder: Path) -> None:
    """The in-process answers are those that the version was exported with, text by text."""
    golden = read_golden(folder)
    answers = Ceiling(folder, "onnx", [row.text for row in golden]).answers()
    np.testing.assert_allclose(
        [list(answer.values()) for answer in answers],
        [row.expected("onnx") for row in golden],
        atol=1e-4,
    )
    assert {tuple(answer) for answer in answers} == {("negative", "positive")}


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_throughput(ceiling: Ceiling, batch_size: int) -> None:
    """Batches of any size are computed, from ids and from text, for however short a time."""
    assert ceiling.throughput(batch_size, seconds=0.001) > 0
    assert ceiling.throughput_from_text(batch_size, seconds=0.001) > 0


def test_latencies(ceiling: Ceiling) -> None:
    """One text at a time gives a time for each; at least one, even where there is no time."""
    assert all(time > 0 for time in ceiling.latencies_ms(0.01))
    assert len(ceiling.latencies_ms(0)) == 1


def test_precision(ceiling: Ceiling, folder: Path) -> None:
    """The precision is the one that the manifest tells."""
    assert ceiling.precision in ({"fp32"} if folder.parent.name == "bow" else {"fp32", "int8"})


def test_unusable_version(tmp_path: Path) -> None:
    """A version that cannot be loaded ends the benchmark with a sentence."""
    with pytest.raises(BenchError, match=r"manifest\.json cannot be read"):
        Ceiling(tmp_path, "onnx", TEXTS)
