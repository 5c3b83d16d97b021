"""Recipes: one file each, whose header says what it is, what it costs and what it scores."""

import importlib
import pkgutil
from typing import Final

from app.errors import InvalidInput
from training.config import Config

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


def load_config(name: str) -> Config:
    """The recipe `training/configs/<name>.py`.

    Raises:
        InvalidInput: There is no such recipe; the message lists those there are.
    """
    known = config_names()
    if name not in known:
        raise InvalidInput(f"a config must be one of {', '.join(known)}. Received: {name!r}")
    config = importlib.import_module(f"training.configs.{name}").config
    if not isinstance(config, Config):
        raise InvalidInput(f"training/configs/{name}.py must define `config`, a Config")
    return config


def config_names() -> list[str]:
    """The recipes there are, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
