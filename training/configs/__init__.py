"""Recipes: one file each, whose header says what it is, what it costs and what it scores."""

from typing import Final

ALL_TUTORIALS: Final = "all-tutorials"
"""In the place of a recipe: all of `TUTORIALS`, one after another, in one comparison."""

TUTORIALS: Final = (
    "tutorial_bow",
    "tutorial_bow_dropout",
    "tutorial_embedding",
    "tutorial_stacked",
    "tutorial_bidirectional",
    "tutorial_tweets",
)
"""Recipes that repeat what a tutorial does, to be compared with what it claims. All but the last
are of the IMDB reviews."""
