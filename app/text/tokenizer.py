"""From a normalised text to tokens: words of every script, `!` and `?`."""

import re
from typing import Final

from app.text.characters import IDEOGRAPH_RANGES, WORD_RANGES, character_class

_WORD: Final = character_class(WORD_RANGES)
_IDEOGRAPH: Final = character_class(IDEOGRAPH_RANGES)

# A word may hold apostrophes ("didn't" is one word) but neither begins nor ends with one.
STANDARD_PATTERN: Final = f"[{_WORD}]+(?:'[{_WORD}]+)*|[!?]|[{_IDEOGRAPH}]"


class Tokenizer:
    """Finds the tokens of a text; whatever stands between them separates and is dropped.

    Attributes:
        pattern: One token, without capturing groups, in the common subset of `re` and RE2.
    """

    def __init__(self, pattern: str = STANDARD_PATTERN) -> None:
        self.pattern = pattern
        self._find = re.compile(pattern).findall

    def __call__(self, text: str) -> list[str]:
        """The tokens of `text` in order. Linear in its length."""
        return self._find(text)
