"""Recipes: one file each. The header states the command, the training time and the accuracy."""

import importlib
import pkgutil
from typing import Final

from app.errors import InvalidInput
from training.config import Config

ALL_TUTORIALS: Final = "all-tutorials"
"""In place of a recipe: train all of `TUTORIALS` and compare them in one table."""

TUTORIALS: Final = (
    "tutorial_bow",
    "tutorial_bow_dropout",
    "tutorial_embedding",
    "tutorial_stacked",
    "tutorial_bidirectional",
    "tutorial_tweets",
)
"""Recipes that reproduce a tutorial, to compare its claim with a measurement. All but the last one
are about IMDB reviews."""


def load_config(name: str) -> Config:
    """The recipe `training/configs/<name>.py`.

    Raises:
        InvalidInput: There is no such recipe; the message lists the recipes.
    """
    known = config_names()
    if name not in known:
        raise InvalidInput(f"a config must be one of {', '.join(known)}. Received: {name!r}")
    config = importlib.import_module(f"training.configs.{name}").config
    if not isinstance(config, Config):
        raise InvalidInput(f"training/configs/{name}.py must define `config`, a Config")
    return config


def config_names() -> list[str]:
    """Names of the recipes, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
