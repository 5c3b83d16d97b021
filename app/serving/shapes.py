"""Which of the waiting items go into one batch."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

_ALIKE_FACTOR: Final = 2
_ALIKE_TOKENS: Final = 16


def choose_batch(
    lengths: Sequence[int], *, preferred: int, max_items: int, max_tokens: int
) -> list[int]:
    """Choose the oldest item and the items nearest to it in length.

    Every row of a batch is padded to the longest and paid for in full, so a short text beside a
    long one costs as much as a second long one. The oldest item leads, whatever its length: no
    item can be passed over for ever.

    Args:
        lengths: Tokens of the waiting items, oldest first; at least one.
        preferred: How many of them, counted from the oldest, come before the others, whatever
            their lengths. The others fill the rows that are left.
        max_items: Rows at most.
        max_tokens: Padded tokens (rows times the longest) at most. The oldest item is chosen
            even if it alone exceeds this.

    Returns:
        Positions in `lengths`: the oldest, then the preferred by nearness, then the others by
        nearness; among equals the older first.

    Source:
        Sorting by length under a token budget: text-embeddings-inference, issue 65.
    """
    anchor = shortest = longest = lengths[0]
    chosen = [0]

    def distance(index: int) -> int:
        return abs(lengths[index] - anchor)

    candidates = chain(
        sorted(range(1, preferred), key=distance),
        sorted(range(preferred, len(lengths)), key=distance),
    )
    for index in candidates:
        if len(chosen) == max_items:
            break
        low, high = min(shortest, lengths[index]), max(longest, lengths[index])
        if high > _ALIKE_FACTOR * low + _ALIKE_TOKENS or high * (len(chosen) + 1) > max_tokens:
            continue
        chosen.append(index)
        shortest, longest = low, high
    return chosen
