"""The texts that the teacher is asked about, for a student that must know short texts.

A file of questions is made once. Each line has, tab-separated, the number of the review that a text
comes from, its kind, the text, the text whose answer it gets if that is another one (a typing error
does not change an answer), and both parts of the answer if it is known.
"""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

from app.errors import InvalidInput
from training.distillation.alterations import CHANGING, KEEPING, contrast, turn
from training.distillation.everyday import BAD, EVEN, GOOD, everyday_sentences, ratings
from training.distillation.pieces import (
    fragment,
    paragraphs,
    replace_film_words,
    sentences,
)
from training.distillation.rated import RatedText
from training.distillation.readable import emoji_names, emoticon_valences
from training.support.progress import track

NO_REVIEW: Final = -1
"""In place of the number of a review, for a text that comes from none."""
_SHORTEST, _LONGEST = 2, 60
"""Words of a sentence that is asked about; the rest is markup, headings and lists."""
_SURE: Final = 0.02
"""The least probability that is learned: all of twenty people can be wrong about an opinion."""
PASSAGE: Final = "passage"
TURNED: Final = "turned"
PASSAGES: Final = (PASSAGE, TURNED)
"""The kinds of questions that may be as long as reviews, called passages; the last ones."""
_LONGEST_PASSAGE: Final = 220
"""The most words of a passage: three of five reviews are not longer."""
_BRIEF: Final = 15
"""The most words in each sentence of a contrast."""


@dataclass(frozen=True, slots=True)
class Question:
    """A text for the student.

    Attributes:
        review: The index of the review that it comes from, or `NO_REVIEW`.
        kind: `paragraph`, `sentence`, `fragment`, `contrast`, `emoji`, `everyday`, `rated`,
            `passage`, `turned`, or the name of an alteration.
        text: What the student reads.
        asked: What the teacher is asked; mostly the same.
        known: The probability that it is positive, if that needs no teacher.
        opinion: The probability that it has an opinion at all, given together with `known`.
    """

    review: int
    kind: str
    text: str
    asked: str
    known: float | None = None
    opinion: float | None = None


@dataclass(frozen=True, slots=True)
class QuestionShares:
    """How many questions a review gives rise to, on average.

    Attributes:
        paragraphs: Share of the paragraphs of reviews with several.
        sentences: Share of the sentences.
        fragments: Fragments per sentence asked about.
        film_words: Share of these sentences and fragments with their film words replaced.
        alterations: Alterations per sentence asked about.
        contrasts: Contrasts per review.
        everyday: The number of everyday sentences.
        turned: Share of the reviews that are asked about with their opinions turned.
    """

    paragraphs: float = 0.5
    sentences: float = 0.4
    fragments: float = 0.5
    film_words: float = 0.3
    alterations: float = 0.5
    contrasts: float = 0.5
    everyday: int = 30_000
    turned: float = 1.0

    def scaled(self, factor: float) -> "QuestionShares":
        """Return shares for fewer questions: a factor of 0.5 asks about half of the pieces.

        Raises:
            InvalidInput: `factor` is not above 0 and at most 1.
        """
        if not 0 < factor <= 1:
            raise InvalidInput(
                f"the share of the questions must be above 0 and at most 1. Received: {factor}"
            )
        return replace(
            self,
            paragraphs=factor * self.paragraphs,
            sentences=factor * self.sentences,
            contrasts=factor * self.contrasts,
            turned=factor * self.turned,
        )


_RATED_SHARES: Final = QuestionShares(film_words=0.0, fragments=0.7, alterations=1.0)
"""The pieces and alterations of rated texts."""


def all_questions(
    texts: Sequence[str], rated: Sequence[RatedText], shares: QuestionShares, *, seed: int
) -> Iterator[Question]:
    """Yield every question for a student; the same arguments give the same questions.

    Args:
        texts: Reviews, none of them from validation or test.
        rated: Texts that people rated.
        shares: How many.
        seed: Of all choices.
    """
    return chain(
        make_questions(texts, shares, seed=seed),
        emoji_questions(),
        everyday_questions(shares.everyday, seed=seed),
        rated_questions(rated, _RATED_SHARES, seed=seed),
        turned_questions(texts, shares.turned, seed=seed),
    )


def make_questions(
    texts: Sequence[str], shares: QuestionShares, *, seed: int
) -> Iterator[Question]:
    """Yield the questions about reviews; no text is asked about twice.

    Args:
        texts: Reviews, none of them from validation or test.
        shares: How many.
        seed: Of all choices; those of a review do not depend on the other reviews.
    """
    seen: set[int] = set()
    for number, text in enumerate(track(texts, "Cutting reviews")):
        for question in _questions(number, text, shares, Random(f"{seed} {number}")):
            key = hash(question.text)
            if question.text and key not in seen:
                seen.add(key)
                yield question


