"""Results that are made once and kept, for a training that is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Once = Callable[[str, Callable[[Path], None]], Path]
"""`WorkingFolder.once`."""


def keep(
    once: Once, name: str, make: Callable[[], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """The arrays that `make` gives, or gave before, by name."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **make())  # type: ignore[arg-type]

    with np.load(once(name, write)) as arrays:
        return dict(arrays)
