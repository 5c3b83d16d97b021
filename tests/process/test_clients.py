"""The clients of other projects, unchanged, against a real server."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.published import publish, set_aliases
from tests.server import ROOT, ServerProcess

TEXTS = ("a superb film", "a dreadful, boring film", "naïve 🎬 but superb")
LABELS = ["positive", "negative", "positive"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with two versions of `bow`, of which the first is stable."""
    models = tmp_path_factory.mktemp("models")
    for number in (1, 2):
        publish(models, "bow", number)
    set_aliases(models, "bow", stable=1)
    with ServerProcess(models, "--workers", "1", "--max-text-chars", "1000") as server:
        server.wait_for("the service is ready")
        yield server.wait_for("the service is starting")["address"]


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    """Triton's client."""
    with triton.InferenceServerClient(address.removeprefix("http://")) as one:
        yield one


def make_input(*texts: str, column: bool = False, binary: bool = True) -> Any:
    """The input `text` of shape (n,) or (n, 1)."""
    values = np.array([text.encode() for text in texts], dtype=np.object_)
    if not binary:
        values = np.array(texts, dtype=np.object_)
    values = values[:, None] if column else values
    tensor = triton.InferInput("text", values.shape, "BYTES")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def make_outputs(binary: bool | None) -> Any:
    """Both outputs, in binary form or in JSON; None leaves the choice to the client."""
    if binary is None:
        return None
    names = ("label", "probabilities")
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def test_triton_health_and_metadata(client: Any) -> None:
    """The client finds the server live and ready, and a model with its versions and tensors."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("bow")
    assert client.is_model_ready("bow", "2")
    assert not client.is_model_ready("none")
    assert not client.is_model_ready("bow", "3")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("bow", "2") == {
        "name": "bow",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    assert client.get_model_config("bow")["max_batch_size"] == 0


@pytest.mark.parametrize(
    ("binary_in", "binary_out", "column", "coding"),
    [
        *((*each, None) for each in product((True, False), (True, False, None), (True, False))),
        (True, True, False, "gzip"),
        (False, False, True, "gzip"),
        (True, None, False, "deflate"),
    ],
)
def test_triton_infer(
    client: Any, binary_in: bool, binary_out: bool | None, column: bool, coding: str | None
) -> None:
    """Every form of input and output gets the same answers, and the id back."""
    result = client.infer(
        "bow",
        [make_input(*TEXTS, column=column, binary=binary_in)],
        outputs=make_outputs(binary_out),
        request_id="a-1",
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    probabilities = result.as_numpy("probabilities")
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (3, 2))
    assert probabilities.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    labels = [x.decode() if isinstance(x, bytes) else x for x in result.as_numpy("label")]
    assert labels == LABELS
    response = result.get_response()
    about = response["model_name"], response["model_version"], response["id"]
    assert about == ("bow", "1", "a-1")


def test_triton_and_the_native_route_agree(client: Any, address: str) -> None:
    """The binary answer is the native one in float32."""
    native = httpx.post(f"{address}/predict", json={"text": TEXTS[0]}).json()["probabilities"]
    result = client.infer("bow", [make_input(TEXTS[0])])
    assert result.as_numpy("probabilities")[0] == pytest.approx(list(native.values()), rel=1e-7)


def test_triton_version_and_timeout(client: Any) -> None:
    """A version in the path answers; a timeout in microseconds is kept to."""
    named = client.infer("bow", [make_input("superb")], model_version="2", timeout=5_000_000)
    assert named.get_response()["model_version"] == "2"
    with pytest.raises(InferenceServerException, match=r"deadline|within") as raised:
        client.infer("bow", [make_input("superb")], timeout=1)
    assert raised.value.status() in ("429", "504")


@pytest.mark.parametrize(
    ("model", "version", "text", "status", "words"),
    [
        ("none", "", "superb", "404", "bow (2, 1, stable)"),
        ("bow", "3", "superb", "404", "bow (2, 1, stable)"),
        ("bow", "", " ", "400", "element 1 of text"),
        ("bow", "", "x" * 1001, "413", "1000 characters"),
    ],
)
def test_triton_errors(
    client: Any, model: str, version: str, text: str, status: str, words: str
) -> None:
    """The client raises the error's sentence with its status."""
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, [make_input(text)], model_version=version)
    assert raised.value.status() == status
    assert words in raised.value.message()


# --- TensorFlow Serving has no client of its own: callers post JSON


def test_tensorflow_serving(address: str) -> None:
    """What callers of TensorFlow Serving send and read: predict, classify, status, metadata."""
    with httpx.Client(base_url=f"{address}/v1/models") as tf:
        rows = tf.post("/bow:predict", json={"instances": list(TEXTS)}).json()["predictions"]
        columns = tf.post("/bow:predict", json={"inputs": {"text": list(TEXTS)}}).json()["outputs"]
        examples = {"examples": [{"text": text} for text in TEXTS]}
        results = tf.post("/bow/labels/stable:classify", json=examples).json()["results"]
        status = tf.get("/bow").json()["model_version_status"]
        metadata = tf.get("/bow/versions/1/metadata").json()
    assert rows == columns == [[score for _, score in result] for result in results]
    assert [max(result, key=lambda each: each[1])[0] for result in results] == LABELS
    assert [(each["version"], each["state"]) for each in status] == [
        *(("2", "AVAILABLE"), ("1", "AVAILABLE")),
    ]
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    sizes = [dim["size"] for dim in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "2"]


# --- Hugging Face


def test_hugging_face(address: str) -> None:
    """The client finds the best label first, for one text and for several."""
    client: Any = InferenceClient(base_url=f"{address}/predict", token="none")  # noqa: S106 no secret
    best = client.text_classification(TEXTS[0])
    assert (best.label, best.score > 0.5) == ("positive", True)
    ranked = client.text_classification([TEXTS[1], TEXTS[0]], top_k=2)
    assert [each.label for each in ranked] == ["negative", "positive"]
    with pytest.raises(HfHubHTTPError, match="422"):
        client.text_classification(TEXTS[0], function_to_apply="sigmoid")


# --- the documentation


def find_blocks(language: str) -> list[str]:
    """The code blocks of docs/protocols.md in a language."""
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def run_block(command: Sequence[str], block: str, address: str) -> str:
    """Run a block against the server and its model; returns what it prints."""
    code = block.replace("127.0.0.1:8000", address.removeprefix("http://")).replace("lstm", "bow")
    done = subprocess.run([*command, code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_documented_python(address: str) -> None:
    """The Python of docs/protocols.md works as it stands."""
    triton_block, hub_block = find_blocks("python")
    assert "positive" in run_block((sys.executable, "-c"), triton_block, address)
    assert "label='positive'" in run_block((sys.executable, "-c"), hub_block, address)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_documented_shell(address: str) -> None:
    """The curl lines of docs/protocols.md get answers, not errors."""
    for block in find_blocks("sh"):
        printed = run_block(("sh", "-ec"), block, address)
        assert '"error":' not in printed
        assert printed.count("{") > 1
