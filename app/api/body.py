"""The request body of `POST /predict`, parsed by hand, and the limits of a request.

It is parsed by hand because each text of a list may fail alone, and because this is the route
that must be fast. `app.api.schemas` documents the same body; a test compares the fields of both.
"""

import json
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Never, TypeVar

from app.errors import BodiesFull, InvalidInput, NotJSON, TooLarge
from app.gc_tuning import gc_paused
from app.serving.plan import ALIAS_PATTERN

T = TypeVar("T")

FIELDS: Final = frozenset({"text", "texts", "model", "version", "explain"})
"""The fields of the body."""

SMALL_BODY_BYTES: Final = 64 * 1024
"""Larger bodies are parsed without garbage collections, and take an eighth less of the memory."""
MAX_EXPLAINED_TEXTS: Final = 16
"""Texts of one request with `explain`: each takes the model as long as some dozens."""
_MAX_TIMEOUT_DIGITS: Final = 9
"""Nine digits of milliseconds are 11 days; more are out of range without being parsed."""
_MAX_VERSION_DIGITS: Final = 18
_ALIAS: Final = re.compile(ALIAS_PATTERN)
_JSON_TYPES: Final = (
    *((str, "a string"), (bool, "a boolean"), (int, "a number"), (float, "a number")),
    *((list, "a list"), (tuple, "an object")),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request.

    Attributes:
        max_text_chars: Characters of one text.
        max_texts: Texts of one request.
        max_body_bytes: Bytes of the body.
        request_timeout_ms: The longest deadline, and the default one.
    """

    max_text_chars: int
    max_texts: int
    max_body_bytes: int
    request_timeout_ms: int


class Bodies:
    """The bytes of all bodies in flight in a process, and their limit.

    What counts has been received: a length that is only announced costs a client nothing, and must
    not keep others out. An eighth of the limit is for small bodies alone, so that single texts are
    answered while large lists are refused.

    Args:
        limit: In bytes.
        on_large_end: Called when a request with a large body has ended, however it did.

    Attributes:
        received: The bytes of all bodies, from their arrival to the end of their requests.
        limit_of_large: Up to so many bytes there is room for any body.
    """

    __slots__ = ("_limit", "_on_large_end", "limit_of_large", "received")

    def __init__(self, limit: int, on_large_end: Callable[[], None] = lambda: None) -> None:
        self.received = 0
        self._on_large_end = on_large_end
        self._limit = limit
        self.limit_of_large = limit - limit // 8

    def release(self, body_bytes: int) -> None:
        """A request with so many bytes has ended."""
        self.received -= body_bytes
        if body_bytes > SMALL_BODY_BYTES:
            self._on_large_end()

    def require(self, count: int, body_bytes: int) -> None:
        """Check that there is room for so many more bytes of a body.

        Args:
            count: The bytes that come now.
            body_bytes: The bytes of the whole body, as far as known.

        Raises:
            BodiesFull: There is none.
        """
        limit = self._limit if body_bytes <= SMALL_BODY_BYTES else self.limit_of_large
        if self.received + count > limit:
            raise BodiesFull(
                f"all bodies in flight together must have at most {self._limit} bytes, bodies over "
                f"{SMALL_BODY_BYTES} bytes at most {self.limit_of_large} of them"
            )


@dataclass(slots=True)  # not frozen: a frozen one takes three times as long to create
class PredictCall:
    """A parsed body.

    Attributes:
        texts: The valid texts, in order.
        invalid: The error of each invalid text, by its position in the request.
        single: Whether the body has `text` rather than `texts`.
        model: None for the default model.
        version: A number or an alias; None for the version that answers by default.
        timeout_s: None: the deadline is that of the header.
        explain: Whether the answer says how much each word contributed.
    """

    texts: list[str]
    invalid: dict[int, InvalidInput]
    single: bool
    model: str | None
    version: int | str | None
    timeout_s: float | None = None
    explain: bool = False


def parse_predict(body: bytes, limits: Limits) -> PredictCall:
    """Parse the body of `POST /predict`.

    A text that breaks a rule of its own fails alone, if it is one of a list. A non-string item
    rejects the whole request.

    Raises:
        NotJSON: The body is not JSON.
        InvalidInput: A field is wrong. The message names the field and the rule.
        TooLarge: The text, or the list of texts, is over its limit.
    """
    return parse_calmly(
        body, lambda: parse_fields(read_object(parse_json(body), "the body"), limits)
    )


def parse_calmly(body: bytes, parse: Callable[[], T]) -> T:
    """Parse a body, without garbage collections if it is large."""
    if len(body) <= SMALL_BODY_BYTES:
        return parse()
    with gc_paused():  # a large body can hold millions of tiny lists
        try:
            return parse()
        except InvalidInput as error:
            # The frames of the traceback hold the parsed body. Without them it is freed here,
            # before the collector runs again.
            raise error.with_traceback(None) from None


def parse_json(body: bytes) -> Any:
    """Parse JSON in UTF-8. NaN and Infinity, which Python's parser accepts, are rejected.

    An object is returned as a tuple of its pairs: a dict would hide that a field is there twice,
    of which another program on the way may have read the other one.

    Raises:
        NotJSON: It is not JSON in UTF-8, is nested too deeply, or has a number that is too long.
    """
    if not body:
        raise NotJSON('the body must be JSON, as in {"text": "..."}; it is empty')
    try:
        # Some editors, and libraries of .NET, begin UTF-8 with a byte order mark.
        return _decode(body.decode("utf-8-sig" if body.startswith(BOM_UTF8) else "utf-8"))
    except json.JSONDecodeError as error:
        raise NotJSON(f"the body must be JSON; invalid at character {error.pos + 1}") from None
    except UnicodeDecodeError as error:
        raise NotJSON(f"the body must be UTF-8; invalid at byte {error.start + 1}") from None
    except ValueError:  # NaN, Infinity, an integer of thousands of digits
        digits = sys.get_int_max_str_digits()
        raise NotJSON(
            f"the body must be JSON; a number must be finite and have at most {digits} digits"
        ) from None
    except RecursionError:
        raise NotJSON(
            "the body must be JSON, an object with at most a list of texts in it; it is nested too "
            "deeply"
        ) from None


def check_text(text: str, field: str, limits: Limits) -> InvalidInput | None:
    """The error of an invalid text; None if it is valid. The message never quotes the text."""
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


def parse_timeout_s(header: bytes | None, limits: Limits) -> float:
    """Seconds until the deadline, from `X-Request-Timeout-Ms` or the default.

    Raises:
        InvalidInput: The header is not a whole number from 1 to the longest deadline.
    """
    if header is None:
        return limits.request_timeout_ms / 1e3
    is_number = header.isdigit() and len(header) <= _MAX_TIMEOUT_DIGITS
    milliseconds = int(header) if is_number else 0
    if not 1 <= milliseconds <= limits.request_timeout_ms:
        raise InvalidInput(
            f"X-Request-Timeout-Ms must be a whole number from 1 to {limits.request_timeout_ms}"
        )
    return milliseconds / 1e3


def read_object(value: Any, name: str) -> dict[str, Any]:
    """An object that `parse_json` returned, as a dict.

    Raises:
        InvalidInput: It is no object, or has a field twice.
    """
    if not isinstance(value, tuple):
        raise InvalidInput(f"{name} must be an object. Received: {json_type(value)}")
    content = dict(value)
    if len(content) < len(value):
        raise InvalidInput(f"{name} must have each field once")
    return content


def require_string(value: Any, field: str) -> None:
    """Check the type of a field.

    Raises:
        InvalidInput: It is another one.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string. Received: {json_type(value)}")


def parse_model(model: Any) -> str | None:
    """The name of a model; None for the default model.

    Raises:
        InvalidInput: It is no string.
    """
    if model is not None:
        require_string(model, "model")
    name: str | None = model
    return name


def parse_version(version: Any) -> int | str | None:
    """The version as a number, or an alias; a string of digits is a number too.

    Raises:
        InvalidInput: It is neither.
    """
    is_digits = isinstance(version, str) and version.isascii() and version.isdigit()
    if is_digits and len(version) <= _MAX_VERSION_DIGITS:
        version = int(version)
    if version is None or (isinstance(version, int) and not isinstance(version, bool)):
        return version
    if isinstance(version, str) and _ALIAS.fullmatch(version):
        return version
    raise InvalidInput(
        f"version must be a whole number of at most {_MAX_VERSION_DIGITS} digits, or an alias"
    )


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    return next((name for cls, name in _JSON_TYPES if isinstance(value, cls)), "null")


def _reject_constant(name: str) -> Never:
    raise ValueError(name)


_decode = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_reject_constant).decode


