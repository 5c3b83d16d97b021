"""The accuracy that each tutorial claims, and why a reproduction may differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from training.reports.scores import Interval

MARGIN: Final = 0.01
"""A result within this margin reproduces the claim; a larger difference needs a reason."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The accuracy that a tutorial claims.

    Attributes:
        source: The publication, and the texts that were scored.
        accuracy: The lowest and the highest claimed accuracy; None when none is given.
        reason: Why a result may differ by more than `MARGIN`.
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
        "The claim is the best of ten epochs, on reviews of films that also occur in training; the "
        "test split has other films",
    ),
    "tutorial_bidirectional": Claim(
        "Keras examples: IMDB test, after the second epoch", (0.8428, 0.8428)
    ),
    "tutorial_tweets": Claim(
        "Kaggle, three classes: rows held out, so that retweets leak", (0.65, 0.70)
    ),
}
"""One entry per recipe in `training.configs.TUTORIALS`."""