def _questions(
    number: int, text: str, shares: QuestionShares, random: Random
) -> Iterator[Question]:
    parts = paragraphs(text)
    found = [each for part in parts for each in sentences(part)]
    found = [each for each in found if _SHORTEST <= len(each.split()) <= _LONGEST]
    if len(parts) > 1:
        for part in parts:
            if random.random() < shares.paragraphs:
                yield Question(number, "paragraph", part, part)
    for sentence in found:
        if random.random() < shares.sentences:
            yield from _of_sentence(number, sentence, shares, random)
    brief = [each for each in found if len(each.split()) <= _BRIEF]
    if len(brief) > 1 and random.random() < shares.contrasts:
        first, second = random.sample(brief, 2)
        joined = contrast(first, second, random)
        yield Question(number, "contrast", joined, joined)


def _of_sentence(
    number: int, sentence: str, shares: QuestionShares, random: Random
) -> Iterator[Question]:
    if random.random() < shares.film_words:
        sentence = replace_film_words(sentence, random)
    yield Question(number, "sentence", sentence, sentence)
    piece = sentence
    if random.random() < shares.fragments:
        piece = fragment(sentence, random)
        yield Question(number, "fragment", piece, piece)
    if random.random() < shares.alterations:
        base = random.choice((sentence, piece))
        alterations = list({**CHANGING, **KEEPING}.items())
        for kind, alter in random.sample(alterations, len(alterations)):
            altered = alter(base, random)
            if altered and altered != base:
                yield Question(number, kind, altered, base if kind in KEEPING else altered)
                return


def turned_questions(texts: Sequence[str], share: float, *, seed: int) -> Iterator[Question]:
    """Yield reviews with their opinions turned; a passage of a review that is too long.

    Such a passage is asked about as it is, too. So each has a counterpart about the same, and only
    the words of opinion tell which is which.

    Args:
        texts: Reviews, none of them from validation or test.
        share: Of the reviews; one of which fewer than two words get turned is left out.
        seed: Of all choices; those of a review do not depend on the other reviews.
    """
    for number, text in enumerate(texts):
        random = Random(f"{seed} {number} turned")
        if random.random() >= share:
            continue
        found = [each for part in paragraphs(text) for each in sentences(part)]
        chosen = _passage(found, random)
        passage = " ".join(chosen)
        if turned := turn(passage, random):
            if len(chosen) < len(found):
                yield Question(number, PASSAGE, passage, passage)
            yield Question(number, TURNED, turned, turned)


def _passage(found: Sequence[str], random: Random) -> Sequence[str]:
    """Return neighbouring sentences, as many as have `_LONGEST_PASSAGE` words together."""
    start = random.randrange(len(found)) if found else 0
    first, last, words = start, start, 0
    for at in [*range(start, len(found)), *range(start - 1, -1, -1)]:
        words += len(found[at].split())
        if words > _LONGEST_PASSAGE:
            break
        first, last = min(first, at), max(last, at + 1)
    return found[first:last]


def emoji_questions() -> Iterator[Question]:
    """Yield the emoticons and emoji that VADER knows, the latter alone and three times."""
    signs = [*emoticon_valences(), *(name * n for name in emoji_names() for n in (1, 3))]
    for sign in signs:
        yield Question(NO_REVIEW, "emoji", sign, sign)


def everyday_questions(count: int, *, seed: int) -> Iterator[Question]:
    """Yield everyday sentences, at most `count`, and ratings; their answers are known."""
    made = dict(everyday_sentences(count, seed=seed)) | dict(ratings())
    for text, known in made.items():
        yield Question(NO_REVIEW, "everyday", text, text, known, BAD if known == EVEN else GOOD)


def rated_questions(
    texts: Sequence[RatedText], shares: QuestionShares | None, *, seed: int
) -> Iterator[Question]:
    """Yield texts that people rated, with their answers, then pieces and alterations of them.

    Args:
        texts: What people rated.
        shares: How many fragments and alterations there are of each; None for none.
        seed: Of all choices.
    """
    for number, each in enumerate(texts):
        known, opinion = (min(max(p, _SURE), 1 - _SURE) for p in (each.positive, each.opinion))
        yield Question(NO_REVIEW, "rated", each.text, each.text, known, opinion)
        if shares:
            of_text = _of_sentence(NO_REVIEW, each.text, shares, Random(f"{seed} rated {number}"))
            yield from (question for question in of_text if question.text != each.text)


def write_questions(path: Path, questions: Iterator[Question]) -> None:
    """Write a compressed file of questions; the same ones give the same bytes, whenever written."""
    with (
        path.open("wb") as opened,
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=opened, mtime=0) as packed,
        TextIOWrapper(packed, encoding="utf-8", newline="\n") as file,
    ):
        for each in questions:
            asked = "" if each.asked == each.text else each.asked
            known = ("" if part is None else str(part) for part in (each.known, each.opinion))
            row = (str(each.review), each.kind, each.text, asked, *known)
            file.write("\t".join(row) + "\n")


def read_questions(path: Path) -> Iterator[Question]:
    """Read a file of questions."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            review, kind, text, asked, *answer = line.rstrip("\n").split("\t")
            known, opinion = (float(part) if part else None for part in answer)
            yield Question(int(review), kind, text, asked or text, known, opinion)
