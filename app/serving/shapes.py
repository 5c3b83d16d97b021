"""Which of the waiting items go into one batch."""

from collections.abc import Sequence
from typing import Final

LEAST_FILL: Final = 0.9
"""Real tokens of a batch over its padded ones, at least. Measured, with lengths of real reviews:
below it a row added costs more than it saves, above it batches stay too small."""

FREE_PADDING: Final = 8
"""Tokens of padding per row that are always allowed: the price of a run hides them."""


def choose_batch(
    lengths: Sequence[int], *, preferred: int, max_items: int, max_tokens: int
) -> list[int]:
    """Choose the oldest item and the items nearest to it in length.

    Every row of a batch is padded to the longest and paid for in full. So the batch grows, nearest
    length first, by every item with which it still keeps `LEAST_FILL` or has no more than
    `FREE_PADDING` tokens of padding per row. The oldest item leads, whatever its length: no item
    can be passed over for ever.

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
    anchor = longest = real = lengths[0]
    chosen = [0]
    # A stable sort by precomputed integers, because this runs for every batch.
    distances = [abs(length - anchor) for length in lengths]
    candidates = sorted(range(1, preferred), key=distances.__getitem__)
    candidates += sorted(range(preferred, len(lengths)), key=distances.__getitem__)
    # Once a length has not fitted, what is farther from the oldest on the same side cannot fit.
    too_short, too_long = 0, max_tokens + 1
    for index in candidates:
        rows = len(chosen) + 1
        if rows > max_items:
            break
        length = lengths[index]
        if not too_short < length < too_long:
            continue
        width = max(longest, length)
        padded = width * rows
        padding = padded - real - length
        allowed = max((1 - LEAST_FILL) * padded, FREE_PADDING * rows)
        if padded <= max_tokens and padding <= allowed:
            chosen.append(index)
            longest = width
            real += length
        elif length > anchor:
            too_long = length
        else:
            too_short = length
    return chosen
