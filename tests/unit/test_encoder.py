"""Texts to ids, and the file that carries the rules."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, UnusableVersion
from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN, Vocabulary

CONFIG = TextConfig(max_length=6, head=2)
WORDS = Vocabulary(["a", "b", "c", "d", "e", "f", "g"])
encoder = TextEncoder(CONFIG, WORDS)


def words(ids: object) -> str:
    """The ids as letters, for reading."""
    return "".join(WORDS.words[i - FIRST_WORD] if i >= FIRST_WORD else "." for i in list(ids))  # type: ignore[call-overload]


def test_a_text_that_fits() -> None:
    """A row opens with the begin id and holds every token; what is unknown is counted."""
    encoded = encoder.encode("A, b? zebra")
    assert encoded.ids.tolist() == [BEGIN, FIRST_WORD, FIRST_WORD + 1, UNKNOWN, UNKNOWN]
    assert (encoded.tokens, encoded.unknown, encoded.truncated) == (4, 2, False)


def test_head_and_tail() -> None:
    """Of a long text the first `head` tokens and the end are kept, as many as fit."""
    encoded = encoder.encode("a b c d e f g")
    assert words(encoded.ids[1:]) == "abefg"
    assert (encoded.tokens, encoded.truncated) == (7, True)


def test_a_text_of_just_the_limit_is_whole() -> None:
    """`max_length` counts the begin id, and a text that fills it is not truncated."""
    encoded = encoder.encode("a b c d e")
    assert words(encoded.ids[1:]) == "abcde"
    assert not encoded.truncated


def test_head_alone() -> None:
    """Without room for a tail the end is cut off."""
    cut = TextEncoder(TextConfig(max_length=3, head=2), WORDS)
    assert words(cut.encode("a b c d").ids[1:]) == "ab"


@given(st.text())
def test_any_text_gives_a_row(text: str) -> None:
    """Whatever the text, there are 1 to `max_length` ids and the first is the begin id."""
    ids = encoder.encode(text).ids
    assert 1 <= len(ids) <= CONFIG.max_length
    assert ids[0] == BEGIN


@pytest.mark.parametrize(("max_length", "head"), [(1, 0), (5, -1), (5, 5)])
def test_config_bounds(max_length: int, head: int) -> None:
    """Lengths that leave no room are refused."""
    with pytest.raises(InvalidInput, match="Received"):
        TextConfig(max_length=max_length, head=head)


def test_save_and_load(tmp_path: Path) -> None:
    """An encoder read back has the same fingerprint and gives the same ids."""
    encoder.save(tmp_path / "tokenizer.json")
    loaded = TextEncoder.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint() == encoder.fingerprint()
    text = "A\u2019s <b>b</b>"
    assert loaded.encode(text).ids.tolist() == encoder.encode(text).ids.tolist()


@pytest.mark.parametrize(
    "other",
    [
        TextEncoder(replace(CONFIG, head=1), WORDS),
        TextEncoder(replace(CONFIG, max_length=7), WORDS),
        TextEncoder(replace(CONFIG, pattern="[a-z]+"), WORDS),
        TextEncoder(replace(CONFIG, rewrites=()), WORDS),
        TextEncoder(CONFIG, Vocabulary(["b", "a", "c", "d", "e", "f", "g"])),
    ],
    ids=["head", "max_length", "pattern", "rewrites", "order of words"],
)
def test_fingerprint(other: TextEncoder) -> None:
    """Whatever changes ids changes the fingerprint."""
    assert other.fingerprint() != encoder.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 9}, "schema_version must be 1. Received: 9"),
        ({"rules_version": 0}, "rules_version must be 1. Received: 0"),
        ({"head": 99}, "head must be"),
        ({"pattern": None}, "not a tokenizer"),
        ({"words": ["a", "a"]}, "must be unique"),
    ],
)
def test_a_wrong_file(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """A file of other rules, or with values out of bounds, is no tokenizer."""
    path = tmp_path / "tokenizer.json"
    encoder.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnusableVersion, match=message):
        TextEncoder.load(path)


def test_no_file(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(UnusableVersion, match=r"tokenizer\.json cannot be read"):
        TextEncoder.load(tmp_path / "tokenizer.json")
