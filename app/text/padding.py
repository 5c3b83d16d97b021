"""Rows of unequal length into one rectangle."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.text.vocabulary import PAD

Int32Array = NDArray[np.int32]


def pad_rows(rows: Sequence[Int32Array], *, width: int, pad_id: int = PAD) -> Int32Array:
    """Lay token rows of unequal length into one rectangle.

    Padding goes on the right, because the exported models mask it there.

    Args:
        rows: One row of ids per text, each int32 of shape (length_i,), with
            1 <= length_i <= width. Left unchanged.
        width: Columns of the result, in tokens.
        pad_id: The id that stands for "no token".

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
