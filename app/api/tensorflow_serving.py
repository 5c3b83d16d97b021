"""TensorFlow Serving's REST API at `/v1/models`.

A model has the signature `serving_default`: `text` in, `probabilities` out. Labels of versions are
the aliases of the service.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.api.application import AnyCaseRoute
from app.api.body import (
    Limits,
    check_text,
    json_type,
    parse_calmly,
    parse_json,
    parse_version,
    read_object,
)
from app.api.dialects import Dialect
from app.api.error_handlers import document_errors
from app.api.inference import JSON, Header, Inference, require_all
from app.api.openapi import SERVER_TIMING_HEADER, document_json, document_timeout
from app.api.responses import Get, answer_json
from app.errors import InvalidInput, NotReady, TooLarge, UnknownModel, UnusableVersion
from app.serving.predictor import Result
from app.serving.repository import Repository, State, Version
from app.serving.saved_model import Signature, Tensor, read_signatures

TEXT, SIGNATURE = "text", "serving_default"

_STATES: Final = {
    State.WAITING: "START",
    State.LOADING: "LOADING",
    State.READY: "AVAILABLE",
    State.REJECTED: "END",
    State.REMOVED: "AVAILABLE",
}
_FLOAT, _INT32, _STRING = 1, 3, 7
_TYPES: Final = {_FLOAT: "DT_FLOAT", _INT32: "DT_INT32", _STRING: "DT_STRING"}
_BASE64: Final = "b64"
_NOTHING_ELSE: Final = frozenset({_BASE64})


def describe_error(scope: Scope, slug: str, detail: str) -> dict[str, Any]:
    """The JSON object of an error, in TensorFlow Serving's words where callers may read them."""
    if slug in ("no-such-route", "method-not-allowed"):
        detail = str(_malformed(scope))
    elif slug == "unknown-model":
        path: dict[str, str] = scope["path_params"]
        version = path.get("version")
        asked = f"Specific({path['model']}, {version})" if version else f"Latest({path['model']})"
        detail = f"Servable not found for request: {asked}"
    return {"error": detail}


DIALECT: Final = Dialect(
    describe_error,
    {
        "invalid-input": 400,
        "no-such-route": 400,
        "method-not-allowed": 400,
        "queue-full": 503,
        "too-late": 503,
    },
)


def _malformed(scope: Scope) -> InvalidInput:
    return InvalidInput(f"Malformed request: {scope['method']} {scope['path']}")


@dataclass(slots=True)
class ServingCall:
    """A parsed request of `:predict` or `:classify`.

    Attributes:
        texts: At least one.
        model: The model.
        version: A number or a label; None for the version that answers by default.
        member: Of the response: `predictions`, `outputs` or `results`.
        timeout_s: None: the deadline is that of the header.
        explain: False, as in every call but the native one.
    """

    texts: list[str]
    model: str | None
    version: int | str | None
    member: str
    timeout_s: float | None = None
    explain: bool = False


def parse_predict(body: bytes, limits: Limits) -> tuple[list[str], str]:
    """Parse the body of `:predict`.

    Returns:
        The texts, and the member of the response.

    Raises:
        NotJSON, InvalidInput, TooLarge: It breaks a rule. The message names the member and the
            rule.
    """
    request = _read_request(body)
    if ("instances" in request) == ("inputs" in request):
        raise InvalidInput("the body must have either instances or inputs")
    if "instances" in request:
        return _read_texts(request["instances"], "instances", limits, rows=True), "predictions"
    inputs = request["inputs"]
    if isinstance(inputs, tuple):
        inputs = _only_feature(read_object(inputs, "inputs"), "inputs")
    return _read_texts(inputs, "inputs", limits, rows=False), "outputs"


def parse_classify(body: bytes, limits: Limits) -> tuple[list[str], str]:
    """Parse the body of `:classify`; see `parse_predict`."""
    request = _read_request(body)
    context = read_object(request["context"], "context") if "context" in request else {}
    examples = request.get("examples")
    if not isinstance(examples, list):
        raise InvalidInput(f"examples must be a list. Received: {json_type(examples)}")
    _check_count(examples, "examples", limits)
    values = []
    for index, example in enumerate(examples):
        name = f"examples[{index}]"
        value = _only_feature({**context, **read_object(example, name)}, name)
        # A feature of one value may be a list.
        values.append(value[0] if isinstance(value, list) and len(value) == 1 else value)
    return _read_texts(values, "examples", limits, rows=False), "results"


def _read_request(body: bytes) -> dict[str, Any]:
    request = read_object(parse_json(body), "the body")
    if request.get("signature_name", SIGNATURE) not in ("", SIGNATURE):
        raise InvalidInput(f"signature_name must be {SIGNATURE}")
    return request


def _only_feature(features: dict[str, Any], name: str) -> Any:
    if features.keys() != {TEXT}:
        raise InvalidInput(f"{name} must have {TEXT}, and nothing else")
    return features[TEXT]


