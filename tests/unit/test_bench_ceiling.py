from pathlib import Path

import numpy as np
import pytest

from app.artifact import read_golden
from load_tests.bench.ceiling import Ceiling
from load_tests.bench.errors import BenchError

TEXTS = ["A good film.", "The bad, bad film! " * 9, "...", "good " * 30, "bad"]


@pytest.fixture(scope="module", params=["lstm", "bow"])
def folder(request: pytest.FixtureRequest, exported_models: Path) -> Path:
    """The folder of an exported version."""
    return exported_models / str(request.param) / "1"


@pytest.fixture(scope="module")
def ceiling(folder: Path) -> Ceiling:
    """The ceiling of that version on ONNX Runtime."""
    return Ceiling(folder, "onnx", TEXTS)


def test_answers(folder: Path) -> None:
    """The in-process answers are the golden answers of the version."""
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
    """Any batch size and duration gives a throughput, from ids and from strings."""
    assert ceiling.throughput(batch_size, seconds=0.001) > 0
    assert ceiling.throughput_from_text(batch_size, seconds=0.001) > 0


def test_latencies(ceiling: Ceiling) -> None:
    """Every text gives a latency; there is at least one, whatever the duration."""
    assert all(time > 0 for time in ceiling.latencies_ms(0.01))
    assert len(ceiling.latencies_ms(0)) == 1


def test_precision(ceiling: Ceiling, folder: Path) -> None:
    """The precision is the one in the manifest."""
    assert ceiling.precision in ({"fp32"} if folder.parent.name == "bow" else {"fp32", "int8"})


def test_unusable_version(tmp_path: Path) -> None:
    """A version that cannot be loaded ends the benchmark with one sentence."""
    with pytest.raises(BenchError, match=r"manifest\.json cannot be read"):
        Ceiling(tmp_path, "onnx", TEXTS)
