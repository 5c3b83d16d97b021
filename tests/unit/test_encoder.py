"""Texts to ids, and the file that stores the rules."""

import gc
import json
import weakref
from dataclasses import replace
from itertools import pairwise
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
    """The ids as letters."""
    return "".join(WORDS.words[i - FIRST_WORD] if i >= FIRST_WORD else "." for i in list(ids))  # type: ignore[call-overload]


def test_text_that_fits() -> None:
    """A row begins with the begin id and has all tokens; unknown ones are counted."""
    encoded = encoder.encode("A, b? zebra")
    assert encoded.ids.tolist() == [BEGIN, FIRST_WORD, FIRST_WORD + 1, UNKNOWN, UNKNOWN]
    assert (encoded.tokens, encoded.unknown, encoded.known) == (4, 2, 2)
    assert not encoded.truncated


def test_head_and_tail() -> None:
    """A long text keeps its first `head` tokens and as many of its last ones as fit."""
    encoded = encoder.encode("a b c d e f g")
    assert words(encoded.ids[1:]) == "abefg"
    assert (encoded.tokens, encoded.truncated) == (7, True)


def test_unknown_tokens_of_a_truncated_text() -> None:
    """Unknown tokens are counted in the whole text, known ones among those that are read."""
    encoded = encoder.encode("a x y z b x c d e")
    assert words(encoded.ids[1:]) == "a.cde"
    assert (encoded.tokens, encoded.unknown, encoded.known) == (9, 4, 4)


def test_text_of_exactly_the_limit() -> None:
    """`max_length` includes the begin id; a text that fills it is not truncated."""
    encoded = encoder.encode("a b c d e")
    assert words(encoded.ids[1:]) == "abcde"
    assert not encoded.truncated


def test_head_without_tail() -> None:
    """Without room for a tail only the head is kept."""
    cut = TextEncoder(TextConfig(max_length=3, head=2), WORDS)
    assert words(cut.encode("a b c d").ids[1:]) == "ab"


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text gives 1 to `max_length` ids, the first of which is the begin id."""
    ids = encoder.encode(text).ids
    assert 1 <= len(ids) <= CONFIG.max_length
    assert ids[0] == BEGIN


PIECES = (
    *("A", "b", "c ", " d", "E1", "!", "?", "'", "''", "\u2019", "&rsquo;", "&#39;", "&amp;", "&"),
    *(";", "<br/>", "<b", ">", "<!--", "\u00ad", "&shy;", "\u200d", "\ufe0f", "\u0130", "I\u0307"),
    *("\u03a3", "\u03c3", "\u03c2 ", "\u00e9", "e\u0301", "\u65e5\u672c", "\uff01", "\u061f"),
    *(
        "\U0001f600",
        "\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        ":)",
        ":'(",
        "<3",
        "10/",
        "10",
        "a+",
        "://",
    ),
    *("-", "--", "\u20e3", "\n", "a\u00adb", "don&rsquo;t", "\u01c5", "\u1e9e", "\ufb01"),
)


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join))
def test_place_of_each_token(text: str) -> None:
    """The part of the text at the place of a token is that token; the ids are those of `encode`."""
    roomy = TextEncoder(TextConfig(max_length=1000, head=500), WORDS)
    located = roomy.locate(text)
    parts = [text[start:end] for start, end in located.spans]
    assert [roomy.tokenize(part) for part in parts] == [[token] for token in roomy.tokenize(text)]
    assert located.ids.tolist() == roomy.encode(text).ids.tolist()
    assert all(first[1] <= second[0] for first, second in pairwise(located.spans))


def test_places_in_a_truncated_text() -> None:
    """The places are those of the tokens that the model reads."""
    text = "a b c d e f g"
    located = encoder.locate(text)
    assert "".join(text[start:end] for start, end in located.spans) == "abefg"
    assert located.ids.tolist() == encoder.encode(text).ids.tolist()


@pytest.mark.parametrize(("max_length", "head"), [(1, 0), (5, -1), (5, 5)])
def test_config_bounds(max_length: int, head: int) -> None:
    """Lengths without room for a token are invalid."""
    with pytest.raises(InvalidInput, match="Received"):
        TextConfig(max_length=max_length, head=head)


def test_save_and_load(tmp_path: Path) -> None:
    """A loaded encoder has the same fingerprint and gives the same ids."""
    encoder.save(tmp_path / "tokenizer.json")
    loaded = TextEncoder.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint() == encoder.fingerprint()
    text = "A\u2019s <b>b</b>"
    assert loaded.encode(text).ids.tolist() == encoder.encode(text).ids.tolist()


def test_special_ids(tmp_path: Path) -> None:
    """The file says which ids are no words; files of earlier exports do not, and mean the same."""
    path = tmp_path / "tokenizer.json"
    encoder.save(path)
    content = json.loads(path.read_text())
    assert content.pop("special_ids") == {"pad": 0, "unknown": 1, "begin": 2, "first_word": 3}
    path.write_text(json.dumps(content))
    assert TextEncoder.load(path).fingerprint() == encoder.fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        TextEncoder(replace(CONFIG, head=1), WORDS),
        TextEncoder(replace(CONFIG, max_length=7), WORDS),
        TextEncoder(replace(CONFIG, pattern="[a-z]+"), WORDS),
        TextEncoder(replace(CONFIG, rewrites=()), WORDS),
        TextEncoder(replace(CONFIG, aliases=()), WORDS),
        TextEncoder(replace(CONFIG, aliases=(), rules_version=1, pattern="[a-z]+"), WORDS),
        TextEncoder(CONFIG, Vocabulary(["b", "a", "c", "d", "e", "f", "g"])),
    ],
    ids=["head", "max_length", "pattern", "rewrites", "aliases", "rules", "order of words"],
)
def test_fingerprint(other: TextEncoder) -> None:
    """Any change of the ids changes the fingerprint."""
    assert other.fingerprint() != encoder.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 9}, "schema_version must be 1. Received: 9"),
        ({"rules_version": 0}, "rules_version must be 1 to 2. Received: 0"),
        ({"rules_version": 3}, "rules_version must be 1 to 2. Received: 3"),
        ({"rules_version": 1}, "rules_version 1 must have no aliases"),
        ({"special_ids": {"pad": 1}}, "special_ids must be {.*}. Received: {'pad': 1}"),
        ({"aliases": 1}, "not a tokenizer"),
        ({"head": 99}, "head must be"),
        ({"pattern": None}, "not a tokenizer"),
        ({"words": ["a", "a"]}, "must be unique"),
    ],
)
def test_wrong_file(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """A file of another version, or with values out of bounds, is unusable."""
    path = tmp_path / "tokenizer.json"
    encoder.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnusableVersion, match=message):
        TextEncoder.load(path)


def test_encoders_in_use_are_shared(tmp_path: Path) -> None:
    """Files of the same content share one encoder; a changed file is read again."""
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        encoder.save(path)
    first, second = map(TextEncoder.load, paths)
    assert first is second
    TextEncoder(replace(CONFIG, head=1), WORDS).save(paths[1])
    assert TextEncoder.load(paths[1]).config.head == 1
    known = weakref.ref(first)
    del first, second
    gc.collect()
    assert known() is None


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is named in the error."""
    with pytest.raises(UnusableVersion, match=r"tokenizer\.json cannot be read"):
        TextEncoder.load(tmp_path / "tokenizer.json")
