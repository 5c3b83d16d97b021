"""The text rules of a recipe: cleaning and truncation."""

import pytest

from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import Vocabulary
from training.config import Config, ModelConfig, PreprocessingConfig
from training.data.preprocessing import text_config, tokenizing_config

CONFIG = Config(
    name="m",
    text=PreprocessingConfig(max_length=7, head_tokens=2),
    model=ModelConfig(architecture="bow"),
)
ALPHANUMERIC = CONFIG.replace(cleaning="alphanumeric")
WORDS = [*"abcdefghij"]


def kept(config: Config) -> list[str]:
    """The words that are left of a text of ten words."""
    encoder = TextEncoder(text_config(config, [10]), Vocabulary(WORDS))
    return encoder.vocabulary.tokens(encoder.encode(" ".join(WORDS)).ids[1:])


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [("pre", "efghij"), ("post", "abcdef"), ("head_tail", "abghij")],
)
def test_truncation(truncation: str, expected: str) -> None:
    """Truncation removes the beginning, the end or the middle of a long text."""
    assert kept(CONFIG.replace(truncation=truncation)) == list(expected)


def test_length_by_deviations() -> None:
    """`deviations` allows the mean plus two deviations and the first id; the head is scaled."""
    config = text_config(CONFIG.replace(length_rule="deviations"), [10, 30])
    assert (config.max_length, config.head) == (1 + 20 + 2 * 10, 2 * 41 // 7)


def test_standard_cleaning() -> None:
    """The default cleaning is that of `app.text`."""
    assert text_config(CONFIG, [3]) == TextConfig(max_length=7, head=2)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("RT @You: Don't vote!", ["you", "dont", "vote"]),
        ("part of art, rt", ["part", "of", "art"]),
        ("http://t.co/aB1 #GOPDebate", ["httptcoab1", "gopdebate"]),
        ("caf\u00e9\u00a0noir\u2028\u0130\u212a", ["caf", "noir"]),
        ("snow \u2603 100%\n\tof_it", ["snow", "100", "ofit"]),
        ("!?", []),
    ],
)
def test_alphanumeric(text: str, tokens: list[str]) -> None:
    """Alphanumeric cleaning keeps a-z and 0-9, lower-cased, and drops the word "rt"."""
    encoder = TextEncoder(tokenizing_config(ALPHANUMERIC), Vocabulary(()))
    assert encoder.tokenize(text) == tokens
