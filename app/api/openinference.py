"""The Open Inference Protocol v2 over HTTP at `/v2`, with binary tensors: KServe, Triton, MLServer.

A model has one input, `text`, and two outputs, `probabilities` and `label`.
"""

import re
import struct
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.api.application import RawRoute
from app.api.body import (
    SMALL_BODY_BYTES,
    Limits,
    check_text,
    json_type,
    parse_calmly,
    parse_json,
    parse_version,
    read_object,
    require_string,
)
from app.api.dialects import Dialect
from app.api.error_handlers import document_errors
from app.api.inference import JSON, Header, Inference, require_all
from app.api.openapi import SERVER_TIMING_HEADER, document_json, document_timeout
from app.api.responses import Get, answer_json
from app.api.schemas import Readiness
from app.errors import InvalidInput, NotReady, TooLarge
from app.serving.predictor import Result
from app.serving.repository import Version

TEXT, PROBABILITIES, LABEL = "text", "probabilities", "label"

_BINARY: Final = (b"content-type", b"application/octet-stream")
_HEADER_LENGTH: Final = b"inference-header-content-length"
_MAX_LENGTH_DIGITS: Final = 18
_LENGTH_BYTES: Final = 4
_PLATFORMS: Final = {"onnx": "onnxruntime_onnx", "tensorflow": "tensorflow_savedmodel"}
"""What Triton calls the engines; another engine goes by its own name."""
_NONE: Final[dict[str, Any]] = {}
_SIZE: Final = re.compile(rb'"binary_data_size": ?(0|[1-9][0-9]{0,8})(?=[,}])')
_MAX_KNOWN_BYTES: Final = 512
_UNSUPPORTED: Final = frozenset({"classification", "shared_memory_region"})
"""Parameters of tensors that would change what they mean."""

_Outputs = tuple[tuple[str, bool], ...]
"""The names of the outputs, each with whether it is binary."""


def describe_error(_scope: Scope, _slug: str, detail: str) -> dict[str, Any]:
    """The JSON object of an error."""
    return {"error": detail}


DIALECT: Final = Dialect(describe_error, {"invalid-input": 400})


@dataclass(slots=True)
class InferCall:
    """A parsed inference request.

    Attributes:
        texts: At least one.
        model: The model.
        version: A number or an alias; None for the version that answers by default.
        timeout_s: From the parameter `timeout`; None without one.
        request_id: The member `id`, which the response repeats; None without one.
        outputs: The outputs in the order asked.
        explain: False, as in every call but the native one.
    """

    texts: list[str]
    model: str | None
    version: int | str | None
    timeout_s: float | None
    request_id: str | None
    outputs: _Outputs
    explain: bool = False


def parse_infer(
    body: bytes,
    header_length: bytes | None,
    limits: Limits,
    model: str,
    version: str | None = None,
) -> InferCall:
    """Parse an inference request.

    Args:
        body: JSON, and behind it the tensors in binary form.
        header_length: The header `Inference-Header-Content-Length`: bytes of the JSON. Without it
            all of the body is JSON.
        limits: The limits of a request.
        model: The model in the path.
        version: The version in the path.

    Raises:
        NotJSON: The JSON is not JSON.
        InvalidInput: A member breaks a rule. The message names the member and the rule.
        TooLarge: A text, or the number of texts, is over its limit.
    """
    if header_length is None:
        json_bytes = len(body)
        frame, size = _read_frame(body), None
    else:
        json_bytes = _read_length(header_length, len(body))
        frame, size = _find_frame(body[:json_bytes])
    size = frame.size if size is None else size
    left = len(body) - json_bytes
    if (size or 0) != left:
        raise InvalidInput(
            f"binary_data_size of {TEXT} must be the bytes behind the JSON. Received: {size or 0} "
            f"and {left}"
        )
    if frame.count > limits.max_texts:
        raise TooLarge(
            f"{TEXT} must have at most {limits.max_texts} elements. Received: {frame.count}"
        )
    if size is None:
        texts = _read_elements(frame.data, frame.count)
    else:
        texts = decode_bytes(body, json_bytes, frame.count)
    for index, text in enumerate(texts, start=1):
        if check_text(text, TEXT, limits) and (error := check_text(text, _name(index), limits)):
            raise error
    number = None if version is None else parse_version(version)
    return InferCall(texts, model, number, frame.timeout_s, frame.request_id, frame.outputs)


