"""Random draws for learning vectors: fast inside numba, and the same for the same seed.

Source:
    Negative sampling: word2vec (Mikolov et al. 2013).
"""

from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

NEGATIVE_POWER: Final = 0.75
"""Items are drawn in proportion to this power of their count, as in word2vec."""


def build_negatives(counts: NDArray[np.int64], *, max_size: int) -> NDArray[np.int32]:
    """A table of items, each as often as it should be drawn as a negative.

    Args:
        counts: int64 (items,); items with count 0 are never drawn.
        max_size: Length of the table; 64 per item where that is less.

    Returns:
        Indices of items, int32 (size,).
    """
    size = min(max_size, 64 * len(counts))
    frequency = np.cumsum(counts**NEGATIVE_POWER)
    drawn = (np.arange(size) + 0.5) / size
    table: NDArray[np.int32] = np.searchsorted(frequency, drawn * frequency[-1]).astype(np.int32)
    return table


@numba.njit
def next_number(s: Any) -> Any:
    """The next state of xorshift64 (Marsaglia 2003), uint64; it is the random number as well."""
    s ^= s << np.uint64(13)
    s ^= s >> np.uint64(7)
    s ^= s << np.uint64(17)
    return s
