"""The vocabulary: tokens to ids and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

from app.errors import InvalidInput

PAD: Final = 0
"""Padding: "no token"."""
UNKNOWN: Final = 1
"""Every token that is not in the vocabulary."""
BEGIN: Final = 2
"""The first id of every row, so that no row is empty."""
FIRST_WORD: Final = 3
SPECIAL_IDS: Final = {"pad": PAD, "unknown": UNKNOWN, "begin": BEGIN, "first_word": FIRST_WORD}
"""As `tokenizer.json` has them, for readers in other languages."""


class Vocabulary:
    """The words with an id. The word at position `i` has the id `FIRST_WORD + i`.

    Attributes:
        words: The words, most frequent first.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Index `words`.

        Raises:
            InvalidInput: A word occurs twice.
        """
        self.words = tuple(words)
        self._id_of = {word: FIRST_WORD + index for index, word in enumerate(self.words)}
        if len(self._id_of) != len(self.words):
            repeated = len(self.words) - len(self._id_of)
            raise InvalidInput(
                f"the words of a vocabulary must be unique. Received: {repeated} duplicates"
            )

    @classmethod
    def build(
        cls, token_rows: Iterable[Sequence[str]], *, size: int, min_count: int = 1
    ) -> "Vocabulary":
        """Build a vocabulary from the most frequent tokens of a corpus.

        Args:
            token_rows: The tokens of each text.
            size: The most words, without the special ids.
            min_count: Tokens with fewer occurrences are excluded.

        Returns:
            The vocabulary. Words of equal frequency are in code-point order, so that the order of
            the corpus does not matter.
        """
        counts: Counter[str] = Counter()
        for tokens in token_rows:
            counts.update(tokens)
        frequent = sorted(
            (word for word, count in counts.items() if count >= min_count),
            key=lambda word: (-counts[word], word),
        )
        return cls(frequent[:size])

    def __len__(self) -> int:
        """The number of ids, including the special ones."""
        return FIRST_WORD + len(self.words)

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """The id of each token; `UNKNOWN` for tokens without one."""
        return list(map(self._id_of.get, tokens, repeat(UNKNOWN)))

    def count_unknown(self, tokens: Sequence[str]) -> int:
        """How many tokens have no id."""
        return len(tokens) - sum(map(self._id_of.__contains__, tokens))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word of each id, for display."""
        special = {PAD: "[PAD]", UNKNOWN: "[UNK]", BEGIN: "[BEGIN]"}
        return [special.get(i) or self.words[i - FIRST_WORD] for i in ids]
