"""Tables as int8 codes: close to the values, and stable."""

import numpy as np
import pytest

from training.models.layers.int8_table import dequantize, quantize_columns


def test_each_column_has_its_scale() -> None:
    """The largest magnitude of a column is 127 steps; a value is off by half a step at most."""
    table = np.random.default_rng(1).normal(0, [0.01, 1, 100], (50, 3)).astype(np.float32)
    codes, scale = quantize_columns(table)
    assert codes.dtype == np.int8
    assert (np.abs(codes.astype(int)).max(axis=0) == 127).all()
    assert (np.abs(dequantize(codes, scale) - table) <= 0.5001 * scale).all()


@pytest.mark.parametrize("table", [np.zeros((3, 2)), np.zeros((0, 2)), np.eye(4)[:, :3]])
def test_quantizing_again_changes_nothing(table: np.ndarray) -> None:
    """The values of codes have the same codes, those of a table of zeros too."""
    once = dequantize(*quantize_columns(table.astype(np.float32)))
    again = dequantize(*quantize_columns(once))
    np.testing.assert_array_equal(once, again)
