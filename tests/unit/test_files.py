"""Atomic writes: a result is complete or absent, and nothing else is touched."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.errors import CannotWrite, DataError, InvalidInput
from tests.server import ROOT
from training.support import files
from training.support.files import atomic_folder, atomic_path, exchange, explained_writes


def contents(folder: Path) -> dict[str, bytes]:
    """The relative path and content of every file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def fail_after_writing(path: Path, *, replaces: str | None = "run.json") -> None:
    """Be interrupted between writing a folder and its end."""
    with atomic_folder(path, replaces=replaces) as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder `run` with an earlier result."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("earlier")
    return folder


def test_a_failure_leaves_the_earlier_result(earlier: Path) -> None:
    """If the block raises, the earlier result stays, with nothing beside it."""
    with pytest.raises(KeyboardInterrupt):
        fail_after_writing(earlier)
    assert contents(earlier.parent) == {"run/run.json": b"earlier"}
    assert list(earlier.parent.iterdir()) == [earlier]


def test_a_result_replaces_the_earlier_one(earlier: Path) -> None:
    """At the end of the block the folder has the new content only, with nothing beside it."""
    with atomic_folder(earlier, replaces="run.json") as partial:
        (partial / "new").write_text("new")
        assert contents(earlier) == {"run.json": b"earlier"}
    assert contents(earlier.parent) == {"run/new": b"new"}
    assert list(earlier.parent.iterdir()) == [earlier]


def test_a_result_is_readable_by_others(tmp_path: Path) -> None:
    """A new folder has the usual permissions: the service may run as another user."""
    with atomic_folder(tmp_path / "1"):
        pass
    assert (tmp_path / "1").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("replaces", [None, "run.json"])
@pytest.mark.parametrize("target", ["thesis", "thesis/inner/..", "thesis/file.txt"])
def test_anything_else_is_never_touched(tmp_path: Path, replaces: str | None, target: str) -> None:
    """A folder or file that is no earlier result is refused before the block runs."""
    (tmp_path / "thesis" / "inner").mkdir(parents=True)
    (tmp_path / "thesis" / "file.txt").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(InvalidInput, match="which exists"),
        atomic_folder(tmp_path / target, replaces=replaces),
    ):
        pytest.fail("the block runs")
    assert sorted(tmp_path.rglob("*")) == before


def write_twice(folder: Path) -> None:
    """Write a folder while another writer begins and finishes."""
    with atomic_folder(folder) as first:
        (first / "first").touch()
        with atomic_folder(folder) as second:
            (second / "second").touch()


