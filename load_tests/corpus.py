"""Seeded texts of this project's own, with the mix of lengths of real film reviews.

A server that batches by length is only tested by lengths that differ as real ones do. The words are
made up here, so that a load test needs no data set; what the texts mean does not matter.
"""

import itertools
import math
import random
from collections.abc import Iterator

# Words per text of the 25,000 IMDB test reviews: half have at most 174, the mean is 234, the
# longest has 2,473. A log-normal distribution with that median and mean comes close to the rest.
MEDIAN_WORDS = 174
MEAN_WORDS = 234
MAX_WORDS = 2473
MIN_WORDS = 4
_SIGMA = math.sqrt(2 * math.log(MEAN_WORDS / MEDIAN_WORDS))

# As in any language, a few words make up most of a text: the weight of a word falls with its rank.
_BY_RANK = """
the a and of to is it in this that was as with but for film movie on you not he are his have be one
all at they by an who from so like there or just about out has if some what when more very up time
no even my would which only story really see can character had we me were than much its get been
people other into most make also because how them first do does him two way
wonderful touching brilliant superb charming moving funny gripping honest clever delightful
memorable excellent warm beautiful dull awful clumsy boring lifeless wooden tedious annoying
shallow predictable forgettable terrible pointless weak noisy disappointing confused
director script camera scene plot ending actor actress dialogue music sound editing dog sailor
summer train village lighthouse detective sister winter orchestra island painter journey war garden
letter mountain childhood teacher city river promise secret picture comedy drama sequel
"""
_WORDS = _BY_RANK.split()
_WEIGHTS = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(_WORDS))))


def texts(seed: int) -> Iterator[str]:
    """Texts without end, the same ones for the same seed, hardly ever one twice.

    Not a fixed list that is sent over and over: that would measure a cache, where there is one.

    Args:
        seed: Give each simulated user another one.

    Yields:
        Sentences of plain English words with full stops, and now and then the markup of a review.
        Nothing whose count depends on how a server reads text: more words, more tokens.
    """
    rng = random.Random(seed)  # noqa: S311 - wanted: the same texts for the same seed
    while True:
        yield _text(rng, words=_length(rng))


def word_count(text: str) -> int:
    """Words in a text of this corpus, markup not counted."""
    return len(text.replace("<br />", " ").split())


def _length(rng: random.Random) -> int:
    words = round(rng.lognormvariate(math.log(MEDIAN_WORDS), _SIGMA))
    return min(max(words, MIN_WORDS), MAX_WORDS)


def _text(rng: random.Random, *, words: int) -> str:
    """Sentences of 4 to 30 words, a paragraph's end behind one in ten."""
    chosen = rng.choices(_WORDS, cum_weights=_WEIGHTS, k=words)
    parts: list[str] = []
    start = 0
    while start < words:
        end = min(start + rng.randint(4, 30), words)
        parts.append(" ".join(chosen[start:end]).capitalize() + rng.choice(("...", ".", ".", ".")))
        parts.append("<br /><br />" if rng.random() < 0.1 else " ")
        start = end
    return "".join(parts[:-1])
