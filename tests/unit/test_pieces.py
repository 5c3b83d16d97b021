from random import Random

import pytest

from training.distillation.pieces import (
    fragment,
    paragraphs,
    replace_film_words,
    sample_piece,
    sentences,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One.<br /><br />Two.", ["One.", "Two."]),
        ("One.<BR>Two.\n\n Three,\nfour.", ["One.", "Two.", "Three, four."]),
        ("One\u0085 two", ["One two"]),
        ("<br />", []),
    ],
)
def test_paragraphs(text: str, found: list[str]) -> None:
    """Paragraphs end at line-break tags and blank lines, and contain no other white space."""
    assert paragraphs(text) == found


@pytest.mark.parametrize(
    ("paragraph", "found"),
    [
        ("It is bad. I left!", ["It is bad.", "I left!"]),
        ('"Why?" she asked. 10/10.', ['"Why?" she asked.', "10/10."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Mr. Bean is funny, J. Doe is not.", ["Mr. Bean is funny, J. Doe is not."]),
        ("It was... fine.", ["It was... fine."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences(paragraph: str, found: list[str]) -> None:
    """A sentence ends before a capital letter or a digit, not after an abbreviation."""
    assert sentences(paragraph) == found


def test_fragments_are_neighbouring_words() -> None:
    """A fragment has 1 to 20 neighbouring words of its sentence."""
    sentence = " ".join(map(str, range(30)))
    found = [fragment(sentence, Random(seed)) for seed in range(200)]
    assert all(f" {each} " in f" {sentence} " for each in found)
    assert {len(each.split()) for each in found} == set(range(1, 21))


@pytest.mark.parametrize("text", ["", "word"])
def test_fragments_of_almost_nothing(text: str) -> None:
    """A sentence of at most one word is its own fragment."""
    assert fragment(text, Random(0)) == text


def test_film_words_are_replaced() -> None:
    """Equal film words become equal words that fit anything; other words stay."""
    text = replace_film_words("The film, the FILM and filming movies", Random(0))
    first, second = text.split()[1].strip(","), text.split()[3]
    assert first == second != "film"
    assert text.endswith("and filming " + text.split()[-1])
    assert text.split()[-1] in {"things", "products", "places", "services", "items", "ones"}


def test_the_end_of_a_review_is_sampled_more_often() -> None:
    """A sampled piece comes from the text; its last sentences are the most frequent."""
    text = " ".join(f"Number {n} is here." for n in range(10))
    found = [sample_piece(text, Random(seed)) for seed in range(400)]
    assert all(each in text for each in found)
    assert sum("9" in each for each in found) > 2 * sum("4" in each for each in found)
    assert sample_piece("<br />", Random(0)) == ""
