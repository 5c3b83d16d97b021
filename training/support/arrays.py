"""Type aliases of arrays; `Int32Array` is in `app.text.padding`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
Probabilities = NDArray[np.float64]
"""Class probabilities, (rows, classes); each row sums to 1."""
