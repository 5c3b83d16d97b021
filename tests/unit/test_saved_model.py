"""The signatures of a SavedModel, read without TensorFlow."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UnusableVersion
from app.serving.saved_model import SAVED_MODEL, Signature, Tensor, read_signatures
from tests.server import ROOT

PREDICT = "tensorflow/serving/predict"


def make_text() -> dict[str, Tensor]:
    return {"text": Tensor("serving_default_text:0", 7, ((-1, ""),))}


@pytest.mark.parametrize(
    ("version", "output", "labels", "others"),
    [
        ("bow/3", "StatefulPartitionedCall_1:0", 2, {"serve_ids"}),
        ("tweets-lstm/1", "StatefulPartitionedCall_2:0", 3, {"serve_ids", "serve_ids_cudnn"}),
    ],
)
def test_bundled_models(version: str, output: str, labels: int, others: set[str]) -> None:
    """Names, types and shapes are those that TensorFlow's own reader finds in the files."""
    signatures = read_signatures(ROOT / "models" / version)
    assert signatures.pop("serving_default") == Signature(
        make_text(), {"probabilities": Tensor(output, 1, ((-1, ""), (labels, "")))}, PREDICT
    )
    initialize = signatures.pop("__saved_model_init_op").outputs
    assert initialize == {"__saved_model_init_op": Tensor("NoOp", 0, None)}
    assert set(signatures) == others


def test_no_file(tmp_path: Path) -> None:
    """A folder without a SavedModel is refused in a sentence."""
    with pytest.raises(UnusableVersion, match=r"saved_model\.pb cannot be read"):
        read_signatures(tmp_path)


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=40), st.integers(0, 60), st.booleans())
def test_damaged(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, cut: bool
) -> None:
    """Any bytes are a SavedModel or none; nothing else is raised."""
    whole = bytes.fromhex("08011222" + "2a20" + "0a0173" + "121b" + "0a19" + "0a0474657874")
    folder = tmp_path_factory.mktemp("damaged")
    (folder / SAVED_MODEL).write_bytes(whole[:at] + noise + (b"" if cut else whole[at:]))
    try:
        signatures = read_signatures(folder)
    except UnusableVersion as error:
        assert str(error) == "saved_model.pb must be a SavedModel"  # noqa: PT017 either is right
    else:
        assert all(isinstance(each, Signature) for each in signatures.values())
