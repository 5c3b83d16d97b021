"""One pass over the texts of a corpus: their lengths, and what is odd about each.

A few bytes per row are kept (`Texts`), and at most `SAMPLE` texts, cut, for a linear model.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.data.corpus import Corpus
from training.support.arrays import BoolArray

SAMPLE_TOKENS: Final = 200
"""Tokens of a sampled text that are kept."""
FOREIGN_RULE: Final = (
    "over half of its letters are not Latin, or it has 15 words or more and under 1 in 20 of them "
    "is a frequent word of English"
)
_FOREIGN_LETTERS: Final = 0.5
_ENOUGH_WORDS: Final = 15
_FEWEST_ENGLISH: Final = 0.05
_READ_CHARACTERS: Final = 2_000
"""The beginning of a text that decides its script."""
_READ_WORDS: Final = 200
_NEAR_WORDS: Final = 4
"""Shorter texts resemble each other by chance."""
_LAST_LATIN: Final = "\u024f"
_LATIN_ADDITIONS: Final = (("\u1e00", "\u1eff"), ("\u2c60", "\u2c7f"), ("\uff21", "\uff5a"))
# Without words that are frequent in another European language too, such as "a", "no" and "me".
_ENGLISH: Final = """
the and of to it that this with for you are have not but they be from all there what would who
which she his him my your if more about out when just like has had were been can their them
than then because how very really don't it's i i'm get got its only some could our by at up
into after even other any good much make made way well too think know see great now never ever
should did does didn't doesn't isn't that's here where why
"""
ENGLISH: Final = frozenset(_ENGLISH.split())


@dataclass(frozen=True, slots=True)
class Texts:
    """What one pass found, by row.

    Attributes:
        tokens: Tokens of each text, int32 (rows,).
        words: A digest of each text without case, punctuation and markup, uint64 (rows,); 0 for a
            text of few words.
        foreign: Whether a text looks foreign, by `FOREIGN_RULE`, bool (rows,).
        rows: The row in the file, int32 (rows,); 0 where unknown.
        sample: For each position that was asked for, its first tokens, joined with spaces.
        groups: For each of them, the group, or the position if the text has none.
    """

    tokens: Int32Array
    words: NDArray[np.uint64]
    foreign: BoolArray
    rows: Int32Array
    sample: Sequence[str]
    groups: Sequence[str | int]


def read_texts(corpus: Corpus, encoder: TextEncoder, sampled: Sequence[int] = ()) -> Texts:
    """Read every text of a corpus once.

    Args:
        corpus: The texts.
        encoder: Its rules say what a token is.
        sampled: Positions of texts to keep, ascending.
    """
    tokens, words, foreign, rows = array("i"), array("Q"), bytearray(), array("i")
    sample: list[str] = []
    groups: list[str | int] = []
    for position, example in enumerate(corpus.examples):
        found = encoder.tokenize(example.text)
        tokens.append(len(found))
        words.append(_digest_words(found))
        foreign.append(is_foreign(example.text, found))
        rows.append(example.row)
        if len(sample) < len(sampled) and sampled[len(sample)] == position:
            sample.append(" ".join(found[:SAMPLE_TOKENS]))
            groups.append(position if example.group is None else example.group)
    return Texts(
        np.array(tokens, np.int32),
        np.array(words, np.uint64),
        np.frombuffer(foreign, np.bool_),
        np.array(rows, np.int32),
        sample,
        groups,
    )


def is_foreign(text: str, tokens: Sequence[str]) -> bool:
    """Whether a text looks foreign by `FOREIGN_RULE`."""
    if not text.isascii():
        letters = [letter for letter in text[:_READ_CHARACTERS] if letter.isalpha()]
        if sum(map(_is_not_latin, letters)) > _FOREIGN_LETTERS * len(letters):
            return True
    read = tokens[:_READ_WORDS]
    english = sum(map(ENGLISH.__contains__, read))
    return len(read) >= _ENOUGH_WORDS and english < _FEWEST_ENGLISH * len(read)


def _is_not_latin(letter: str) -> bool:
    return letter > _LAST_LATIN and not any(
        first <= letter <= last for first, last in _LATIN_ADDITIONS
    )


def _digest_words(tokens: Sequence[str]) -> int:
    """A digest of the words of a text; 0 if it has few."""
    words = tokens
    if "!" in tokens or "?" in tokens:
        words = [token for token in tokens if token not in {"!", "?"}]
    if len(words) < _NEAR_WORDS:
        return 0
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest) or 1