def parse_fields(content: dict[str, Any], limits: Limits) -> PredictCall:
    """As `parse_predict`, for a body that was read as an object."""
    if not FIELDS.issuperset(content):
        others = len(content.keys() - FIELDS)
        raise InvalidInput(
            "the body must have text or texts, model, version and explain only. "
            f"Received: {others} more"
        )
    if ("text" in content) == ("texts" in content):
        raise InvalidInput("the body must have either text or texts")
    model = parse_model(content.get("model"))
    version = parse_version(content.get("version"))
    explain = _parse_explain(content.get("explain"))
    if "text" in content:
        text = content["text"]
        require_string(text, "text")
        if error := check_text(text, "text", limits):
            raise error
        return PredictCall([text], {}, True, model, version, explain=explain)
    texts, invalid = _parse_texts(content["texts"], limits)
    if explain and len(texts) > MAX_EXPLAINED_TEXTS:
        raise TooLarge(
            f"texts must have at most {MAX_EXPLAINED_TEXTS} texts with explain. "
            f"Received: {len(texts)}"
        )
    return PredictCall(texts, invalid, False, model, version, explain=explain)


def _parse_explain(explain: Any) -> bool:
    if explain is not None and not isinstance(explain, bool):
        raise InvalidInput(f"explain must be true or false. Received: {json_type(explain)}")
    return bool(explain)


def _parse_texts(texts: Any, limits: Limits) -> tuple[list[str], dict[int, InvalidInput]]:
    """Split a list into its valid texts and the errors of the others."""
    if not isinstance(texts, list):
        raise InvalidInput(f"texts must be a list. Received: {json_type(texts)}")
    if not texts:
        raise InvalidInput("texts must have at least one text")
    if len(texts) > limits.max_texts:
        raise TooLarge(f"texts must have at most {limits.max_texts} texts. Received: {len(texts)}")
    valid: list[str] = []
    invalid: dict[int, InvalidInput] = {}
    for index, text in enumerate(texts):
        require_string(text, f"texts[{index}]")
        if error := check_text(text, "text", limits):
            invalid[index] = error
        else:
            valid.append(text)
    return valid, invalid