def test_two_writers_of_a_new_folder(tmp_path: Path) -> None:
    """The first one to finish wins; the other fails and changes nothing."""
    with pytest.raises(OSError, match="not empty"):
        write_twice(tmp_path / "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "second"]


def test_created_parents_are_removed_after_a_failure(tmp_path: Path) -> None:
    """A failure leaves no empty parents behind."""
    with pytest.raises(KeyboardInterrupt):
        fail_after_writing(tmp_path / "models" / "lstm" / "1")
    assert list(tmp_path.iterdir()) == []


def write_half(path: Path) -> None:
    """Be interrupted while a file is written."""
    with atomic_path(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt


def test_a_file_is_replaced_when_complete(tmp_path: Path) -> None:
    """Until the block ends, readers see the old file; after a failure too."""
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert (partial.suffix, path.read_text()) == (".keras", "old")
    assert contents(tmp_path) == {"model.keras": b"new"}


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """What a killed process left at the temporary path is not mixed with the new result."""
    path = tmp_path / "vectors.npz"
    with atomic_path(path) as partial:
        partial.write_text("old")
    partial.mkdir()
    (partial / "left").touch()
    with atomic_path(path) as partial:
        partial.write_text("new")
    assert contents(tmp_path) == {"vectors.npz": b"new"}


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """A scratch folder that no process has locked is removed by the next writer beside it."""
    names = (".4.abcd_123.partial", ".5.abcd1234.partial", ".mine.partial", ".5.ABCD1234.partial")
    for name in names:
        (tmp_path / name / "inner").mkdir(parents=True)
    held = os.open(tmp_path / names[0], os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with atomic_folder(tmp_path / "6"):
        pass
    os.close(held)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["6", names[0], *names[2:]])
    with atomic_folder(tmp_path / "7"):
        pass
    assert not (tmp_path / names[0]).exists()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Writing more than 10,000 bytes to a file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk(tmp_path: Path) -> None:
    """One sentence has the path, the reason and what to do; nothing half-written is left."""
    rule = "vectors.npz cannot be written: File too large. Make room there"
    with pytest.raises(CannotWrite, match=rule), atomic_path(tmp_path / "vectors.npz") as path:
        np.savez(path, vectors=np.zeros(5000))
    with (
        pytest.raises(CannotWrite, match="2 cannot be written: File too large"),
        atomic_folder(tmp_path / "2") as folder,
    ):
        (folder / "model.onnx").write_bytes(bytes(20_000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CannotWrite),
        (OSError(errno.EROFS, "Read-only file system"), CannotWrite),
        (RuntimeError("Unable to write: No space left on device"), CannotWrite),
        (ValueError("database or disk is full"), CannotWrite),
        (OSError(errno.ENOENT, "No such file or directory"), FileNotFoundError),
        (DataError("a text must not be empty"), DataError),
        (RuntimeError("out of memory"), RuntimeError),
    ],
)
def test_only_errors_of_the_disk_are_explained(error: Exception, raised: type[Exception]) -> None:
    """Errors of libraries that quote the system are recognized; all others stay what they are."""
    with pytest.raises(raised), explained_writes(Path("run")):
        raise error


@pytest.mark.parametrize("write", [atomic_path, atomic_folder])
def test_content_is_flushed_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object
) -> None:
    """Every file is flushed to disk while its folder still has the temporary name."""
    flushed: list[str] = []
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda descriptor: flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name),
    )
    with write(tmp_path / "result") as partial:  # type: ignore[operator]
        partial.mkdir(exist_ok=True)
        (partial / "weights").write_text("weights")
    assert sorted(flushed) == sorted([partial.name, "weights"])


@pytest.mark.parametrize("atomic", [True, False], ids=["renameat2", "three renames"])
def test_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, atomic: bool) -> None:
    """Each of two folders gets the content of the other, with the system call and without."""
    if not atomic:
        monkeypatch.setattr(files.ctypes, "CDLL", lambda _name: object())
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchange(tmp_path / "one", tmp_path / "other")
    assert contents(tmp_path) == {"one/file": b"other", "other/file": b"one"}


KILL_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
from training.support.files import atomic_folder

target, replaces = Path(sys.argv[1]), sys.argv[2] or None

def write(content):
    with atomic_folder(target, replaces=replaces) as folder:
        for name in ("manifest.json", "model.onnx"):
            (folder / name).write_text(content)

def killed_at(step):
    left = step
    def hook(event, _arguments):
        nonlocal left
        if event == "open" or event.startswith(("os.", "shutil.", "ctypes.", "tempfile.")):
            left -= 1
            if left == -1:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

if replaces:
    write("old")
for step in range(1000):
    child = os.fork()
    if child == 0:
        killed_at(step)
        write("new")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    names = sorted(name for name in os.listdir(target.parent) if not name.startswith("."))
    contents = {path.read_text() for path in target.iterdir()} if names else {"none"}
    count = len(list(target.iterdir())) if names else 0
    print(names, count, *contents)
    if status == 0 or (not replaces and names):
        break
"""


@pytest.mark.parametrize("replaces", ["", "manifest.json"], ids=["export", "evaluate"])
def test_killed_at_any_step(tmp_path: Path, replaces: str) -> None:
    """Kill -9 at any step of writing a version leaves the earlier one or the new one, whole."""
    command = [sys.executable, "-c", KILL_AT_EVERY_STEP, str(tmp_path / "2"), replaces]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    seen = done.stdout.splitlines()
    before = "['2'] 2 old" if replaces else "[] 0 none"
    assert (seen[0], seen[-1]) == (before, "['2'] 2 new")
    assert set(seen) == {before, "['2'] 2 new"}
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    assert len(seen) > 10
