"""Generated texts with the length distribution of real film reviews.

A server that batches by length is only tested by realistic lengths. The texts are random words, so
that a load test needs no data set; their meaning does not matter.
"""

import itertools
import math
import random
from collections.abc import Iterator

# Words per text of the 25,000 IMDB test reviews: median 174, mean 234, maximum 2,473. A log-normal
# distribution with this median and mean is close to the real one.
MEDIAN_WORDS = 174
MEAN_WORDS = 234
MAX_WORDS = 2473
MIN_WORDS = 4
_SIGMA = math.sqrt(2 * math.log(MEAN_WORDS / MEDIAN_WORDS))

# Zipf's law: a few words make up most of a text, so the weight of a word falls with its rank.
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
    """Generate an endless sequence of texts, which practically never repeats.

    A fixed list, sent repeatedly, would measure a cache if the server has one.

    Args:
        seed: Determines the texts. Give each simulated user its own.

    Yields:
        Sentences of plain English words with full stops, sometimes with the markup of a review. A
        text with more words has more tokens, however the server tokenizes.
    """
    rng = random.Random(seed)  # noqa: S311 - the same texts for the same seed
    while True:
        yield _text(rng, words=_length(rng))


def word_count(text: str) -> int:
    """The number of words in a text of this corpus, markup excluded."""
    return len(text.replace("<br />", " ").split())


def _length(rng: random.Random) -> int:
    words = round(rng.lognormvariate(math.log(MEDIAN_WORDS), _SIGMA))
    return min(max(words, MIN_WORDS), MAX_WORDS)


def _text(rng: random.Random, *, words: int) -> str:
    """Make sentences of 4 to 30 words, a tenth of them followed by a paragraph break."""
    chosen = rng.choices(_WORDS, cum_weights=_WEIGHTS, k=words)
    parts: list[str] = []
    start = 0
    while start < words:
        end = min(start + rng.randint(4, 30), words)
        parts.append(" ".join(chosen[start:end]).capitalize() + rng.choice(("...", ".", ".", ".")))
        parts.append("<br /><br />" if rng.random() < 0.1 else " ")
        start = end
    return "".join(parts[:-1])
