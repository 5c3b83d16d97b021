"""A cache on disk: results of long computations, for a training that is resumed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.support.files import atomic_path, remove
from training.support.interruption import check_interruption
from training.support.progress import print_line

Arrays = dict[str, NDArray[Any]]
"""Arrays by name, as `numpy.savez` stores them."""
_CHUNK_BYTES: Final = 1 << 20


class DiskCache:
    """Files and folders that are computed once; each is complete or absent.

    Their checksums are stored beside them. A file that was damaged since is computed again.

    Attributes:
        folder: Where they are. It must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._intact: set[str] = set()

    def path(self, name: str, create: Callable[[Path], object]) -> Path:
        """Return the file or folder `name`, created by `create(path)` if it is absent."""
        path, stored = self.folder / name, self.folder / f".{name}.crc32"
        if name not in self._intact and path.exists() and not _is_intact(path, stored):
            print_line(f"{path} is damaged and is computed again")
            remove(path)
        if not path.exists():
            check_interruption()
            with atomic_path(path) as partial:
                create(partial)
                # Before the rename: a path without its checksum would count as damaged.
                with atomic_path(stored) as checksum:
                    checksum.write_text(_checksum(partial), encoding="utf-8")
        self._intact.add(name)
        return path

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays in the file `name`, from `compute()` if it is absent."""

        def write(path: Path) -> None:
            with path.open("wb") as file:  # given a path, savez might append a suffix
                np.savez(file, **compute())  # type: ignore[arg-type]

        with np.load(self.path(name, write)) as arrays:
            return dict(arrays)


def _is_intact(path: Path, stored: Path) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        return _checksum(path) == stored.read_text(encoding="utf-8")
    return False


def _checksum(path: Path) -> str:
    """A checksum of a file, or of every file in a folder and their names."""
    checksum = 0
    files = sorted(each for each in path.rglob("*") if each.is_file())
    for each in files if path.is_dir() else [path]:
        name = each.relative_to(path).as_posix()
        checksum = zlib.crc32(name.encode(), checksum)
        with each.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                checksum = zlib.crc32(chunk, checksum)
    return f"{checksum:08x}"
