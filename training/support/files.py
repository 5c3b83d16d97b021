"""Files and folders that are either whole or not there."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from app.errors import InvalidInput


def check_target(folder: Path, *, replaces: str | None = None) -> Path:
    """The absolute path of a folder that `written_aside` may write.

    Raises:
        InvalidInput: There is something at `folder` that may not be replaced.
    """
    folder = folder.resolve()
    if folder.exists() and not (replaces and (folder / replaces).is_file()):
        rule = f"a new folder or one that holds {replaces}" if replaces else "a new folder"
        raise InvalidInput(f"the result must go into {rule}. Received: {folder}, which exists")
    return folder


@contextmanager
def written_aside(folder: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block ends well.

    It stands beside `folder` under a hidden name of its own, so that a rename is all that remains
    to do. When the block raises, it is removed and everything is as it was.

    Args:
        folder: Where the result goes.
        replaces: A folder that holds this file is an earlier result and may be replaced. Without
            it, and for any other folder, what exists is never touched.

    Raises:
        InvalidInput: There is something at `folder` that may not be replaced.
    """
    folder = check_target(folder, replaces=replaces)
    missing = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    aside.chmod(0o755)  # readable for the service, as any folder is; mkdtemp's are private
    try:
        yield aside
        if folder.exists() and replaces:
            _replace(folder, aside)
        else:
            aside.rename(folder)  # fails where somebody else was faster
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # not empty: the result is in it
                parent.rmdir()


def _replace(folder: Path, aside: Path) -> None:
    """Move the earlier result out of the way, the new one in, and only then delete."""
    earlier = aside.with_suffix(".earlier")
    folder.rename(earlier)
    aside.rename(folder)
    shutil.rmtree(earlier)


_AT_FDCWD: Final = -100  # of fcntl.h: paths count from the working directory


_RENAME_EXCHANGE: Final = 2  # of linux/fs.h


def exchange(one: Path, other: Path) -> None:
    """Let two folders exchange their names.

    In one step on Linux, where its file system can, so that both names are always there; elsewhere
    in three, between which `other` is missing for a moment.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    if rename and rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    spare = one.with_suffix(".earlier")
    other.rename(spare)
    one.rename(other)
    spare.rename(one)
