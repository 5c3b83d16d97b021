"""Text classification as Hugging Face's clients ask for it: `POST /predict` with `inputs`.

The shape of text-embeddings-inference and of the Inference API. The two read a list of two strings
differently: as a pair of texts, and as two texts. It is two texts here.
"""

from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.types import Scope

from app.api.body import (
    Limits,
    check_text,
    json_type,
    parse_model,
    parse_version,
    read_object,
    require_string,
)
from app.api.dialects import Dialect
from app.api.inference import JSON, Header, require_all
from app.errors import InvalidInput, TooLarge
from app.serving.predictor import Prediction, Result
from app.serving.repository import Version

INPUTS: Final = "inputs"
"""The field that tells this body from the native one."""
FIELDS: Final = frozenset({INPUTS, "parameters", "raw_scores", "truncate", "model", "version"})

_PARAMETERS: Final = frozenset({"top_k", "function_to_apply"})
_ERROR_TYPES: Final = {
    **dict.fromkeys(("queue-full", "too-late", "rate-limit"), "Overloaded"),
    **dict.fromkeys(("not-ready", "draining", "bodies-full"), "Unhealthy"),
    **dict.fromkeys(("inference-failed", "internal", "deadline-exceeded"), "Backend"),
}


def describe_error(_scope: Scope, slug: str, detail: str) -> dict[str, Any]:
    """The JSON object of an error."""
    return {"error": detail, "error_type": _ERROR_TYPES.get(slug, "Validation")}


DIALECT: Final = Dialect(describe_error, {})


@dataclass(slots=True)
class ClassifyCall:
    """A parsed body.

    Attributes:
        texts: At least one.
        single: Whether `inputs` is one text rather than a list.
        top_k: So many labels are returned; None for all.
        may_truncate: Whether a text may be longer than the model reads.
        model: None for the default model.
        version: A number or an alias; None for the version that answers by default.
        timeout_s: None: the deadline is that of the header.
        explain: False, as in every call but the native one.
    """

    texts: list[str]
    single: bool
    top_k: int | None
    may_truncate: bool
    model: str | None
    version: int | str | None
    timeout_s: float | None = None
    explain: bool = False


def parse_classify(content: dict[str, Any], limits: Limits) -> ClassifyCall:
    """Parse a body with `inputs`.

    Raises:
        InvalidInput: A field is wrong, or asks for what the service cannot do.
        TooLarge: A text, or the number of texts, is over its limit.
    """
    if not FIELDS.issuperset(content):
        others = len(content.keys() - FIELDS)
        raise InvalidInput(
            "the body must have inputs, parameters, raw_scores, truncate, model and version only. "
            f"Received: {others} more"
        )
    if content.get("raw_scores"):
        raise InvalidInput("raw_scores must be false: the scores are probabilities")
    truncate = content.get("truncate")
    if truncate not in (None, True, False):
        raise InvalidInput(f"truncate must be a boolean. Received: {json_type(truncate)}")
    texts, single = _read_inputs(content[INPUTS], limits)
    return ClassifyCall(
        texts,
        single,
        _read_top_k(content.get("parameters")),
        truncate is not False,
        parse_model(content.get("model")),
        parse_version(content.get("version")),
    )


def _read_inputs(inputs: Any, limits: Limits) -> tuple[list[str], bool]:
    """The texts, and whether it is one that is not in a list."""
    if isinstance(inputs, str):
        if error := check_text(inputs, INPUTS, limits):
            raise error
        return [inputs], True
    if not isinstance(inputs, list):
        raise InvalidInput(f"inputs must be a string or a list. Received: {json_type(inputs)}")
    if not inputs:
        raise InvalidInput("inputs must have at least one text")
    if len(inputs) > limits.max_texts:
        raise TooLarge(
            f"inputs must have at most {limits.max_texts} texts. Received: {len(inputs)}"
        )
    texts = []
    for index, each in enumerate(inputs):
        text, name = each, f"inputs[{index}]"
        if isinstance(text, list):
            if len(text) != 1:
                raise InvalidInput(f"{name} must be one text: pairs are not classified")
            text = text[0]
        require_string(text, name)
        if error := check_text(text, name, limits):
            raise error
        texts.append(text)
    return texts, False


def _read_top_k(parameters: Any) -> int | None:
    """How many labels are asked for; checks the other parameters."""
    if parameters is None:
        return None
    content = read_object(parameters, "parameters")
    if not _PARAMETERS.issuperset(content):
        raise InvalidInput("parameters must have top_k and function_to_apply only")
    if content.get("function_to_apply") not in (None, "softmax"):
        raise InvalidInput("function_to_apply must be softmax: the scores are probabilities")
    top_k: int | None = content.get("top_k")
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise InvalidInput("top_k must be a whole number from 1")
    return top_k


def write_classes(
    _version: Version, call: ClassifyCall, result: Result
) -> tuple[bytes, list[Header]]:
    """The body of the response, and its headers.

    Raises:
        ValenceError: The model has failed on a text, or may not truncate it.
    """
    predictions = require_all(result)
    if not call.may_truncate and any(each.truncated for each in predictions):
        raise TooLarge("inputs must be no longer than the model reads if truncate is false")
    rows = [_rank(each)[: call.top_k] for each in predictions]
    return orjson.dumps(rows[0] if call.single else rows), [JSON]


def _rank(prediction: Prediction) -> list[dict[str, Any]]:
    """The labels of a text with their scores, best first; of equal ones its label is the first."""
    label = prediction.label
    ranked = sorted(prediction.probabilities.items(), key=lambda each: (-each[1], each[0] != label))
    return [{"label": label, "score": score} for label, score in ranked]
