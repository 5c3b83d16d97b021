"""Facts, plans, requests and questions without an opinion."""

import re

import pytest

from tests.corpus import real_data
from tests.unit.test_everyday import words
from training.distillation.neutral import neutral_texts
from training.quality.short_texts import read_short_sets


def test_different_texts() -> None:
    """Texts are seeded, filled in and all different; some are questions or in lower case."""
    made = list(neutral_texts(3000, seed=1))
    assert made == list(neutral_texts(3000, seed=1))
    assert made != list(neutral_texts(3000, seed=2))
    assert not any("{" in text or "\n" in text or "|" in text for text in made)
    assert 2000 < len(made) == len(set(made))
    assert sum(text.endswith("?") for text in made) > 200
    assert 300 < sum(text == text.lower() for text in made) < 1000


def test_grammar_of_texts() -> None:
    """An article fits the next word, and no two slots of a text have the same filler."""
    made = list(neutral_texts(20_000, seed=3))
    assert not [text for text in made if re.search(r"\ba [aeiou]|\ban [^aeiou]", text, re.I)]
    pairs = r"\b(\w+) (?:and|or|to|from|with) (?:an? |the )?\1\b"
    assert not [text for text in made if re.search(pairs, text, re.I)]


@pytest.mark.data
def test_no_phrase_is_a_text_that_measures() -> None:
    """No neutral text is, word for word, one of the short texts that measure models."""
    sets = read_short_sets(real_data("short"))
    measured = {words(text.text) for each in sets for text in each.texts}
    assert not measured & {words(text) for text in neutral_texts(50_000, seed=7)}
