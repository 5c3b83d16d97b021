"""Which worker has which connections, read from /proc without asking the service."""

import contextlib
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_ESTABLISHED: Final = "01"
_LOCAL, _STATE, _INODE = 1, 3, 9  # columns of /proc/net/tcp
_HELPER: Final = b"multiprocessing.resource_tracker"  # beside the workers that uvicorn starts


def workers_of(parent: int) -> list[int]:
    """The process ids of the workers that a supervisor has started."""
    try:
        children = (_PROC / f"{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in children if not _is_helper(int(child))]


def count_connections(workers: list[int], port: int) -> dict[int, int]:
    """How many established connections to `port` each worker holds."""
    wanted = _established(port)
    return {pid: len(_sockets(pid) & wanted) for pid in workers}


def _is_helper(pid: int) -> bool:
    try:
        return _HELPER in (_PROC / f"{pid}/cmdline").read_bytes()
    except OSError:
        return True  # it has ended


def _established(port: int) -> set[str]:
    """The inodes of connections whose local end is `port`."""
    rows = [line.split() for line in (_PROC / "net/tcp").read_text().splitlines()[1:]]
    return {
        row[_INODE]
        for row in rows
        if row[_STATE] == _ESTABLISHED and int(row[_LOCAL].rpartition(":")[2], 16) == port
    }


def _sockets(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    with contextlib.suppress(OSError):  # a descriptor or the process may end meanwhile
        for descriptor in (_PROC / f"{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(descriptor.readlink().name)
    return {name.removeprefix("socket:[").rstrip("]") for name in found if "socket:[" in name}
