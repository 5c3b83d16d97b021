"""Claims: what each tutorial says that its model reaches, and why ours may reach something else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from training.reports.scores import Interval

MARGIN: Final = 0.01
"""A figure this near to a claim repeats it; one further away needs its reason."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a tutorial says of its recipe.

    Attributes:
        source: Who says it, and of which texts.
        accuracy: The lowest and the highest figure; None where it gives none.
        reason: Why a figure may be further away than `MARGIN`.
    """

    source: str
    accuracy: Interval | None = None
    reason: str = ""


CLAIMS: Final[Mapping[str, Claim]] = {
    "tutorial_bow": Claim("TensorFlow's text classification, IMDB test", (0.8735, 0.8735)),
    "tutorial_bow_dropout": Claim(
        "Chollet (2017), 4.4: curves only; the figure is that without dropout", (0.8735, 0.8735)
    ),
    "tutorial_embedding": Claim("gives no figure"),
    "tutorial_stacked": Claim(
        "Chollet (2017), 6.2: one layer, up to 89 % on validation",
        (0.89, 0.89),
        "That is the best of ten epochs, on reviews of the films that were learned from; the films "
        "of the test are others",
    ),
    "tutorial_bidirectional": Claim(
        "Keras examples: IMDB test, after the second epoch", (0.8428, 0.8428)
    ),
    "tutorial_tweets": Claim(
        "Kaggle, three classes: rows held out, so that retweets leak", (0.65, 0.70)
    ),
}
"""By recipe, for each of `training.configs.TUTORIALS`."""
