"""Atomic writes: a result is complete or absent, whatever ends the process.

Everything is written to a temporary path beside its destination, flushed to disk, and renamed. A
rename within one file system is atomic. A full disk ends in one sentence with the path.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from app.errors import CannotWrite, InvalidInput, ValenceError

_AT_FDCWD: Final = -100
"""From `fcntl.h`: relative paths start at the working directory."""
_RENAME_EXCHANGE: Final = 2
"""From `linux/fs.h`."""
_SCRATCH: Final = re.compile(r"\..+\.[a-z0-9_]{8}\.partial")
"""The names of scratch folders: 8 random characters of `tempfile`."""
_WRITE_ERRORS: Final = {
    code: os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
}
_FULL_DATABASE: Final = "database or disk is full"
"""What SQLite says."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file, or a new folder, atomically.

    For one writer at a time: the temporary path has a fixed name, so that what a killed process
    left behind is removed by the next one.

    Args:
        path: The destination. An existing file is replaced; an existing folder is not.

    Yields:
        Where to write: a path that does not exist, in the same folder and with the same suffix.

    Raises:
        CannotWrite: The disk is full, read-only or broken.
    """
    partial = path.with_name(f".partial.{path.name}")
    remove(partial)
    try:
        with explained_writes(path):
            yield partial
            _flush(partial)
            partial.replace(path)
    finally:
        remove(partial)


@contextmanager
def atomic_folder(folder: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """Write a folder atomically, in place of an earlier result if there is one.

    Args:
        folder: The destination.
        replaces: A folder that contains a file of this name is an earlier result, which may be
            replaced. Nothing else that exists is ever touched.

    Yields:
        An empty folder to write to. If the block raises, it is removed and `folder` is unchanged.

    Raises:
        InvalidInput: `folder` exists and must not be replaced.
        CannotWrite: The disk is full, read-only or broken.
    """
    folder = check_target(folder, replaces=replaces)
    with explained_writes(folder), scratch_folder(folder) as partial:
        yield partial
        _flush(partial)
        if folder.exists() and replaces:
            exchange(partial, folder)  # the earlier result is removed with the scratch folder
        else:
            partial.rename(folder)  # fails if another process has been faster


def check_target(folder: Path, *, replaces: str | None = None) -> Path:
    """Return the absolute path of a folder that `atomic_folder` may write.

    Raises:
        InvalidInput: `folder` exists and must not be replaced.
    """
    folder = folder.resolve()
    if folder.exists() and not (replaces and (folder / replaces).is_file()):
        rule = f"a new folder or one that holds {replaces}" if replaces else "a new folder"
        raise InvalidInput(f"the result must go into {rule}. Received: {folder}, which exists")
    return folder


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Create a hidden temporary folder beside `target`, so that a rename moves results into place.

    Missing parents of `target` are created, and removed again if they are still empty at the end.
    Scratch folders that killed processes left there are removed first.
    """
    missing = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    scratch, lock = _create_locked(target)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)
        remove_empty(missing)


def _create_locked(target: Path) -> tuple[Path, int]:
    """Create a scratch folder and lock it; the lock ends with the process, even if it is killed."""
    while True:
        name = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        lock = lock_folder(Path(name))
        if lock is not None:
            Path(name).chmod(
                0o755
            )  # mkdtemp's are private; the service must be able to read results
            return Path(name), lock


def _remove_abandoned(parent: Path) -> None:
    """Remove the scratch folders that no process has locked."""
    for path in parent.iterdir():
        if _SCRATCH.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # a file system without locks, or another user's
                if (lock := lock_folder(path)) is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)


def lock_folder(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed or the process ends.

    Returns:
        The descriptor; None if another process has the lock or has just removed the folder.
    """
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), folder.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


@contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turn the failure of a disk within the block into `CannotWrite`, which names `path`."""
    try:
        yield
    except ValenceError:
        raise
    except Exception as error:
        reason = find_write_error(error)
        if reason is None:
            raise
        raise CannotWrite(
            f"{path} cannot be written: {reason}. Make room there or name another folder, then run "
            "the same command again"
        ) from error


def find_write_error(error: BaseException | None) -> str | None:
    """Why writing failed; None if this is another error.

    HDF5, TensorFlow and SQLite have exceptions of their own, which quote the system's words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
            return _WRITE_ERRORS[error.errno]
        message = str(error)
        for reason in (*_WRITE_ERRORS.values(), _FULL_DATABASE):
            if reason in message:
                return reason
        error = error.__cause__ or error.__context__
    return None


def exchange(one: Path, other: Path) -> None:
    """Exchange the names of two folders.

    `evaluate` adds test figures to a version that may be in service, and a version that is missing
    for a moment is unloaded by a service that reloads just then. Only the Linux system call
    `renameat2` exchanges two folders atomically, and Python has no function for it. Where the
    system or the file system lacks it, three renames are made, and `other` is missing between the
    first two.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    if rename and rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    spare = one.with_suffix(".earlier")
    other.rename(spare)
    one.rename(other)
    spare.rename(one)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it contains, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` that are empty; list inner folders before outer ones."""
    for folder in folders:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _flush(path: Path) -> None:
    """Flush a file, or every file in a folder, to disk.

    Without this a power failure after the rename may leave a complete name with empty contents.
    """
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
