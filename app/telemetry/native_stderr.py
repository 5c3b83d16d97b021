"""What C++ libraries write straight to file descriptor 2, as events of the log."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Final

_STDERR: Final = 2
_COLOUR: Final = re.compile(rb"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def logged_stderr(logger: logging.Logger) -> Iterator[None]:
    """Log each line that is written to stderr inside the context, when the context ends.

    For a library's import: before it is done, no log level can be set. Meant for short contexts
    in which no other thread writes to stderr; a process that dies in it loses the lines.
    """
    with _open_buffer() as buffer:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(_STDERR)
        os.dup2(buffer.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            buffer.seek(0)
            for line in _COLOUR.sub(b"", buffer.read()).decode(errors="replace").splitlines():
                logger.warning("a library wrote to stderr", extra={"line": line})


def _open_buffer() -> BinaryIO:
    """A file without a name; in memory where possible, as a container may have no disk to write."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")  # noqa: PTH123 there is no path
    return tempfile.TemporaryFile()
