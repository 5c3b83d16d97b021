"""Padding of rows."""

import numpy as np
import pytest

from app.errors import InvalidInput
from app.text.padding import pad_rows


def test_right_padded() -> None:
    """Row i is rows[i], followed by the pad id."""
    rows = [np.array([2, 5, 6], np.int32), np.array([2], np.int32)]
    assert pad_rows(rows, width=4, pad_id=0).tolist() == [[2, 5, 6, 0], [2, 0, 0, 0]]


@pytest.mark.parametrize("length", [0, 3])
def test_length_of_a_row(length: int) -> None:
    """An empty row, and one that is too long, are errors with the rule and the length."""
    with pytest.raises(InvalidInput, match=f"1 to 2 ids. Received: {length}"):
        pad_rows([np.zeros(length, np.int32)], width=2)
