"""The sentences that test capabilities are never trained on."""

import re
from collections.abc import Iterable
from importlib.resources import files

from tests.corpus import real_data
from tests.deferred import deferred

with deferred():
    from training.distillation.everyday import everyday_sentences
    from training.quality.capabilities import suite_texts
    from training.quality.short_texts import read_short_sets

RUN = 4
_WORD = re.compile(r"[\w'+-]+")


def runs(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every run of four words, in small letters."""
    found = set()
    for text in texts:
        words = _WORD.findall(text.lower())
        found |= set(zip(*(words[k:] for k in range(RUN)), strict=False))
    return found


def test_training_and_capabilities_share_no_phrase() -> None:
    """No run of four words is in both, neither in the phrases nor in what is made of them."""
    phrases = files("training.distillation").joinpath("everyday.toml").read_text("utf-8")
    phrases = re.sub(r"^#.*|^\w+ = \"\"\"", "|", phrases, flags=re.MULTILINE)
    everyday = [*phrases.split("|"), *(text for text, _ in everyday_sentences(20_000, seed=1))]
    assert runs(suite_texts()) & runs(everyday) == set()


def test_short_texts_and_capabilities_share_no_phrase() -> None:
    """The two measure different things: no run of four words is in both."""
    (ordinary,) = (each for each in read_short_sets(real_data("short")) if each.name == "ordinary")
    assert runs(suite_texts()) & runs(text.text for text in ordinary.texts) == set()
