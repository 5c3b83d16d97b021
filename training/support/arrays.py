"""Names of array types, once for the whole pipeline."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
Probabilities = NDArray[np.float64]
"""Probabilities of each class, (rows, classes); each row sums to 1."""
