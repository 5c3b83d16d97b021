"""The choice of the waiting items that form one batch."""

from collections.abc import Sequence
from typing import Final

LEAST_FILL: Final = 0.9
"""The least ratio of real tokens to padded tokens in a batch. Measured with the lengths of real
reviews: below it another row costs more than it saves, above it batches stay too small."""

FREE_PADDING: Final = 8
"""Padding per row that is always allowed, in tokens: the fixed cost of a run hides it."""


def choose_batch(
    lengths: Sequence[int], *, preferred: int, max_items: int, max_tokens: int
) -> list[int]:
    """Choose the oldest item and the items nearest to it in length.

    Every row of a batch is padded to the longest, and padding costs as much as real tokens. So the
    batch grows, nearest length first, by every item with which it still keeps `LEAST_FILL` or has
    at most `FREE_PADDING` tokens of padding per row. The oldest item is always chosen, whatever
    its length, so that no item starves.

    Args:
        lengths: The lengths of the waiting items in tokens, oldest first; at least one.
        preferred: How many of them, counted from the oldest, are chosen before the others,
            whatever their lengths. The others fill the remaining rows.
        max_items: The most rows.
        max_tokens: The most padded tokens (rows times the longest). The oldest item is chosen
            even if it alone exceeds this.

    Returns:
        Positions in `lengths`: the oldest, then the preferred by distance in length, then the
        others by distance; among equals the older first.

    Source:
        Sorting by length under a token budget: text-embeddings-inference, issue 65.
    """
    anchor = longest = real = lengths[0]
    chosen = [0]
    # Stable sorts by precomputed integers: this runs for every batch.
    distances = [abs(length - anchor) for length in lengths]
    candidates = sorted(range(1, preferred), key=distances.__getitem__)
    candidates += sorted(range(preferred, len(lengths)), key=distances.__getitem__)
    # If a length does not fit, no length farther from the oldest on the same side does.
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
