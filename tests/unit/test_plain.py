"""Facts, questions and requests without an opinion."""

import re

import pytest

from tests.corpus import real_data
from training.distillation.plain import plain_texts
from training.quality.short_texts import read_short_sets


def test_texts_of_every_subject() -> None:
    """Texts are seeded, filled in, mostly different, and some are questions or in small letters."""
    made = list(plain_texts(3000, seed=1))
    assert made == list(plain_texts(3000, seed=1))
    assert made != list(plain_texts(3000, seed=2))
    assert not any("{" in text or "\n" in text or "|" in text for text in made)
    assert len(set(made)) > 2000
    assert sum(text.endswith("?") for text in made) > 200
    assert 500 < sum(text == text.lower() for text in made) < 1000


@pytest.mark.data
def test_no_phrase_is_a_text_that_measures() -> None:
    """No plain text is, word for word, one of the short texts that measure models."""
    sets = read_short_sets(real_data("short"))
    measured = {_words(text.text) for each in sets for text in each.texts}
    assert not measured & {_words(text) for text in plain_texts(50_000, seed=7)}


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))