def _name(index: int) -> str:
    """The name of a text in errors, counted from 1."""
    return f"element {index} of {TEXT}"


def _read_length(header: bytes, most: int) -> int:
    length = int(header) if header.isdigit() and len(header) <= _MAX_LENGTH_DIGITS else -1
    if not 0 <= length <= most:
        raise InvalidInput(
            "Inference-Header-Content-Length must be a number of bytes, at most those of the body"
        )
    return length


@dataclass(slots=True)
class _Frame:
    """What the JSON of a request says.

    Attributes:
        count: The number of texts.
        data: The texts, if they are in it.
        size: Bytes of the binary tensor; None if the texts are in `data`.
        timeout_s, request_id, outputs: As in `InferCall`.
    """

    count: int
    data: Any
    size: int | None
    timeout_s: float | None
    request_id: str | None
    outputs: _Outputs


def _find_frame(content: bytes) -> tuple[_Frame, int | None]:
    """As `_read_frame`, for JSON with a binary tensor behind it; the size may stand beside it.

    Without its texts the JSON of a client is the same again and again, but for that size.
    """
    found = _SIZE.search(content) if len(content) <= _MAX_KNOWN_BYTES else None
    if found is None or content.count(b"binary_data_size") > 1 or b'"data"' in content:
        return _read_frame(content), None
    start, end = found.span(1)
    return _known_frame(content[:start] + b"0" + content[end:]), int(found[1])


def _read_frame(content: bytes) -> _Frame:
    request = read_object(parse_json(content), "the body")
    request_id = request.get("id")
    if request_id is not None:
        _require_sendable(request_id)
    inputs = request.get("inputs")
    if type(inputs) is not list or len(inputs) != 1:
        raise InvalidInput(f"inputs must be a list of one tensor, {TEXT}")
    tensor = read_object(inputs[0], "an input")
    if tensor.get("name") != TEXT:
        raise InvalidInput(f"the name of the input must be {TEXT}")
    if tensor.get("datatype") != "BYTES":
        raise InvalidInput(f"the datatype of {TEXT} must be BYTES")
    count = _read_count(tensor.get("shape"))
    size = None
    if "parameters" in tensor:
        own = _read_parameters(tensor, TEXT)
        _require_supported(own)
        size = _read_number(own, "binary_data_size")
    if (size is None) == ("data" not in tensor):
        raise InvalidInput(f"{TEXT} must have either data or binary_data_size")
    binary, timeout_s = False, None
    if "parameters" in request:
        parameters = _read_parameters(request, "the body")
        binary = bool(_read_flag(parameters, "binary_data_output"))
        timeout_s = _read_timeout_s(parameters)
    outputs = _read_outputs(request.get("outputs"), binary)
    return _Frame(count, tensor.get("data"), size, timeout_s, request_id, outputs)


_known_frame = lru_cache(maxsize=256)(_read_frame)


def _read_parameters(tensor: dict[str, Any], name: str) -> dict[str, Any]:
    parameters = tensor.get("parameters")
    return _NONE if parameters is None else read_object(parameters, f"parameters of {name}")


def _require_sendable(request_id: Any) -> None:
    require_string(request_id, "id")
    try:
        request_id.encode()
    except UnicodeEncodeError:
        raise InvalidInput("id must not contain a lone surrogate") from None


