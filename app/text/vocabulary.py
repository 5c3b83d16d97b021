"""From tokens to ids and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

from app.errors import InvalidInput

PAD: Final = 0
"""Stands for "no token": fills the rows of a batch up to one width."""
UNKNOWN: Final = 1
"""Stands for every token that is not in the vocabulary."""
BEGIN: Final = 2
"""Opens every row, so that no row is empty, whatever the text."""
FIRST_WORD: Final = 3


class Vocabulary:
    """The words a model knows. The word at position `i` has the id `FIRST_WORD + i`.

    Attributes:
        words: Most frequent first.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Index `words`.

        Raises:
            InvalidInput: A word is there twice.
        """
        self.words = tuple(words)
        self._id_of = {word: FIRST_WORD + index for index, word in enumerate(self.words)}
        if len(self._id_of) != len(self.words):
            repeated = len(self.words) - len(self._id_of)
            raise InvalidInput(f"the words of a vocabulary must differ; received {repeated} twice")

    @classmethod
    def build(
        cls, token_rows: Iterable[Sequence[str]], *, size: int, min_count: int = 1
    ) -> "Vocabulary":
        """Take the most frequent tokens of a corpus.

        Args:
            token_rows: The tokens of each text.
            size: Words at most, special ids not counted.
            min_count: Tokens that occur fewer times than this are left out.

        Returns:
            The vocabulary; words of one frequency stand in code-point order, so that the same
            corpus in another order gives the same ids.
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
        """How many ids there are, special ids included."""
        return FIRST_WORD + len(self.words)

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """The id of each token, `UNKNOWN` for those that have none."""
        return list(map(self._id_of.get, tokens, repeat(UNKNOWN)))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word of each id, for people who look at what a model read."""
        special = {PAD: "[PAD]", UNKNOWN: "[UNK]", BEGIN: "[BEGIN]"}
        return [special.get(i) or self.words[i - FIRST_WORD] for i in ids]
