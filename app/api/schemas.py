"""Request and response bodies, limits included.

The models document and shape what goes over the wire. `POST /predict` is read by hand, because
each text of a list may fail alone and because it is the one route that must be fast; a test holds
`read_predict` and `PredictRequest` to the same fields.
"""

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Never

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput, NotJSON, TooLarge

_SHOWN_CHARS: Final = 40
_LARGE_BODY_BYTES: Final = 64 * 1024
_FIELDS: Final = frozenset({"text", "texts", "model", "version"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a request may ask for.

    Attributes:
        max_text_chars: Characters of one text.
        max_texts: Texts of one request.
        max_body_bytes: Of one body.
        request_timeout_ms: The longest deadline, and the deadline when none is asked for.
    """

    max_text_chars: int
    max_texts: int
    max_body_bytes: int
    request_timeout_ms: int


@dataclass(slots=True)  # not frozen: that triples the time to make one
class PredictCall:
    """What a body asks for.

    Attributes:
        texts: The texts that follow the rules, in order.
        refused: The others: their position in the request, and the rule they break.
        single: Whether the body has `text`, not `texts`.
        model: None for the default.
        version: None for the newest.
    """

    texts: list[str]
    refused: dict[int, InvalidInput]
    single: bool
    model: str | None
    version: int | None


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)


# Python's reader takes NaN and Infinity, which are not JSON.
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def read_json(body: bytes) -> Any:
    """Parse a body.

    Raises:
        NotJSON: It is not JSON in UTF-8, or nested or long-winded beyond what can be read.
    """
    if not body:
        raise NotJSON('the body must be JSON, as in {"text": "..."}; it is empty')
    try:
        return _decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise NotJSON(
            f"the body must be JSON; it stops being so at character {error.pos + 1}"
        ) from None
    except UnicodeDecodeError as error:
        raise NotJSON(
            f"the body must be UTF-8; it stops being so at byte {error.start + 1}"
        ) from None
    except ValueError:  # NaN, Infinity, integers of thousands of digits
        raise NotJSON("the body must be JSON; it has a number that cannot be read") from None
    except RecursionError:
        raise NotJSON("the body must be JSON; it is nested too deeply") from None


def read_predict(body: bytes, limits: Limits) -> PredictCall:
    """Read the body of `POST /predict`.

    Raises:
        NotJSON: The body is not JSON.
        InvalidInput: A field is wrong. The message names the field and the rule.
        TooLarge: The text, or the list of texts, is over its limit.
    """
    if len(body) <= _LARGE_BODY_BYTES:
        return _read_predict(body, limits)
    # A body can hold millions of tiny lists. Each few hundred of them would make the collector
    # walk over all that are there already.
    gc.disable()
    try:
        return _read_predict(body, limits)
    except InvalidInput as error:
        # Its frames hold what was parsed; that is to be gone before the collector is back.
        raise error.with_traceback(None) from None
    finally:
        gc.enable()


def _read_predict(body: bytes, limits: Limits) -> PredictCall:
    content = read_json(body)
    if not isinstance(content, dict):
        raise InvalidInput(f"the body must be an object. Received: {_type_name(content)}")
    for field in content:
        if field not in _FIELDS:
            raise InvalidInput(
                f"the body must have no field {field[:_SHOWN_CHARS]!a}; it takes text or texts, "
                "model, version"
            )
    if ("text" in content) == ("texts" in content):
        raise InvalidInput("the body must have either text or texts")
    model = _read_model(content.get("model"))
    version = _read_version(content.get("version"))
    if "text" in content:
        text = content["text"]
        _require_string(text, "text")
        if error := check_text(text, "text", limits):
            raise error
        return PredictCall([text], {}, True, model, version)
    texts, refused = _read_texts(content["texts"], limits)
    return PredictCall(texts, refused, False, model, version)


def check_text(text: str, field: str, limits: Limits) -> InvalidInput | None:
    """The rule that a text breaks, if any. The message never repeats any of the text."""
    if not text or text.isspace():
        return InvalidInput(f"{field} must have a character other than white space")
    if len(text) > limits.max_text_chars:
        return TooLarge(
            f"{field} must have at most {limits.max_text_chars} characters. Received: {len(text)}"
        )
    if "\0" in text:
        place = text.index("\0") + 1
        return InvalidInput(f"{field} must not contain NUL (U+0000); found at character {place}")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            place = error.start + 1
            return InvalidInput(
                f"{field} must not contain a lone surrogate; found at character {place}"
            )
    return None


def read_timeout_s(header: bytes | None, limits: Limits) -> float:
    """Seconds a request may take: as `X-Request-Timeout-Ms` asks, else as set.

    Raises:
        InvalidInput: The header is no whole number from 1 to the setting.
    """
    if header is None:
        return limits.request_timeout_ms / 1e3
    # Nine digits are 11 days; more need not be parsed to be refused.
    milliseconds = int(header) if header.isdigit() and len(header) <= 9 else 0
    if not 1 <= milliseconds <= limits.request_timeout_ms:
        raise InvalidInput(
            f"X-Request-Timeout-Ms must be a whole number from 1 to {limits.request_timeout_ms}"
        )
    return milliseconds / 1e3


def _read_texts(texts: Any, limits: Limits) -> tuple[list[str], dict[int, InvalidInput]]:
    if not isinstance(texts, list):
        raise InvalidInput(f"texts must be a list. Received: {_type_name(texts)}")
    if not texts:
        raise InvalidInput("texts must have at least one text")
    if len(texts) > limits.max_texts:
        raise TooLarge(f"texts must have at most {limits.max_texts} texts. Received: {len(texts)}")
    good: list[str] = []
    refused: dict[int, InvalidInput] = {}
    for index, text in enumerate(texts):
        _require_string(text, f"texts[{index}]")
        if error := check_text(text, "text", limits):
            refused[index] = error
        else:
            good.append(text)
    return good, refused


def _read_model(model: Any) -> str | None:
    if model is not None:
        _require_string(model, "model")
    chosen: str | None = model
    return chosen


def _read_version(version: Any) -> int | None:
    if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 19:
        version = int(version)
    if version is None or (isinstance(version, int) and not isinstance(version, bool)):
        return version
    raise InvalidInput("version must be a whole number")


def _require_string(value: Any, field: str) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string. Received: {_type_name(value)}")


def _type_name(value: Any) -> str:
    """What JSON calls the type of a value."""
    names: Sequence[tuple[type, str]] = (
        *((str, "a string"), (bool, "a boolean"), (int, "a number"), (float, "a number")),
        *((list, "a list"), (dict, "an object")),
    )
    return next((name for cls, name in names if isinstance(value, cls)), "null")


class _Body(BaseModel):
    """Of the wire: nothing is in it that is not declared."""

    model_config = ConfigDict(extra="forbid")


class PredictRequest(_Body):
    """One text or several, and who should answer. Exactly one of `text` and `texts`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "A warm, funny film that I will happily watch again."},
                {
                    "texts": ["A warm, funny film.", "Two hours I will never get back."],
                    "model": "lstm",
                },
            ],
            "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
        }
    )

    text: str = Field(default_factory=str, min_length=1, description="One text.")
    texts: list[str] = Field(
        default_factory=list,
        min_length=1,
        description="Several texts. One that breaks a rule fails alone, in its place.",
    )
    model: str | None = Field(default=None, description="Default: the default model.")
    version: int | str | None = Field(default=None, description="Default: the newest ready one.")


