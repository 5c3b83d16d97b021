"""Texts that say nothing: short, seeded, and without any word of opinion."""

from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import Vocabulary
from tests.corpus import NEGATIVE, POSITIVE
from training.distillation.silent import silent_texts

ENCODER = TextEncoder(TextConfig(max_length=50, head=10), Vocabulary(()))


def test_the_seed_decides() -> None:
    """The same seed gives the same texts, another one others."""
    assert list(silent_texts(200, seed=1)) == list(silent_texts(200, seed=1))
    assert list(silent_texts(200, seed=1)) != list(silent_texts(200, seed=2))


def test_nothing_is_said() -> None:
    """There are empty texts, numbers above 10, and words; no text has more than five tokens."""
    tokens = [ENCODER.tokenize(text) for text in silent_texts(500, seed=1)]
    said = {word for row in tokens for word in row}
    assert [] in tokens
    assert ["the"] in tokens
    assert max(map(len, tokens)) <= 5
    assert min(int(word) for word in said if word.isdecimal()) > 10
    assert not said & {*NEGATIVE, *POSITIVE, "good", "bad", "not", "no", "!"}
