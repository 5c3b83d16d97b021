import contextlib
import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import schemas
from app.api.schemas import Limits, PredictRequest, check_text, read_json, read_predict
from app.errors import InvalidInput, NotJSON, TooLarge

LIMITS = Limits(max_text_chars=50, max_texts=5, max_body_bytes=10_000, request_timeout_ms=1000)

# Surrogates too: "\ud800" is legal in JSON.
texts = st.text(st.characters(codec=None), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["text", "texts", "model", "version", "other"])
bodies = st.dictionaries(fields, values | st.lists(texts, max_size=7), max_size=4)


def test_documented_fields_are_the_ones_that_are_read() -> None:
    """The documented body and the one that is read have the same fields."""
    assert set(PredictRequest.model_fields) == schemas._FIELDS


@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    """Whatever the bytes, they are JSON or refused as none."""
    with contextlib.suppress(NotJSON):
        read_json(body)


@pytest.mark.parametrize("texts", [b"[]", b"{}"])
def test_large_body_of_tiny_parts(texts: bytes) -> None:
    """The garbage collector does not walk over a large body while it is read, nor afterwards."""
    rounds: list[str] = []

    def note(phase: str, _details: dict[str, int]) -> None:
        rounds.append(phase)

    body = b'{"texts":[' + b",".join([texts] * 300_000) + b"]}"
    gc.collect()
    gc.callbacks.append(note)
    try:
        with pytest.raises(TooLarge):
            read_predict(body, LIMITS)
        noted = len(rounds)
    finally:
        gc.callbacks.remove(note)
    assert (noted, gc.isenabled()) == (0, True)


@given(bodies | values)
def test_any_body(body: Any) -> None:
    """Whatever the body, it is a call that keeps the limits, or a field of it is wrong."""
    try:
        call = read_predict(json.dumps(body).encode(), LIMITS)
    except InvalidInput:
        return
    assert 1 <= len(call.texts) + len(call.refused) <= LIMITS.max_texts
    for text in call.texts:
        assert 1 <= len(text.encode()) <= 4 * LIMITS.max_text_chars
        assert text.strip()
        assert "\0" not in text


@given(st.text(alphabet="\u2603\ud800\0 ", min_size=1, max_size=60))
def test_no_text_in_a_message(text: str) -> None:
    """A message about a text never repeats any of it."""
    if error := check_text(text, "text", LIMITS):
        assert str(error).isascii()


@pytest.mark.parametrize("space", [" ", "\t\r\n", "\u3000\u2028", "\x1c", "\u00a0"])
def test_white_space_of_every_kind(space: str) -> None:
    """A text of white space alone, in whatever script, is empty."""
    assert check_text(space, "text", LIMITS) is not None


def test_place_is_counted_from_one() -> None:
    """The first character of a text is character 1."""
    assert "character 1" in str(check_text("\0", "text", LIMITS))
    assert "character 3" in str(check_text("é \udfff", "text", LIMITS))


def test_bidirectional_and_private_characters_are_text() -> None:
    """Characters that are odd but legal are taken: the model calls them unknown."""
    assert check_text("\u202e\ue000\U0010ffff\x07", "text", LIMITS) is None