class ItemProblem(_Body):
    """Why one text of a list was not answered."""

    type: str
    title: str
    status: int
    detail: str


class Problem(_Body):
    """Problem details (RFC 9457). The detail names the field and the rule, never the text."""

    type: str = Field(description="A URI that names the kind of problem.")
    title: str
    status: int
    detail: str
    request_id: str = Field(description="As in the header X-Request-ID.")


class TextPrediction(_Body):
    """The answer to one text."""

    label: str = Field(description="The most probable label.")
    probabilities: dict[str, float] = Field(description="Of every label; they sum to 1.")
    tokens: int = Field(description="Words and ! ? of the whole text.")
    truncated: bool = Field(description="Whether the model read only part of the text.")


class TextFailure(_Body):
    """Stands where the answer to a text would be."""

    error: ItemProblem


_EXAMPLE_PREDICTION: Final[dict[str, Any]] = {
    "label": "positive",
    "probabilities": {"negative": 0.0213, "positive": 0.9787},
    "tokens": 10,
    "truncated": False,
}


class PredictAnswer(TextPrediction):
    """The answer to `text`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "lstm", "version": 1, **_EXAMPLE_PREDICTION}]}
    )

    model: str
    version: int


class PredictAnswers(_Body):
    """The answers to `texts`, in the order asked."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "lstm",
                    "version": 1,
                    "predictions": [
                        _EXAMPLE_PREDICTION,
                        {
                            "error": {
                                "type": "urn:valence:problem:invalid-input",
                                "title": "A field is wrong",
                                "status": 422,
                                "detail": "text must have a character other than white space",
                            }
                        },
                    ],
                }
            ]
        }
    )

    model: str
    version: int
    predictions: list[TextPrediction | TextFailure]


