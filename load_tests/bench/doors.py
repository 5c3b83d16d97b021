"""The other protocols: what is sent, and whether an answer has what the protocol says."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from load_tests.bench.figures import Scenario
from load_tests.bench.goals import INPUTS, V1, V2_BINARY
from load_tests.bench.load import Load

_MEMBERS = {V1: "predictions", INPUTS: ""}


def through_door(load: Load, scenario: Scenario, texts: Sequence[str], model: str) -> Load:
    """The same load through another protocol."""
    if scenario == V1:
        bodies = [_encode({"instances": [text]}) for text in texts]
        return replace(load, path=f"/v1/models/{model}:predict", bodies=bodies)
    if scenario == INPUTS:
        return replace(load, bodies=[_encode({"inputs": t, "model": model}) for t in texts])
    path = f"/v2/models/{model}/infer"
    if scenario == V2_BINARY:
        pairs = [_make_binary(text) for text in texts]
        bodies = [head + blob for head, blob in pairs]
        return replace(load, path=path, bodies=bodies, json_bytes=[len(head) for head, _ in pairs])
    return replace(load, path=path, bodies=[_encode(_make_infer({"data": [t]})) for t in texts])


def check_door(scenario: Scenario, answer: bytes) -> str | None:
    """Which rule an answer breaks; None for none."""
    if scenario == V2_BINARY:
        whole = answer.startswith(b'{"model_name"') and b'"binary_data_size"' in answer
        return None if whole else "an answer without binary tensors"
    content = json.loads(answer)
    member = _MEMBERS.get(scenario, "outputs")
    found = content[member] if member else content
    return None if found else "an answer without predictions"


def _make_infer(tensor: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", **tensor}], **members}


def _make_binary(text: str) -> tuple[bytes, bytes]:
    """A request as Triton's client sends it: its JSON, and its binary tensor."""
    encoded = text.encode()
    blob = len(encoded).to_bytes(4, "little") + encoded
    parameters = {"binary_data_size": len(blob)}
    request = _make_infer({"parameters": parameters}, parameters={"binary_data_output": True})
    return _encode(request), blob


def _encode(body: Any) -> bytes:
    return json.dumps(body).encode()
