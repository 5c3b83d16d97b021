"""Tables of vectors as int8 codes, with a scale for each column.

A model's tables are nearly all of its size. A code is a whole number from -127 to 127; times the
scale of its column it is the value. The largest magnitude of a column decides its scale.

The SavedModel stores codes in half precision, which holds them exactly, because TensorFlow has no
lookup of int8 on a GPU.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.support.arrays import Float32Array

Codes = NDArray[np.int8]
LARGEST_CODE: Final = 127


def quantize_columns(table: Float32Array) -> tuple[Codes, Float32Array]:
    """Quantize a table with one scale per column, symmetrically: 0 stays 0.

    Quantizing what `dequantize` returned gives the same codes.

    Args:
        table: (rows, columns).

    Returns:
        int8 (rows, columns) and float32 (columns,), whose product approximates `table`.
    """
    scale = np.abs(table).max(axis=0, initial=0) / np.float32(LARGEST_CODE)
    scale[scale == 0] = 1
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def dequantize(codes: NDArray[Any], scale: Float32Array) -> Float32Array:
    """The values of codes, float32 (rows, columns)."""
    values: Float32Array = codes.astype(np.float32) * scale
    return values
