"""The sentences that test capabilities are never trained on."""

import re
from collections.abc import Iterable
from importlib.resources import files

import pytest

from tests.corpus import real_data
from tests.deferred import deferred
from tests.server import ROOT

with deferred():
    from training.distillation.everyday import everyday_sentences
    from training.distillation.neutral import neutral_texts
    from training.quality.capabilities import suite_texts
    from training.quality.short_texts import read_short_sets

RUN = 4
UNSEEN = ROOT / "training" / "quality" / "unseen.tsv"
_WORD = re.compile(r"[\w'+-]+")


def runs(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every run of four words, in lower case."""
    found = set()
    for text in texts:
        words = _WORD.findall(text.lower())
        found |= set(zip(*(words[k:] for k in range(RUN)), strict=False))
    return found


def test_training_and_capabilities_share_no_phrase() -> None:
    """No run of four words is in both, neither in the phrases nor in what is made of them."""
    folder = files("training.distillation")
    names = ("everyday.toml", "neutral.toml")
    phrases = "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
    phrases = re.sub(r"^#.*|^\w+ = \"\"\"", "|", phrases, flags=re.MULTILINE)
    learned = [*phrases.split("|"), *(text for text, _ in everyday_sentences(20_000, seed=1))]
    learned += neutral_texts(20_000, seed=1)
    assert runs(suite_texts()) & runs(learned) == set()


@pytest.mark.parametrize("of", ["capabilities", "training"])
def test_short_texts_share_no_phrase(of: str) -> None:
    """The ordinary texts that measure models share no run of four words with other sentences."""
    (ordinary,) = (each for each in read_short_sets(real_data("short")) if each.name == "ordinary")
    if of == "training":
        others: Iterable[str] = [text for text, _ in everyday_sentences(50_000, seed=7)]
        others += neutral_texts(50_000, seed=7)
    else:
        others = suite_texts()
    assert runs(others) & runs(text.text for text in ordinary.texts) == set()


def test_unseen_texts_share_no_phrase() -> None:
    """Nor do those of `training/quality/unseen.tsv`; a run of theirs is found nowhere else."""
    lines = UNSEEN.read_text("utf-8").splitlines()[1:]
    _, labels, texts = zip(*(line.split("\t") for line in lines), strict=True)
    assert {*labels} == {"positive", "negative", "neutral"}
    others = [text for text, _ in everyday_sentences(100_000, seed=7)]
    others += [*neutral_texts(50_000, seed=7), *suite_texts()]
    assert runs(others) & runs(texts) == set()
