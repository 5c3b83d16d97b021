"""What is left out of the image."""

import shutil
import subprocess
import sys
from pathlib import Path

import httptools.parser.parser as extension
import pytest

from k8s.image.slim import remove_unread, strip, strip_all


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_unread_files_go(tmp_path: Path) -> None:
    """What the service never reads goes, all else stays, and the savings are told."""
    write(tmp_path / "numpy" / "lib" / "tests" / "test_io.py", 10)
    write(tmp_path / "numpy" / "lib" / "tests" / "data" / "x.npy", 5)
    write(tmp_path / "numpy" / "lib" / "_io.pyi", 3)
    write(tmp_path / "numpy" / "lib" / "_io.py", 1)
    write(tmp_path / "setuptools-80.dist-info" / "METADATA", 2)
    write(tmp_path / "onnxruntime" / "capi" / "libonnxruntime.so.1.31.1", 7)
    write(tmp_path / "onnxruntime" / "capi" / "state.so", 1)
    saved = remove_unread(tmp_path)
    assert {glob: size for glob, size in saved.items() if size} == {
        "**/tests": 15,
        "**/*.p[xy][dix]": 3,
        "setuptools*": 2,
        "onnxruntime/capi/libonnxruntime.so.*": 7,
    }
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["numpy/lib/_io.py", "onnxruntime/capi/state.so"]


@pytest.mark.skipif(sys.platform != "linux", reason="libraries of Linux")
def test_stripped_library_works(tmp_path: Path) -> None:
    """A stripped library is smaller and can be imported; stripped again, it stays as it is."""
    original = Path(extension.__file__)
    library = tmp_path / original.name
    shutil.copy2(original, library)
    saved = strip_all(tmp_path)
    assert saved == original.stat().st_size - library.stat().st_size > 0
    assert strip(library) == 0
    script = "import httptools.parser.errors, parser; print(parser.HttpRequestParser.__name__)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_files_are_not_stripped(tmp_path: Path) -> None:
    """What is no library stays as it is."""
    (tmp_path / "text.so").write_text("GROUP ( libc.so.6 )" * 10)
    before = (tmp_path / "text.so").read_bytes()
    assert strip_all(tmp_path) == 0
    assert (tmp_path / "text.so").read_bytes() == before
