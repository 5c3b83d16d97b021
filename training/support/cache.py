"""A cache on disk: results of long computations, for a training that is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.support.files import atomic_path

Arrays = dict[str, NDArray[Any]]
"""Arrays by name, as `numpy.savez` stores them."""


class DiskCache:
    """Files and folders that are computed once; each is complete or absent.

    Attributes:
        folder: Where they are. It must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, create: Callable[[Path], object]) -> Path:
        """Return the file or folder `name`, created by `create(path)` if it is absent."""
        path = self.folder / name
        if not path.exists():
            with atomic_path(path) as partial:
                create(partial)
        return path

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays in the file `name`, from `compute()` if it is absent."""

        def write(path: Path) -> None:
            with path.open("wb") as file:  # given a path, savez might append a suffix
                np.savez(file, **compute())  # type: ignore[arg-type]

        with np.load(self.path(name, write)) as arrays:
            return dict(arrays)
