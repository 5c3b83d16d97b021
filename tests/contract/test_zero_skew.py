"""One text, one answer: whichever way it takes through the code."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.artifact import GoldenRow, read_golden, read_manifest
from app.text.characters import EMOJI_RANGES, character_class
from app.text.encoder import TextConfig, TextEncoder
from app.text.tokenizer import STANDARD_ALIASES
from app.text.vocabulary import Vocabulary
from tests.corpus import make_corpus
from tests.deferred import deferred
from tests.trained import Workshop
from training.configs import load_config
from training.data.preprocessing import tokenizing_config

with deferred():
    import tensorflow as tf

    from training.data.batches import pad_batch
    from training.export.runtimes import ExportedModel
    from training.export.text_graph import TextGraph

ROOT = Path(__file__).parents[2]

# Words that random texts have a chance to hold, of several scripts.
WORDS = [*"abcdeéßσıiя好", "i\u0307", "ab", "a'b", "фил", "!", "?"]
encoder = TextEncoder(TextConfig(max_length=8, head=3), Vocabulary(WORDS))

# Any character, with those that have rules of their own more often than chance would have them.
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("aAbB éÉİıΣςσß'’<>/!?&;#39amp\u00ad\u200d\ufe0f\x00\x85\u2028好！？ﬁẞ"),
)

# Parts of what is more than a word, and what may stand beside it.
SIGNS = (
    *(":", ";", "=", "-", "_", "^", "'", "’", ")", "(", "/", "\\", "|", "*", "+", "<", ">", "<3"),
    *("D", "p", "o", "a", "F", "Ab", "é", "1", "10", "5", "100", ".5", ",", ".", " ", "\n", "\x00"),
    *("://", "::", "!", "--", "-_-", ":-)", ":'(", "10/10", "A+ ", "c++", "</3", "<b>", "&#39;"),
    *(
        "👍",
        "🏽",
        "❤",
        "♥",
        "\ufe0f",
        "\u200d",
        "\u20e3",
        "👩\u200d🚒",
        "🇩",
        "🇪🇫",
        "\u00a0",
        "好",
        "½",
    ),
)
signs = TextEncoder(
    TextConfig(max_length=20, head=10),
    Vocabulary(
        [
            *dict.fromkeys(token for _, token in STANDARD_ALIASES),
            *("👍", "👩", "🇩🇪", "🇪🇫", "10/10", "5/10", "1/5", "1.5/10", "c++", "f-", "10"),
            *("é", "好"),
        ]
    ),
)


@pytest.fixture(params=["lstm", "bow"])
def version(workshop: Workshop, request: pytest.FixtureRequest) -> Path:
    """An exported version of each architecture."""
    return workshop.models / str(request.param) / "1"


alphanumeric = TextEncoder(
    replace(tokenizing_config(load_config("tutorial_tweets")), max_length=8),
    Vocabulary([*"abcdert", "rt2", "dont"]),
)


@cache
def graph_of(encoder: TextEncoder) -> Any:
    """The graph that encodes texts as `encoder` does; traced once."""
    signature = [tf.TensorSpec([None], tf.string, name="text")]
    return tf.function(TextGraph(encoder), autograph=False, input_signature=signature)


def ids_of(encoder: TextEncoder, texts: list[str]) -> list[list[int]]:
    """The ids of texts as the graph computes them."""
    ids, lengths = graph_of(encoder)(tf.constant([text.encode() for text in texts]))
    rows = zip(ids.numpy().tolist(), lengths.numpy().tolist(), strict=True)
    return [row[:length] for row, length in rows]


@settings(max_examples=150)
@given(st.lists(st.text(CHARACTERS, max_size=40), min_size=1, max_size=5))
def test_graph_and_encoder_give_the_same_ids(texts: list[str]) -> None:
    """The graph reads any Unicode text as the encoder does: same ids, same truncation."""
    assert ids_of(encoder, texts) == [encoder.encode(text).ids.tolist() for text in texts]


@settings(max_examples=100)
@given(st.lists(st.lists(st.sampled_from(SIGNS), max_size=30).map("".join), min_size=4, max_size=9))
def test_the_same_ids_of_signs(texts: list[str]) -> None:
    """That holds for emoji, emoticons, ratings and grades, and what looks like them."""
    assert ids_of(signs, texts) == [signs.encode(text).ids.tolist() for text in texts]


@settings(max_examples=150)
@given(st.lists(st.text(CHARACTERS | st.sampled_from("rRtT _\v\n\u00a0"), max_size=40), min_size=1))
def test_the_same_ids_of_cleaned_texts(texts: list[str]) -> None:
    """That holds for texts of which a recipe keeps letters and digits alone."""
    expected = [alphanumeric.encode(text).ids.tolist() for text in texts]
    assert ids_of(alphanumeric, texts) == expected


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param([*range(1, 0x40000), *range(0xE0000, 0xE1000)], id="planes with characters"),
        pytest.param(range(1, 0x110000), id="all", marks=pytest.mark.slow),
    ],
)
def test_every_character_is_read_alike(codes: Sequence[int]) -> None:
    """Every character of Unicode, alone and between letters, gives the same ids both ways."""
    codes = [c for c in codes if not 0xD800 <= c <= 0xDFFF]
    characters = [chr(c) for c in codes]
    alphabet = {chr(c).lower() for c in codes if chr(c).isalnum()}
    alphabet |= {*re.findall(f"[{character_class(EMOJI_RANGES)}]", "".join(characters))}
    every = TextEncoder(TextConfig(max_length=99, head=0), Vocabulary(sorted(alphabet)))
    texts = [
        " ".join(f"{c} a{c}b" for c in characters[start : start + 16])
        for start in range(0, len(characters), 16)
    ]
    ids, lengths = tf.function(TextGraph(every), autograph=False)(
        tf.constant([text.encode() for text in texts])
    )
    expected = pad_batch([every.encode(text).ids for text in texts], range(len(texts)))
    different = (ids.numpy() != expected[:, : ids.shape[1]]).any(axis=1)
    assert [texts[i] for i in np.flatnonzero(different)] == []
    assert expected.shape[1] == lengths.numpy().max()


def test_bytes_that_are_not_utf8_separate_words() -> None:
    """A raw string may hold anything; what is no UTF-8 is no part of a word."""
    ids, _ = graph_of(encoder)(tf.constant([b"a\xffb", b"\xed\xa0\x80", b""]))
    assert ids.numpy()[0].tolist() == encoder.encode("a b").ids.tolist()


def test_golden_ids(version: Path) -> None:
    """The encoder beside a version gives the golden texts the ids they had at export."""
    beside = TextEncoder.load(version / "tokenizer.json")
    assert beside.fingerprint() == read_manifest(version).text_fingerprint
    for row in read_golden(version):
        assert tuple(beside.encode(row.text).ids.tolist()) == row.ids


BUNDLED = sorted((ROOT / "models").glob("*/*/manifest.json"))


def test_there_are_bundled_versions() -> None:
    """The next test reads a version of each bundled model."""
    names = {"bow", "bow-ngrams", "lstm", "sentiment3", "tweets-lstm"}
    assert {path.parts[-3] for path in BUNDLED} == names


@pytest.mark.parametrize("manifest", BUNDLED, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_bundled_ids(manifest: Path) -> None:
    """A bundled version gives its golden texts the ids of its export, whatever rules came later."""
    folder = manifest.parent
    beside = TextEncoder.load(folder / "tokenizer.json")
    assert beside.fingerprint() == read_manifest(folder).text_fingerprint
    assert [tuple(beside.encode(row.text).ids.tolist()) for row in read_golden(folder)] == [
        row.ids for row in read_golden(folder)
    ]


def test_golden_answers_alone_and_together(version: Path) -> None:
    """A golden text scores the same alone, beside unequal neighbours, and as raw text."""
    rows: list[GoldenRow] = list(read_golden(version))
    expected = np.array([row.probabilities for row in rows])
    ids = [np.array(row.ids, np.int32) for row in rows]
    exported = ExportedModel(version)
    alone = np.concatenate([exported.score([row]) for row in ids])
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    np.testing.assert_allclose(exported.score(ids), expected, atol=1e-5)
    np.testing.assert_allclose(
        exported.score_texts([row.text for row in rows]), expected, atol=1e-5
    )


def test_padding_is_not_read(version: Path) -> None:
    """What stands behind a row's length changes nothing, even when it is no padding at all."""
    exported = ExportedModel(version)
    texts = [sample.text for sample in make_corpus(8, seed=5)]
    rows = [exported.encoder.encode(text).ids for text in texts]
    ids = pad_batch(rows, range(len(rows)))
    wide = np.concatenate([ids, np.full((len(rows), 50), 3, np.int32)], axis=1)
    lengths = np.array([len(row) for row in rows], np.int32)
    for row, length in zip(wide, lengths, strict=True):
        row[length:] = 3
    model = tf.saved_model.load(str(version)).signatures["serve_ids"]
    answers = model(ids=tf.constant(wide), lengths=tf.constant(lengths))["probabilities"].numpy()
    np.testing.assert_allclose(answers, exported.score(rows), atol=1e-5)
