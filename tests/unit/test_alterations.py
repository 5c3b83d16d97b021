from random import Random

import pytest

from training.distillation.alterations import (
    _OPPOSITE,
    _OPPOSITES,
    CHANGING,
    KEEPING,
    change_case,
    contrast,
    doubt,
    emphasize,
    mistype,
    negate,
    strengthen,
    turn,
)


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("It is good.", "It is not good."),
        ("It is not good.", "It is good."),
        ("I never liked it", "I liked it"),
        ("It isn't good", "It is good"),
        ("Good.", None),
    ],
)
def test_negate(text: str, negated: str | None) -> None:
    """A negation is removed, or added after an auxiliary verb if there is one."""
    assert negate(text, Random(0)) == negated


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("Great fun, the best of all.", "Terrible torture, the worst of all."),
        ("BAD acting and a weak plot", "GOOD acting and a strong plot"),
        ("A must see, 9/10", "One to skip, 2/10"),
        ("A waste of time, well acted", "A good use of time, badly acted"),
        ("Good, and nothing else", None),
        ("It began at noon", None),
    ],
)
def test_turn(text: str, turned: str | None) -> None:
    """Words of opinion become their opposites, with their capitals; there must be two."""
    found = {turn(text, Random(seed)) for seed in range(20)}
    assert turned in found
    assert turned is None or text in {turn(turned, Random(seed)) for seed in range(20)}


def test_an_opposite_has_one_opposite() -> None:
    """No word is in two pairs: what is turned twice would not come back."""
    assert len(_OPPOSITE) == 2 * len(_OPPOSITES)


@pytest.mark.parametrize("alter", [doubt, strengthen])
def test_words_before_an_opinion(alter) -> None:
    """A modifier goes before a word of opinion; a text without one is not altered."""
    altered = alter("A good day", Random(1))
    assert altered.startswith("A ")
    assert altered.endswith(" good day")
    assert altered != "A good day"
    assert alter("A day", Random(1)) is None


def test_case_and_emphasis_change_no_letter() -> None:
    """Case and emphasis leave the letters as they are."""
    for alter in (emphasize, change_case):
        for seed in range(20):
            altered = alter("A good day.", Random(seed))
            assert altered.lower().rstrip(".!") == "a good day"


def test_typing_errors_are_small() -> None:
    """A typing error is inside one word of at least four letters, and keeps its ends."""
    for seed in range(50):
        one, other = mistype("such wonderful day", Random(seed)).split()[:2]
        assert (one, other) != ("such", "wonderful")
        assert (one[0], one[-1], other[0], other[-1]) == ("s", "h", "w", "l")
        assert abs(len(one) - 4) + abs(len(other) - 9) <= 1
    assert mistype("it is so", Random(0)) is None


def test_contrasts_hold_both_sentences() -> None:
    """A contrast is one sentence that ends with the second one."""
    for seed in range(20):
        joined = contrast("I like it.", "The rest is bad.", Random(seed))
        assert "I like it, " in joined
        assert joined.endswith(" the rest is bad.")


@pytest.mark.parametrize("text", ["", "x", "....", "no", "wasn't", "good " * 300])
@pytest.mark.parametrize("name", [*CHANGING, *KEEPING])
def test_any_text_can_be_offered(text: str, name: str) -> None:
    """An alteration returns one line or None, whatever the text."""
    altered = {**CHANGING, **KEEPING}[name](text, Random(0))
    assert altered is None or "\n" not in altered
