import re
from collections import Counter

import pytest

from tests.corpus import real_data
from training.distillation.everyday import BAD, EVEN, GOOD, everyday_sentences, ratings
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
