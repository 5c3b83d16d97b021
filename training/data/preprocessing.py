"""From a recipe to a `TextEncoder`: cleaning, truncation and vocabulary.

The rules end up in the `TextConfig` of `app.text`, which is exported with the model. So the service
and the exported graph apply the same rules as training.
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
        # Replaced with nothing, so "don't" becomes one word. Any character may start a match, hence
        # the empty needle.
        Rewrite(r"[^A-Za-z0-9 \t\n\r\f\v]", "", ""),
        Rewrite(r"\b[Rr][Tt]\b", "", ""),
    ),
    "pattern": "[a-z0-9]+",
    "aliases": (),
}
_CLEANING_RULES: Final[dict[str, dict[str, Any]]] = {
    "standard": {},
    "alphanumeric": _ALPHANUMERIC,
}
_DEVIATIONS: Final = 2


def tokenizing_config(config: Config) -> TextConfig:
    """The text rules of a recipe for tokenizing alone, without a maximum length."""
    return TextConfig(max_length=2, head=0, **_CLEANING_RULES[config.text.cleaning])


def text_config(config: Config, token_counts: Sequence[int] | Int32Array) -> TextConfig:
    """The text rules of a recipe, with the maximum length and where texts are truncated.

    Args:
        config: The recipe.
        token_counts: Number of tokens in each training text.
    """
    options = config.text
    length = options.max_length
    if options.length_rule == "deviations":
        deviation = _DEVIATIONS * np.std(token_counts)
        length = 1 + max(1, math.ceil(np.mean(token_counts) + deviation))
    heads = {
        "pre": 0,
        "post": length - 1,
        "head_tail": options.head_tokens * length // options.max_length,
    }
    return TextConfig(
        max_length=length, head=heads[options.truncation], **_CLEANING_RULES[options.cleaning]
    )


def build_encoder(config: Config, texts: Sequence[str], pieces: Sequence[str] = ()) -> TextEncoder:
    """Build the encoder of a recipe, with the vocabulary of `texts`.

    Args:
        config: The recipe.
        texts: The training texts.
        pieces: Shorter texts, whose words count `piece_count` times.

    Raises:
        DataError: No word occurs at least `min_count` times.
    """
    tokenize = TextEncoder(tokenizing_config(config), Vocabulary(())).tokenize
    token_counts = []

    def count_tokens() -> Iterator[list[str]]:
        for text in track(texts, "Counting words"):
            tokens = tokenize(text)
            token_counts.append(len(tokens))
            yield tokens
        if config.text.piece_count:
            for piece in track(pieces, "Counting words of pieces"):
                yield tokenize(piece) * config.text.piece_count

    vocabulary = Vocabulary.build(
        count_tokens(), size=config.text.vocabulary_size, min_count=config.text.min_count
    )
    if not vocabulary.words:
        raise DataError(
            f"a word must occur at least {config.text.min_count} times in the training texts (the "
            "recipe's min_count). Received: no such word"
        )
    return TextEncoder(text_config(config, token_counts), vocabulary)


def encode(encoder: TextEncoder, corpus: Corpus, description: str) -> list[Int32Array]:
    """The ids of each text of a corpus, in order.

    Args:
        encoder: Encodes the texts.
        corpus: The texts.
        description: Label of the progress bar.
    """
    return [encoder.encode(text).ids for text in track(corpus.texts(), description)]
