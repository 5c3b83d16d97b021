"""What a recipe makes of a text before the vocabulary: cleaning, and where it is cut.

All of it is expressed in `TextConfig`, which travels with the model, so that the service and the
exported graph do the same.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from app.text.encoder import TextConfig
from app.text.normalizer import NON_ASCII, Rewrite
from training.config import Config

_ALPHANUMERIC: Final[dict[str, Any]] = {
    "rewrites": (
        Rewrite("[\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]", " ", NON_ASCII),
        # Not a space: "don't" becomes one word. Any character may begin a match: look for "".
        Rewrite(r"[^A-Za-z0-9 \t\n\r\f\v]", "", ""),
        Rewrite(r"\b[Rr][Tt]\b", "", ""),
    ),
    "pattern": "[a-z0-9]+",
}
_CLEANINGS: Final[dict[str, dict[str, Any]]] = {"standard": {}, "alphanumeric": _ALPHANUMERIC}

_DEVIATIONS: Final = 2


def tokenizing_config(config: Config) -> TextConfig:
    """How a recipe makes tokens; where it cuts a text is left open."""
    return TextConfig(max_length=2, head=0, **_CLEANINGS[config.cleaning])


def text_config(config: Config, tokens: Sequence[int]) -> TextConfig:
    """How a recipe makes rows of ids.

    Args:
        config: The recipe.
        tokens: How many tokens each training text has.
    """
    length = config.max_length
    if config.length_rule == "deviations":
        length = 1 + max(1, math.ceil(np.mean(tokens) + _DEVIATIONS * np.std(tokens)))
    heads = {
        "pre": 0,
        "post": length - 1,
        "head_tail": config.head * length // config.max_length,
    }
    return TextConfig(
        max_length=length, head=heads[config.truncation], **_CLEANINGS[config.cleaning]
    )
