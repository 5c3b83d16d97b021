"""Make a virtual environment smaller: remove what the service never reads.

    python -m k8s.image.slim SITE_PACKAGES

Runs while the image is built, on the standard library alone, and prints what each step saved.
"""

import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UNREAD: Final = {
    "**/tests": "tests of packages",
    "**/*.p[xy][dix]": "types for checkers, and sources of Cython",
    "**/*.a": "static libraries",
    "numpy/_core/include": "headers of C",
    "numpy/f2py": "wraps Fortran",
    "numpy/distutils": "builds extensions",
    "numpy/random": "the service draws no random numbers; NumPy imports it when it is asked for",
    "onnxruntime/capi/libonnxruntime.so.*": "for programs in C; the extension has it, too",
    "onnxruntime/quantization": "makes models",
    "onnxruntime/tools": "makes models",
    "onnxruntime/transformers": "makes models",
    "setuptools*": "installs packages",
    "_distutils_hack": "of setuptools",
    "distutils-precedence.pth": "of setuptools",
}
"""What is removed, by glob, and why."""

_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_HEADER_BYTES: Final = 64
_SECTIONS: Final = 40  # e_shoff: where the table of sections is, in the header
_SECTION_COUNT: Final = 60  # e_shnum and e_shstrndx


def remove_unread(packages: Path) -> dict[str, int]:
    """Remove what matches `UNREAD`.

    Returns:
        The bytes that each glob saved.
    """
    saved = {}
    for glob in UNREAD:
        saved[glob] = 0
        for path in sorted(packages.glob(glob)):
            saved[glob] += sum(file.lstat().st_size for file in _files(path))
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return saved


def _files(path: Path) -> Iterator[Path]:
    return (each for each in (path, *path.rglob("*")) if not each.is_dir())


def strip(library: Path) -> int:
    """Cut off what follows the last segment of a shared library: debug information and names.

    The loader reads segments only, never the table of sections.

    Returns:
        The bytes saved; 0 if it is no library of 64 bits.
    """
    with library.open("r+b") as file:
        header = bytearray(file.read(_HEADER_BYTES))
        if header[:6] != _ELF64_LITTLE:
            return 0
        (table,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        segments = file.read(size * count)
        end = table + len(segments)
        for at in range(0, len(segments), size):
            offset, _virtual, _physical, length = struct.unpack_from("<QQQQ", segments, at + 8)
            end = max(end, offset + length)
        struct.pack_into("<Q", header, _SECTIONS, 0)
        struct.pack_into("<HH", header, _SECTION_COUNT, 0, 0)
        file.seek(0)
        file.write(header)
        before = library.stat().st_size
        file.truncate(end)
    return before - int(end)


def strip_all(packages: Path) -> int:
    """Strip every shared library. Returns the bytes saved."""
    libraries = (path for path in packages.rglob("*.so*") if path.is_file())
    return sum(strip(path) for path in libraries)


def main() -> None:
    """Slim the folder that is named on the command line."""
    packages = Path(sys.argv[1])
    saved = remove_unread(packages)
    for glob, size in saved.items():
        print(f"{size / 1e6:7.1f} MB  {glob}: {UNREAD[glob]}")
    print(f"{strip_all(packages) / 1e6:7.1f} MB  debug information")


if __name__ == "__main__":
    main()
