"""Padding: rows of unequal length into one array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.text.vocabulary import PAD

Int32Array = NDArray[np.int32]


def pad_rows(rows: Sequence[Int32Array], *, width: int, pad_id: int = PAD) -> Int32Array:
    """Pad rows of ids on the right, into one array.

    The exported models mask padding on the right.

    Args:
        rows: One row of ids per text, each int32 of shape (length_i,), with
            1 <= length_i <= width. Left unchanged.
        width: The number of columns of the result.
        pad_id: The id for "no token".

    Returns:
        int32 array of shape (len(rows), width). Row i belongs to rows[i].

    Raises:
        InvalidInput: A row is empty or longer than `width`.
    """
    rectangle = np.full((len(rows), width), pad_id, dtype=np.int32)
    for index, row in enumerate(rows):
        length = len(row)
        if not 1 <= length <= width:
            raise InvalidInput(f"a row must have 1 to {width} ids. Received: {length}")
        rectangle[index, :length] = row
    return rectangle