def _check_count(values: list[Any], name: str, limits: Limits) -> None:
    if not values:
        raise InvalidInput(f"{name} must have at least one text")
    if len(values) > limits.max_texts:
        raise TooLarge(
            f"{name} must have at most {limits.max_texts} texts. Received: {len(values)}"
        )


def _read_texts(values: Any, name: str, limits: Limits, *, rows: bool) -> list[str]:
    """The texts of a list.

    Args:
        values: Strings, or objects with `b64`.
        name: Of the list, for errors.
        limits: The limits of a request.
        rows: Whether a value may also be an object with `text`.
    """
    if not isinstance(values, list):
        raise InvalidInput(f"{name} must be a list. Received: {json_type(values)}")
    _check_count(values, name, limits)
    texts = []
    for index, value in enumerate(values):
        text = value
        if not isinstance(text, str):
            text = _read_text(text, f"{name}[{index}]", is_row=rows)
        if error := check_text(text, f"{name}[{index}]", limits):
            raise error
        texts.append(text)
    return texts


def _read_text(value: Any, name: str, *, is_row: bool) -> str:
    """A text that is no plain string."""
    if isinstance(value, tuple):
        content = read_object(value, name)
        if content.keys() != _NOTHING_ELSE and is_row:
            return _read_text(_only_feature(content, name), f"{name}.{TEXT}", is_row=False)
        if content.keys() == _NOTHING_ELSE:
            return _decode(content[_BASE64], name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string. Received: {json_type(value)}")
    return value


def _decode(value: Any, name: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (ValueError, TypeError):
        raise InvalidInput(f"{_BASE64} of {name} must be UTF-8 in base64") from None


def write_serving(
    version: Version, call: ServingCall, result: Result
) -> tuple[bytes, list[Header]]:
    """The body of the response, and its headers.

    Raises:
        ValenceError: The model has failed on a text.
    """
    probabilities = [each.probabilities for each in require_all(result)]
    rows: list[Any]
    if call.member == "results":
        rows = [list(each.items()) for each in probabilities]
    else:
        rows = [list(each.values()) for each in probabilities]
    return orjson.dumps({call.member: rows}), [JSON]


# --- routes


def register(app: FastAPI, inference: Inference) -> None:
    """Add the routes of `/v1/models`."""
    repository, limits = inference.repository, inference.limits

    def choose(scope: Scope) -> tuple[str, int | str | None]:
        """The model and the version, or its label, in the path."""
        path: dict[str, str] = scope["path_params"]
        model, version, label = path["model"], path.get("version"), path.get("label")
        if version is not None and not (version.isascii() and version.isdigit()):
            raise _malformed(scope)
        if label is not None and label not in repository.aliases(model):
            raise InvalidInput(f"Unrecognized servable version label: {label}")
        return model, parse_version(version or label)

    def read_with(parse: Callable[[bytes, Limits], tuple[list[str], str]]) -> Any:
        def read(scope: Scope, body: bytes) -> ServingCall:
            model, version = choose(scope)
            texts, member = parse_calmly(body, partial(parse, body, limits))
            return ServingCall(texts, model, version, member)

        return read

    read_predict, read_classify = read_with(parse_predict), read_with(parse_classify)

    def predict(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """The probabilities of every text, by rows (`instances`) or by columns (`inputs`)."""
        return inference.answer(scope, receive, send, read_predict, write_serving)

    def classify(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """The labels of every example, with their probabilities."""
        return inference.answer(scope, receive, send, read_classify, write_serving)

    async def status(scope: Scope) -> dict[str, Any]:
        """The state of a version; of all versions of the model if none is named."""
        model, version = choose(scope)
        if isinstance(version, str):
            version = int(repository.aliases(model)[version])
        return describe_status(repository, model, version)

    async def metadata(scope: Scope) -> dict[str, Any]:
        """The signature of a version."""
        version = repository.find(*choose(scope))
        if version.manifest is None:
            raise NotReady("the model is being loaded")
        try:
            found = await asyncio.to_thread(_read_default, version.folder, version.digest)
        except UnusableVersion:
            found = _assume_default(len(version.manifest.labels))
        return describe_metadata(version, found)

    for base in (
        "/v1/models/{model}",
        "/v1/models/{model}/versions/{version}",
        "/v1/models/{model}/labels/{label}",
    ):
        for path, endpoint, requests, response in (
            (f"{base}:predict", predict, _PREDICT_REQUESTS, _PREDICTIONS),
            (f"{base}:classify", classify, _CLASSIFY_REQUESTS, _RESULTS),
        ):
            app.router.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                tags=[_TAG],
                responses={
                    200: {
                        "headers": {"Server-Timing": SERVER_TIMING_HEADER},
                        "content": document_json(response),
                    },
                    **document_errors(DIALECT, 400, 404, 408, 413, 415, 500, 503, 504),
                },
                openapi_extra={
                    "requestBody": {"required": True, "content": document_json(*requests)},
                    "parameters": [document_timeout(limits)],
                },
                route_class_override=AnyCaseRoute,
            )
        gets: tuple[tuple[str, Get, dict[str, Any]], ...] = (
            (base, status, _STATUS),
            (f"{base}/metadata", metadata, _METADATA),
        )
        for path, get, example in gets:
            app.router.add_api_route(
                path,
                answer_json(get),
                methods=["GET"],
                tags=[_TAG],
                responses={
                    200: {"content": document_json(example)},
                    **document_errors(DIALECT, 400, 404, 503),
                },
                route_class_override=AnyCaseRoute,
            )


def describe_status(repository: Repository, model: str, number: int | None) -> dict[str, Any]:
    """The states of the versions of a model, newest first.

    Args:
        repository: The versions.
        model: The model.
        number: The only version asked for; None for all.

    Raises:
        UnknownModel: There is none.
        NotReady: The repository has not been read yet.
    """
    if not repository.versions:
        raise NotReady(repository.waiting_for)
    versions = repository.versions.get(model, [])
    found = [each for each in versions if number in (None, each.number)]
    if not found:
        raise UnknownModel("there is no such model or version")
    in_effect = repository.plan is not None
    return {"model_version_status": [_describe_state(each, in_effect) for each in found]}


def _describe_state(version: Version, in_effect: bool) -> dict[str, Any]:
    """The state of a version; one that is loaded answers when all are, with the plan in effect."""
    state = version.state
    if state is State.READY and not in_effect:
        state = State.LOADING
    failed = state is State.REJECTED
    status = {
        "error_code": "FAILED_PRECONDITION" if failed else "OK",
        "error_message": version.reason if failed else "",
    }
    return {"version": str(version.number), "state": _STATES[state], "status": status}


@lru_cache(maxsize=64)
def _read_default(folder: Path, _digest: str) -> Signature:
    """The signature of a version; its digest tells it from another one in the same folder.

    Raises:
        UnusableVersion: Its folder has no SavedModel with it.
    """
    signatures = read_signatures(folder)
    if SIGNATURE not in signatures:
        raise UnusableVersion(f"the SavedModel must have {SIGNATURE}")
    return signatures[SIGNATURE]


def _assume_default(labels: int) -> Signature:
    """The signature that every exported SavedModel has, for a version that came without its own."""
    return Signature(
        {TEXT: Tensor(f"{SIGNATURE}_{TEXT}:0", _STRING, ((-1, ""),))},
        {"probabilities": Tensor("StatefulPartitionedCall:0", _FLOAT, ((-1, ""), (labels, "")))},
        "tensorflow/serving/predict",
    )


def describe_metadata(version: Version, signature: Signature) -> dict[str, Any]:
    """The metadata of a version: the signature that callers can use."""
    described = {
        "inputs": {key: _describe_tensor(each) for key, each in signature.inputs.items()},
        "outputs": {key: _describe_tensor(each) for key, each in signature.outputs.items()},
        "method_name": signature.method,
        "defaults": {},
    }
    spec = {"name": version.name, "signature_name": "", "version": str(version.number)}
    return {
        "model_spec": spec,
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: described}}},
    }