def _read_number(parameters: dict[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(f"{name} must be a whole number from 0")
    return value


def _read_flag(parameters: dict[str, Any], name: str) -> bool | None:
    value: bool | None = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{name} must be a boolean. Received: {json_type(value)}")
    return value


def _read_timeout_s(parameters: dict[str, Any]) -> float | None:
    """The parameter `timeout`, which is in microseconds; 0 stands for none."""
    _read_number(parameters, "priority")  # there is one level
    microseconds = _read_number(parameters, "timeout")
    return min(microseconds, 10**15) / 1e6 if microseconds else None


def _read_count(shape: Any) -> int:
    """The number of texts of a tensor of shape (n,) or (n, 1)."""
    # `type` and not `isinstance`, because a boolean is an int, too.
    is_column = type(shape) is list and len(shape) == 2 and type(shape[1]) is int and shape[1] == 1
    if is_column or (type(shape) is list and len(shape) == 1):
        count = shape[0]
        if type(count) is int and count >= 1:
            return count
    raise InvalidInput(f"the shape of {TEXT} must be [n] or [n, 1], with n at least 1")


def _require_supported(parameters: dict[str, Any]) -> None:
    if not _UNSUPPORTED.isdisjoint(parameters):
        raise InvalidInput(
            "the service has no shared memory and no classification parameter; the output "
            f"{LABEL} has the labels"
        )


def _read_elements(data: Any, count: int) -> list[str]:
    """The strings of the member `data`, flat or in rows of one."""
    if not isinstance(data, list) or len(data) != count:
        raise InvalidInput(f"data of {TEXT} must be a list with as many elements as shape says")
    if isinstance(data[0], list):
        rows = [row for row in data if isinstance(row, list) and len(row) == 1]
        if len(rows) != count:
            raise InvalidInput(f"data of {TEXT} must be strings, or lists of one string each")
        data = [row[0] for row in rows]
    for index, element in enumerate(data, start=1):
        if not isinstance(element, str):
            require_string(element, _name(index))
    texts: list[str] = data
    return texts


def decode_bytes(body: bytes, start: int, count: int) -> list[str]:
    """Decode a binary tensor of BYTES in UTF-8: each element has its length before it.

    Args:
        body: The bytes.
        start: Where the tensor begins; it takes all the rest.
        count: The number of elements.

    Raises:
        InvalidInput: The lengths do not add up to the bytes, or an element is not UTF-8.
    """
    texts = []
    at = start
    for index in range(count):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(body[at:begin], "little")
        if begin > len(body) or at > len(body):
            break
        try:
            texts.append(body[begin:at].decode())
        except UnicodeDecodeError:
            raise InvalidInput(f"{_name(index + 1)} must be UTF-8") from None
    if at != len(body) or len(texts) != count:
        raise InvalidInput(
            f"the lengths of the {count} elements of {TEXT} must add up to the bytes behind the "
            f"JSON: {len(body) - start}"
        )
    return texts


def encode_bytes(elements: Iterable[str]) -> bytes:
    """The binary form of a tensor of BYTES."""
    return b"".join(map(_encode_element, elements))


def _encode_element(element: str) -> bytes:
    encoded = element.encode()
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded


_encode_label = lru_cache(maxsize=256)(_encode_element)


@cache
def _all_outputs(binary: bool) -> _Outputs:
    return ((PROBABILITIES, binary), (LABEL, binary))


def _read_outputs(outputs: Any, binary: bool) -> _Outputs:
    """The requested outputs; all of them if none are named."""
    if outputs is None or outputs == []:
        return _all_outputs(binary)
    if not isinstance(outputs, list):
        raise InvalidInput(f"outputs must be a list. Received: {json_type(outputs)}")
    found: dict[str, bool] = {}
    for output in outputs:
        tensor = read_object(output, "an output")
        name = tensor.get("name")
        if name not in (PROBABILITIES, LABEL) or name in found:
            raise InvalidInput(f"outputs must be named {PROBABILITIES} or {LABEL}, each once")
        parameters = _read_parameters(tensor, name)
        _require_supported(parameters)
        own = _read_flag(parameters, "binary_data")
        found[name] = binary if own is None else own
    return tuple(found.items())


def write_infer(version: Version, call: InferCall, result: Result) -> tuple[bytes, list[Header]]:
    """The body of the response, and its headers.

    Raises:
        ValenceError: The model has failed on a text.
    """
    predictions = require_all(result)
    shape = len(predictions), len(predictions[0].probabilities)
    start, *befores = _known_pieces(version.name, version.number, shape, call.outputs)
    pieces, blobs = [start], []
    if call.request_id is not None:
        pieces.append(b',"id":%b' % orjson.dumps(call.request_id))
    for (name, binary), before in zip(call.outputs, befores, strict=True):
        values: list[Any]
        if name == LABEL:
            values = [each.label for each in predictions]
            blob = b"".join(map(_encode_label, values)) if binary else b""
        else:
            values = [p for each in predictions for p in each.probabilities.values()]
            blob = _floats(len(values)).pack(*values) if binary else b""
        if binary:
            blobs.append(blob)
            pieces.append(b"%b%d}}" % (before, len(blob)))
        else:
            pieces.append(b"%b%b}" % (before, orjson.dumps(values)))
    pieces.append(b"]}")
    content = b"".join(pieces)
    if not blobs:
        return content, [JSON]
    length = b"%d" % len(content)
    return b"".join((content, *blobs)), [_BINARY, (_HEADER_LENGTH, length)]


@lru_cache(maxsize=256)
def _known_pieces(
    name: str, number: int, shape: tuple[int, int], outputs: _Outputs
) -> tuple[bytes, ...]:
    """The JSON of a response up to its id, and for each output what comes before its values.

    It is the same for every request of a form; only the id, the values and their sizes differ.

    Args:
        name: The model.
        number: Its version.
        shape: Of the probabilities.
        outputs: The outputs in the order asked.
    """
    pieces = [orjson.dumps({"model_name": name, "model_version": str(number)}).removesuffix(b"}")]
    before = b',"outputs":['
    for output, binary in outputs:
        kind, sizes = ("BYTES", shape[:1]) if output == LABEL else ("FP32", shape)
        tensor = orjson.dumps({"name": output, "datatype": kind, "shape": sizes})
        after = b',"parameters":{"binary_data_size":' if binary else b',"data":'
        pieces.append(before + tensor.removesuffix(b"}") + after)
        before = b","
    return tuple(pieces)


@lru_cache(maxsize=256)
def _floats(count: int) -> struct.Struct:
    """The binary form of so many elements of FP32."""
    return struct.Struct(f"<{count}f")


# --- routes


def register(app: FastAPI, inference: Inference, readiness: Callable[[], Readiness]) -> None:
    """Add the routes of `/v2`.

    Args:
        app: The application; its version is the server's.
        inference: Answers the requests.
        readiness: Whether the service may receive traffic.
    """
    repository, limits = inference.repository, inference.limits

    def find(scope: Scope) -> Version:
        path: dict[str, str] = scope["path_params"]
        version = repository.find(path["model"], parse_version(path.get("version")))
        if version.manifest is None or version.predictor is None:
            raise NotReady("the model is being loaded")
        return version

    def require_ready() -> None:
        state = readiness()
        if not state.ready:
            raise NotReady(state.reason or "the service is not ready")

    async def live(_scope: Scope) -> dict[str, Any]:
        """Whether the process answers; it never depends on a model."""
        return {"live": True}

    async def ready(_scope: Scope) -> dict[str, Any]:
        """Whether the service may receive traffic, as `/readyz`."""
        require_ready()
        return {"ready": True}

    async def server_metadata(_scope: Scope) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "valence", "version": app.version, "extensions": ["binary_tensor_data"]}

    async def model_ready(scope: Scope) -> dict[str, Any]:
        """Whether a model, or a version of it, can answer."""
        require_ready()
        return {"name": find(scope).name, "ready": True}

    async def model_metadata(scope: Scope) -> dict[str, Any]:
        """The inputs and outputs of a model."""
        version = find(scope)
        numbers = repository.plan.numbers(version.name) if repository.plan is not None else ()
        return describe_model(version, numbers)

    async def model_config(scope: Scope) -> dict[str, Any]:
        """The same in the form of Triton's configuration."""
        return describe_config(find(scope))

    def read(scope: Scope, body: bytes) -> InferCall:
        header = None
        for name, value in scope["headers"]:
            if name == _HEADER_LENGTH:
                header = value
        path: dict[str, str] = scope["path_params"]
        asked = path["model"], path.get("version")
        if len(body) <= SMALL_BODY_BYTES:  # the usual way, two calls shorter
            return parse_infer(body, header, limits, *asked)
        return parse_calmly(body, partial(parse_infer, body, header, limits, *asked))

    def infer(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Predict the sentiment of every element of `text`.

        Tensors are JSON, or binary behind the JSON, as each asks for.
        """
        return inference.answer(scope, receive, send, read, write_infer)

    gets: tuple[tuple[str, Get, dict[str, Any], tuple[int, ...]], ...] = (
        ("", server_metadata, _SERVER, ()),
        ("/health/live", live, {"live": True}, ()),
        ("/health/ready", ready, {"ready": True}, (503,)),
        ("/models/{model}/ready", model_ready, {"name": "lstm", "ready": True}, (404, 503)),
        ("/models/{model}", model_metadata, _MODEL, (404, 503)),
        ("/models/{model}/config", model_config, _CONFIG, (404, 503)),
    )
    for path, get, example, statuses in gets:
        for each in _with_versions(path):
            app.router.add_api_route(
                each,
                answer_json(get),
                methods=["GET"],
                tags=[_TAG],
                responses={
                    200: {"content": document_json(example)},
                    **document_errors(DIALECT, *statuses),
                },
                route_class_override=RawRoute,
            )
    for each in _with_versions("/models/{model}/infer"):
        app.router.add_api_route(
            each,
            infer,
            methods=["POST"],
            tags=[_TAG],
            responses={
                200: {
                    "headers": {"Server-Timing": SERVER_TIMING_HEADER},
                    "content": {**document_json(_RESPONSE), **_BINARY_RESPONSE},
                },
                **document_errors(DIALECT, 400, 404, 408, 413, 415, 429, 500, 503, 504),
            },
            openapi_extra={
                "requestBody": {"required": True, "content": {**document_json(*_REQUESTS)}},
                "parameters": [
                    document_timeout(limits),
                    {
                        "name": "Inference-Header-Content-Length",
                        "in": "header",
                        "description": "Bytes of the JSON, if binary tensors are behind it.",
                        "schema": {"type": "integer", "minimum": 0},
                    },
                ],
            },
            route_class_override=RawRoute,
        )


def _with_versions(path: str) -> tuple[str, ...]:
    """A path, and the one with a version if it has a model."""
    model = "/models/{model}"
    if not path.startswith(model):
        return (f"/v2{path}",)
    return (f"/v2{path}", f"/v2{model}/versions/{{version}}{path.removeprefix(model)}")


def describe_model(version: Version, numbers: Sequence[int]) -> dict[str, Any]:
    """The metadata of a model.

    Args:
        version: One of its versions.
        numbers: All that answer.
    """
    labels = version.manifest.labels if version.manifest else ()
    return {
        "name": version.name,
        "versions": [str(number) for number in sorted(numbers)],
        "platform": _PLATFORMS.get(version.engine, version.engine),
        "inputs": [{"name": TEXT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(labels)]},
            {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
    }


def describe_config(version: Version) -> dict[str, Any]:
    """The configuration of a model, as Triton describes it; the batch is an ordinary dimension."""
    metadata = describe_model(version, ())
    kinds = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}

    def describe(tensor: dict[str, Any]) -> dict[str, Any]:
        kind = kinds[tensor["datatype"]]
        return {"name": tensor["name"], "data_type": kind, "dims": tensor["shape"]}

    return {
        "name": version.name,
        "platform": metadata["platform"],
        "max_batch_size": 0,
        "input": [describe(tensor) for tensor in metadata["inputs"]],
        "output": [describe(tensor) for tensor in metadata["outputs"]],
    }


_TAG: Final = "open inference protocol"
_SERVER: Final = {"name": "valence", "version": "1.0", "extensions": ["binary_tensor_data"]}
_MODEL: Final = {
    "name": "lstm",
    "versions": ["1", "2"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ],
}
_CONFIG: Final = {
    "name": "lstm",
    "platform": "onnxruntime_onnx",
    "max_batch_size": 0,
    "input": [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}],
    "output": [
        {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [-1, 2]},
        {"name": "label", "data_type": "TYPE_STRING", "dims": [-1]},
    ],
}
_REQUESTS: Final = (
    {
        "inputs": [
            {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["A warm, funny film."]}
        ]
    },
    {
        "id": "a-1",
        "parameters": {"timeout": 500_000},
        "inputs": [
            {
                "name": "text",
                "shape": [2, 1],
                "datatype": "BYTES",
                "data": ["A warm, funny film.", "Two hours I will never get back."],
            }
        ],
        "outputs": [{"name": "label", "parameters": {"binary_data": False}}],
    },
)
_RESPONSE: Final = {
    "model_name": "lstm",
    "model_version": "2",
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [1, 2],
            "data": [0.0213, 0.9787],
        },
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["positive"]},
    ],
}
_BINARY_RESPONSE: Final = {
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary"},
        "example": "the JSON, and behind it the binary tensors",
    }
}