class VersionSummary(_Body):
    """One version and what became of it."""

    version: int
    state: str = Field(description="waiting, loading, ready or refused")
    reason: str | None = Field(default=None, description="Why it was refused.")
    engine: str | None = Field(default=None, description="What runs it, once it is ready.")
    labels: list[str] | None = Field(default=None, description="In the order of the outputs.")


class ModelSummary(_Body):
    """One model and its versions, the newest first."""

    name: str
    default: bool = Field(description="Whether it answers when no model is named.")
    versions: list[VersionSummary]


_EXAMPLE_MODEL: Final[dict[str, Any]] = {
    "name": "lstm",
    "default": True,
    "versions": [
        {
            "version": 1,
            "state": "ready",
            "engine": "tensorflow",
            "labels": ["negative", "positive"],
        }
    ],
}


class ModelList(_Body):
    """What is in the repository."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"default": "lstm", "models": [_EXAMPLE_MODEL]}]}
    )

    default: str | None
    models: list[ModelSummary]


class Calibration(_Body):
    """How the probabilities were fitted to frequencies."""

    temperature: float = Field(description="Divides the logits inside the model.")


class ModelCard(_Body):
    """What a version learned from, how well, and what it is not good for."""

    version: int
    architecture: str
    created: str
    data: dict[str, Any]
    metrics: dict[str, dict[str, dict[str, float]]]
    calibration: Calibration
    limits: list[str]


class ModelDetail(ModelSummary):
    """One model with the card of the version that answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE_MODEL,
                    "card": {
                        "version": 1,
                        "architecture": "lstm",
                        "created": "2026-01-31T12:00:00+00:00",
                        "data": {"name": "imdb", "counts": {"train": 22500, "test": 25000}},
                        "metrics": {"test": {"tensorflow": {"accuracy": 0.89}}},
                        "calibration": {"temperature": 1.1},
                        "limits": ["Trained on English film reviews."],
                    },
                }
            ]
        }
    )

    card: ModelCard | None = Field(description="Of the newest ready version; null when none is.")


class Readiness(_Body):
    """Whether traffic may come."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"ready": True, "phase": "ready", "reason": None, "workers": ["ready", "ready"]},
                {
                    "ready": False,
                    "phase": "warming",
                    "reason": "the models are being loaded",
                    "workers": ["ready", "warming"],
                },
            ]
        }
    )

    ready: bool
    phase: str
    reason: str | None = None
    workers: list[str] | None = Field(
        default=None, description="The phase of each worker, where there are several."
    )


class Liveness(_Body):
    """The event loop turns."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True}]})

    live: bool = True
