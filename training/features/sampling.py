"""Sampling: what is drawn at random while vectors are learned, the same for the same seed.

Source:
    Negatives by a power of how often they stand: word2vec (Mikolov et al. 2013).
"""

from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

_POWER: Final = 0.75


def table_of_negatives(counts: NDArray[np.int64], *, most: int) -> NDArray[np.int32]:
    """A table from which each thing is drawn as often as it should be a negative.

    Args:
        counts: How often each thing stands, (things,); those of 0 are never drawn.
        most: Rows of the table at most; there are 64 for each thing where that is less.

    Returns:
        Numbers of things, int32 (rows,).
    """
    rows = min(most, 64 * len(counts))
    frequency = np.cumsum(counts**_POWER)
    drawn = (np.arange(rows) + 0.5) / rows
    table: NDArray[np.int32] = np.searchsorted(frequency, drawn * frequency[-1]).astype(np.int32)
    return table


@numba.njit
def next_number(s: Any) -> Any:
    """The next number of xorshift64 (Marsaglia 2003)."""
    s ^= s << np.uint64(13)
    s ^= s >> np.uint64(7)
    s ^= s << np.uint64(17)
    return s
