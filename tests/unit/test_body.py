"""Parsing of request bodies, and the rules for texts."""

import contextlib
import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import body
from app.api.body import Limits, check_text, parse_json, parse_predict
from app.api.schemas import PredictRequest
from app.errors import InvalidInput, NotJSON, TooLarge

LIMITS = Limits(max_text_chars=50, max_texts=5, max_body_bytes=10_000, request_timeout_ms=1000)

# Surrogates too: "\ud800" is valid JSON.
texts = st.text(st.characters(codec=None), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["text", "texts", "model", "version", "other"])
bodies = st.dictionaries(fields, values | st.lists(texts, max_size=7), max_size=4)


def test_documented_fields_are_the_parsed_fields() -> None:
    """The documented body and the parsed body have the same fields."""
    assert set(PredictRequest.model_fields) == body.FIELDS


@given(st.binary(max_size=60))
def test_any_bytes(content: bytes) -> None:
    """Any bytes are parsed as JSON or rejected with `NotJSON`."""
    with contextlib.suppress(NotJSON):
        parse_json(content)


@pytest.mark.parametrize("texts", [b"[]", b"{}"])
def test_large_body_of_tiny_parts(texts: bytes) -> None:
    """The garbage collector does not run over a large body, neither during parsing nor after."""
    collections: list[str] = []

    def note(phase: str, _details: dict[str, int]) -> None:
        collections.append(phase)

    content = b'{"texts":[' + b",".join([texts] * 300_000) + b"]}"
    gc.collect()
    gc.callbacks.append(note)
    try:
        with pytest.raises(TooLarge):
            parse_predict(content, LIMITS)
        noted = len(collections)
    finally:
        gc.callbacks.remove(note)
    assert (noted, gc.isenabled()) == (0, True)


@given(bodies | values)
def test_any_body(content: Any) -> None:
    """Any JSON is either a call within the limits or rejected with `InvalidInput`."""
    try:
        call = parse_predict(json.dumps(content).encode(), LIMITS)
    except InvalidInput:
        return
    assert 1 <= len(call.texts) + len(call.invalid) <= LIMITS.max_texts
    for text in call.texts:
        assert 1 <= len(text.encode()) <= 4 * LIMITS.max_text_chars
        assert text.strip()
        assert "\0" not in text


@given(st.text(alphabet="\u2603\ud800\0 ", min_size=1, max_size=60))
def test_no_text_in_a_message(text: str) -> None:
    """An error message never quotes the text."""
    if error := check_text(text, "text", LIMITS):
        assert str(error).isascii()


@pytest.mark.parametrize("space", [" ", "\t\r\n", "\u3000\u2028", "\x1c", "\u00a0"])
def test_white_space_of_every_kind(space: str) -> None:
    """A text of Unicode white space alone is invalid."""
    assert check_text(space, "text", LIMITS) is not None


def test_characters_are_counted_from_one() -> None:
    """The first character of a text is character 1."""
    assert "character 1" in str(check_text("\0", "text", LIMITS))
    assert "character 3" in str(check_text("é \udfff", "text", LIMITS))


def test_unusual_characters_are_valid() -> None:
    """Bidirectional, private-use and control characters are valid: the model ignores them."""
    assert check_text("\u202e\ue000\U0010ffff\x07", "text", LIMITS) is None