def _describe_tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "dtype": _TYPES.get(tensor.type, "DT_INVALID"),
        "tensor_shape": {
            "dim": [{"size": str(size), "name": name} for size, name in tensor.shape or ()],
            "unknown_rank": tensor.shape is None,
        },
        "name": tensor.name,
    }


_TAG: Final = "tensorflow serving"
_PREDICT_REQUESTS: Final = (
    {"instances": ["A warm, funny film.", {"text": "Two hours I will never get back."}]},
    {"signature_name": "serving_default", "inputs": {"text": ["A warm, funny film."]}},
)
_PREDICTIONS: Final = {"predictions": [[0.0213, 0.9787], [0.9512, 0.0488]]}
_CLASSIFY_REQUESTS: Final = ({"examples": [{"text": "A warm, funny film."}]},)
_RESULTS: Final = {"results": [[["negative", 0.0213], ["positive", 0.9787]]]}
_STATUS: Final = {
    "model_version_status": [
        {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]
}
_METADATA: Final = {
    "model_spec": {"name": "lstm", "signature_name": "", "version": "1"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {
                        "text": {
                            "dtype": "DT_STRING",
                            "tensor_shape": {
                                "dim": [{"size": "-1", "name": ""}],
                                "unknown_rank": False,
                            },
                            "name": "serving_default_text:0",
                        }
                    },
                    "outputs": {
                        "probabilities": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {
                                "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
                                "unknown_rank": False,
                            },
                            "name": "StatefulPartitionedCall:0",
                        }
                    },
                    "method_name": "tensorflow/serving/predict",
                    "defaults": {},
                }
            }
        }
    },
}
