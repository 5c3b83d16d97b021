"""Everyday sentences from a small grammar: products, meals, service, travel, software, work.

Film reviews lack these subjects, and facts and questions without any opinion. The grammar knows
what its sentences mean, so they need no teacher: it and its student learn them alike. Its phrases
are in `everyday.toml`; none is taken from a set that measures a model.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from random import Random
from typing import Final

from training.distillation.phrases import read_phrases, vary_case_and_end

GOOD, EVEN, BAD = 0.95, 0.5, 0.05
"""The probability that a sentence is positive, by what it means."""
_MEANINGS: Final = {GOOD: "good", BAD: "bad", EVEN: "even"}
Sentence = tuple[str, float]

_SUBJECTS: Final = ("thing", "place", "meal", "person", "software")
_ENDS: Final = (".", ".", "", "", "!")
_STARTS: Final = ("The", "My", "This", "Our", "The new", "Your")
_TURNS: Final = ("but", "yet", "although", "even though", "though")
_PRAISE: Final = (
    *("excellent", "great", "good", "amazing", "reliable", "useful", "comfortable", "impressive"),
)
_BLAME: Final = (
    *("bad", "awful", "poor", "useless", "disappointing", "annoying", "boring", "ugly"),
)
_GRADES: Final = {
    "A+": GOOD, "A-": GOOD, "B+": 0.85, "C+": EVEN, "C-": 0.3, "D+": 0.2, "D-": BAD, "F-": BAD,
    "thumbs up": GOOD, "thumbs down": BAD, "two thumbs up": GOOD, "5 stars": GOOD, "1 star": BAD,
    "4 stars": 0.9, "2 stars": 0.1, "3 stars": EVEN, "zero stars": BAD,
}  # fmt: skip


def everyday_sentences(count: int, *, seed: int) -> Iterator[Sentence]:
    """Yield sentences with the probability that each is positive; some may be equal.

    Args:
        count: How many; about one in seven says nothing good or bad.
        seed: Of all choices.
    """
    random = Random(seed)
    others = (_whole, _support, _judgement, _turn, _surprise, _idiom, _event)
    makers = (*[_statement] * 3, *[_denial] * 4, *others)
    for _ in range(count):
        text, known = random.choice(makers)(random)
        yield vary_case_and_end(text, random, ends=_ENDS), known


def ratings() -> Iterator[Sentence]:
    """Yield every rating of 5, 10 and 100, and grades, as people write them alone."""
    for best in (5, 10, 100):
        step = best // 10 or 1
        for points, shape in product(
            range(0, best + 1, step), ("{}/{}", "{} out of {}", "{} / {}")
        ):
            yield shape.format(points, best), min(max(points / best, BAD), GOOD)
    yield from _GRADES.items()


def _statement(random: Random) -> Sentence:
    known = random.choice(list(_MEANINGS))
    return f"{random.choice(_STARTS)} {_clause(random, known)}", known


def _whole(random: Random) -> Sentence:
    return _one_of("whole", tuple(_MEANINGS), random)


def _support(random: Random) -> Sentence:
    """What people write to those who help them, and about them."""
    return _one_of("support", tuple(_MEANINGS), random)


def _denial(random: Random) -> Sentence:
    """A complaint or praise that is denied, in one of many forms: `no regrets`, `never works`."""
    return _one_of("denial", (GOOD, BAD), random)


def _surprise(random: Random) -> Sentence:
    """Hopes or fears, and what came of them."""
    return _one_of("surprise", (GOOD, BAD), random)


def _idiom(random: Random) -> Sentence:
    """A turn of phrase whose words say something else, or nothing."""
    return _one_of("idiom", (GOOD, BAD), random)


def _event(random: Random) -> Sentence:
    """Something that happened, without a word of opinion."""
    return _one_of("event", (GOOD, BAD, EVEN), random)


def _one_of(section: str, meanings: Sequence[float], random: Random) -> Sentence:
    known = random.choice(meanings)
    text = _phrase(section, _MEANINGS[known], random)
    return text[0].upper() + text[1:], known


def _judgement(random: Random) -> Sentence:
    """An adjective that is affirmed or denied."""
    words, known = random.choice(((_PRAISE, GOOD), (_BLAME, BAD)))
    word = random.choice(words)
    start = f"{random.choice(_STARTS)} {_phrase(random.choice(_SUBJECTS), 'names', random)}"
    if random.random() < 0.5:
        verb = random.choice(("is", "was", "is really", "was truly", "is just", "seems"))
        return f"{start} {verb} {word}", known
    verb = random.choice(("is not", "isn't", "was not", "wasn't", "is never", "is anything but"))
    # Denied praise is a complaint; a denied complaint is faint praise.
    return f"{start} {verb} {word}", BAD if known == GOOD else 0.8


def _turn(random: Random) -> Sentence:
    """Two clauses of opposite meanings, of which one outweighs the other."""
    one, other = random.choice(((GOOD, BAD), (BAD, GOOD)))
    first, second = (f"the {_clause(random, each)}" for each in (one, other))
    turn = random.choice(_TURNS)
    if turn in ("but", "yet"):
        return f"{first[0].upper()}{first[1:]}, {turn} {second}", (0.25, 0.75)[other == GOOD]
    return f"{turn[0].upper()}{turn[1:]} {first}, {second}", (0.2, 0.8)[other == GOOD]


def _clause(random: Random, known: float) -> str:
    kind = random.choice(_SUBJECTS)
    return f"{_phrase(kind, 'names', random)} {_phrase(kind, _MEANINGS[known], random)}"


def _phrase(section: str, key: str, random: Random) -> str:
    return read_phrases("everyday.toml").draw(section, key, random)
