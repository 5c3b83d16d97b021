"""Download, verify and unpack the original IMDB archive.

Source: Large Movie Review Dataset v1.0 (Maas et al., 2011),
https://ai.stanford.edu/~amaas/data/sentiment/. The digest below is the one in the checksum lists of
TensorFlow Datasets, with a size of 84,125,825 bytes.
"""

import contextlib
import hashlib
import http.client
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from rich.progress import DownloadColumn, Progress

from app.errors import DataError
from training.support.files import scratch_folder
from training.support.progress import progress_bar

IMDB_URL: Final = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_SHA256: Final = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
IMDB_FOLDER: Final = "aclImdb"
_ARCHIVE: Final = "aclImdb_v1.tar.gz"
_NEEDED_FOLDERS: Final = ("train/pos", "train/neg", "test/pos", "test/neg")
_CHUNK_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 3
Opener = Callable[[urllib.request.Request], Any]
"""Sends a request and returns the response: `urllib.request.urlopen` or a substitute."""


def fetch_imdb(
    destination: Path,
    *,
    archive: Path | None = None,
    url: str = IMDB_URL,
    sha256: str = IMDB_SHA256,
    opener: Opener | None = None,
) -> Path:
    """Create the folder `aclImdb` in `destination`, from the network or from a local archive.

    An interrupted download resumes where it stopped, up to three attempts. All files are written
    to a hidden folder that is renamed at the end or removed. A progress bar is shown when standard
    error is a terminal.

    Args:
        destination: The folder to unpack into; created if missing.
        archive: A local `aclImdb_v1.tar.gz`; it is not modified.
        url: URL of the archive.
        sha256: The expected digest, as hexadecimal digits.
        opener: Sends a request.

    Returns:
        `destination/aclImdb`. An existing complete folder is returned unchanged.

    Raises:
        DataError: The download failed, the archive is invalid or the disk is full; nothing is left
            behind.
    """
    target = destination / IMDB_FOLDER
    if target.exists():
        if missing := _missing_folder(target):
            raise DataError(f"{target}: the folder exists but lacks {missing}; move it away first")
        return target
    if archive is not None and not archive.is_file():
        raise DataError(f"{archive}: there is no such file; --archive takes {_ARCHIVE}")

    with _scratch(target) as scratch, progress_bar(count=DownloadColumn()) as progress:
        if archive is None:
            archive = scratch / _ARCHIVE
            _download(url, archive, progress, opener or _open)
        _verify(archive, sha256, progress)
        _unpack(archive, scratch / "unpacked", progress)
        unpacked = scratch / "unpacked" / IMDB_FOLDER
        if missing := _missing_folder(unpacked):
            raise DataError(
                f"{archive.name}: the archive must hold {IMDB_FOLDER} with "
                f"{', '.join(_NEEDED_FOLDERS)}. Received: no {missing}"
            )
        unpacked.rename(target)
    return target


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Create a temporary folder beside `target`; an `OSError` in it becomes a `DataError`."""
    try:
        with scratch_folder(target) as scratch:
            yield scratch
    except OSError as error:
        raise DataError(f"{target.parent}: cannot be written: {error.strerror or error}") from error


def _open(request: urllib.request.Request) -> Any:
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 - checked in _download


def _download(url: str, path: Path, progress: Progress, opener: Opener) -> None:
    if not url.startswith(("https://", "http://")):
        raise DataError(f"the address must begin with https:// or http://. Received: {url}")
    task = progress.add_task("Downloading", total=None)
    reason = ""
    with path.open("wb") as file:
        for _ in range(_ATTEMPTS):
            try:
                _download_rest(url, file, progress, task, opener)
            except urllib.error.HTTPError as error:
                reason = f"the server answered {error.code} {error.reason}"
                error.close()
                break
            except urllib.error.URLError as error:
                reason = getattr(error.reason, "strerror", None) or str(error.reason)
            except (http.client.HTTPException, OSError) as error:
                reason = str(error) or type(error).__name__
            else:
                return
    raise DataError(
        f"{url} could not be downloaded: {reason}. Without network access, download "
        f"{_ARCHIVE} on another machine, copy it here, and run the command again "
        "with --archive FILE"
    )


def _download_rest(
    url: str, file: IO[bytes], progress: Progress, task: Any, opener: Opener
) -> None:
    """Request the rest of `file`; start over if the server ignores the range."""
    headers = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked in _download
    with opener(request) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            file.seek(0)
            file.truncate()
        length = response.headers.get("Content-Length")
        total = None if length is None else file.tell() + int(length)
        progress.update(task, completed=file.tell(), total=total)
        while chunk := response.read(_CHUNK_BYTES):
            _write(file, chunk)
            progress.update(task, completed=file.tell())
    if total is not None and file.tell() < total:
        raise ConnectionError(f"the connection closed after {file.tell():,} of {total:,} bytes")


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write a chunk; a full disk is not a broken connection."""
    try:
        file.write(chunk)
    except OSError as error:
        raise DataError(f"{file.name}: cannot be written: {error.strerror}") from error


def _verify(archive: Path, sha256: str, progress: Progress) -> None:
    digest = hashlib.sha256()
    with progress.open(archive, "rb", description="Verifying") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise DataError(
            f"{archive.name}: the sha256 of the archive must be {sha256}. "
            f"Received: {digest.hexdigest()} over {archive.stat().st_size:,} bytes; "
            "download it again"
        )


def _unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Unpack with the "data" filter of tarfile: only files and folders inside `folder`."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("unpacking needs Python 3.11.4 or newer, for tarfile's data filter")
    try:
        with (
            progress.open(archive, "rb", description="Unpacking") as file,
            tarfile.open(fileobj=file, mode="r|gz") as tar,
        ):
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive.name}: the archive cannot be unpacked: {error}") from error


def _missing_folder(folder: Path) -> str | None:
    return next((name for name in _NEEDED_FOLDERS if not (folder / name).is_dir()), None)
