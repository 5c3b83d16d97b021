"""What a recipe makes of a text before the vocabulary: cleaning, and where it is cut.

All of it is expressed in `TextConfig`, which travels with the model, so that the service and the
exported graph do the same.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from app.errors import DataError
from app.text.encoder import TextConfig, TextEncoder
from app.text.normalizer import NON_ASCII, Rewrite
from app.text.padding import Int32Array
from app.text.vocabulary import Vocabulary
from training.config import Config
from training.data.corpus import Corpus
from training.support.progress import track

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
    return TextConfig(max_length=2, head=0, **_CLEANINGS[config.text.cleaning])


def text_config(config: Config, tokens: Sequence[int]) -> TextConfig:
    """How a recipe makes rows of ids.

    Args:
        config: The recipe.
        tokens: How many tokens each training text has.
    """
    length = config.text.max_length
    if config.text.length_rule == "deviations":
        length = 1 + max(1, math.ceil(np.mean(tokens) + _DEVIATIONS * np.std(tokens)))
    heads = {
        "pre": 0,
        "post": length - 1,
        "head_tail": config.text.head_tokens * length // config.text.max_length,
    }
    return TextConfig(
        max_length=length, head=heads[config.text.truncation], **_CLEANINGS[config.text.cleaning]
    )


def build_encoder(config: Config, texts: Sequence[str]) -> TextEncoder:
    """The tokenizer of a recipe, its vocabulary counted on `texts`."""
    tokenize = TextEncoder(tokenizing_config(config), Vocabulary(())).tokenize
    lengths = []

    def tokens() -> Iterator[list[str]]:
        for text in track(texts, "Counting words"):
            found = tokenize(text)
            lengths.append(len(found))
            yield found

    vocabulary = Vocabulary.build(
        tokens(), size=config.text.vocabulary_size, min_count=config.text.min_count
    )
    if not vocabulary.words:
        raise DataError(
            f"a word must stand at least {config.text.min_count} times in the training texts, the "
            "recipe's min_count. Received: none that does"
        )
    return TextEncoder(text_config(config, lengths), vocabulary)


def encode(encoder: TextEncoder, corpus: Corpus, description: str) -> list[Int32Array]:
    """The ids of each text of a corpus, in order."""
    return [encoder.encode(text).ids for text in track(corpus.texts(), description)]
