import re
from collections import Counter
from random import Random

import pytest

from tests.corpus import real_data
from training.distillation.everyday import BAD, EVEN, GOOD, everyday_sentences, ratings
from training.distillation.phrases import Phrases
from training.distillation.questions import everyday_questions
from training.quality.short_texts import read_short_sets


def test_sentences_of_every_meaning() -> None:
    """Sentences are seeded, filled in, of every meaning, and mostly different."""
    made = list(everyday_sentences(3000, seed=1))
    assert made == list(everyday_sentences(3000, seed=1))
    assert made != list(everyday_sentences(3000, seed=2))
    assert not any("{" in text or "\n" in text or "|" in text for text, _ in made)
    counts = Counter(known for _, known in made)
    assert min(counts[GOOD], counts[BAD], counts[EVEN]) > 300
    assert len({text for text, _ in made}) > 2000


def test_a_sentence_has_one_meaning() -> None:
    """Equal sentences have equal probabilities: what was not good is bad."""
    known = dict(everyday_sentences(20_000, seed=1))
    assert all(known[text] == each for text, each in everyday_sentences(20_000, seed=1))
    denied = {text: each for text, each in known.items() if "not good" in text.lower()}
    assert denied
    assert set(denied.values()) == {BAD}


def test_what_is_typed_otherwise_means_the_same() -> None:
    """Case and the end of a sentence change no probability."""
    known: dict[str, set[float]] = {}
    for text, each in everyday_sentences(50_000, seed=1):
        known.setdefault(text.lower().rstrip(".!"), set()).add(each)
    assert not {text: each for text, each in known.items() if len(each) > 1}


@pytest.mark.parametrize(
    "mistake",
    [
        r"\ba ([ai]|e(?!u)|honest|open|old)",
        r"\ban ([bcdfgj-np-tv-z]|us)",
        r"\b(my (boss|wife|husband)|i) (are|were|go)\b",
    ],
)
def test_grammar_of_sentences(mistake: str) -> None:
    """An article fits the next word, and a verb its subject."""
    made = [text for text, _ in everyday_sentences(30_000, seed=3)]
    assert not [text for text in made if re.search(mistake, text, re.I)][:5]


@pytest.mark.parametrize(
    ("filler", "article"),
    [
        *(("apple", "an"), ("hour", "an"), ("honest one", "an"), ("umbrella", "an"), ("old", "an")),
        *(("useful", "a"), ("unit", "a"), ("euro", "a"), ("one-way", "a"), ("house", "a")),
    ],
)
def test_article(filler: str, article: str) -> None:
    """An article is chosen by how the next word is spoken."""
    phrases = Phrases({"fill": {"x": [filler]}, "s": {"k": ["It is a {x}"]}})
    assert phrases.draw("s", "k", Random(1)) == f"It is {article} {filler}"


def test_slots_differ() -> None:
    """What fills one slot of a phrase fills no other."""
    phrases = Phrases({"fill": {"x": ["one", "two"]}, "s": {"k": ["{x} and {x}"]}})
    drawn = {phrases.draw("s", "k", Random(seed)) for seed in range(50)}
    assert drawn == {"one and two", "two and one"}


def test_ratings() -> None:
    """The best rating is good, the worst bad, the middle even, whatever the shape."""
    known = dict(ratings())
    assert known["5/5"] == known["10 out of 10"] == known["100/100"] == known["A+"] == GOOD
    assert known["0/5"] == known["1 star"] == BAD
    assert known["1/5"] == 0.2
    assert known["50 / 100"] == known["3 stars"] == EVEN


def test_questions_with_known_answers() -> None:
    """Everyday sentences are questions that come from no review and need no teacher."""
    questions = list(everyday_questions(100, seed=1))
    assert len({each.text for each in questions}) == len(questions) > 100
    assert all(each.known is not None and each.review < 0 for each in questions)


@pytest.mark.data
def test_no_phrase_is_a_text_that_measures() -> None:
    """No everyday sentence is, word for word, one of the short texts that measure models."""
    sets = read_short_sets(real_data("short"))
    measured = {words(text.text) for each in sets for text in each.texts}
    assert not measured & {words(text) for text, _ in everyday_sentences(50_000, seed=7)}


def words(text: str) -> str:
    """The words of a text, whatever stands between them."""
    return " ".join(re.findall(r"[\w']+", text.lower()))
