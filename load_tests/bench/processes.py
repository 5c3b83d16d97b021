"""Processor time and memory of a process and its children, read from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")

# Positions of fields after the name in /proc/<pid>/stat. proc(5) numbers the fields from 1; the
# process id is the first, the name the second.
_PARENT, _USER, _SYSTEM, _WAITED_USER, _WAITED_SYSTEM, _THREADS, _RESIDENT = (
    field - 3 for field in (4, 14, 15, 16, 17, 20, 24)
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a process and all its descendants.

    Attributes:
        cpu_s: Processor time since the start, including that of children that have exited.
        resident_bytes: Resident memory, shared pages counted once where the system reports it.
        resident_sum_bytes: Resident memory, shared pages counted for each process.
        processes: The number of processes.
        threads: The threads of all of them.
        descriptors: The open file descriptors of all of them, as far as they may be read.
    """

    cpu_s: float
    resident_bytes: int
    resident_sum_bytes: int
    processes: int
    threads: int = 0
    descriptors: int = 0


def read_usage(pid: int, proc: Path = PROC) -> Usage | None:
    """Read the resources of `pid` and its descendants; None without such a process or /proc."""
    table = {int(path.name): _read_stat(path) for path in proc.glob("[0-9]*")}
    family = _family(pid, {child: fields for child, fields in table.items() if fields})
    if not family:
        return None
    ticks = sum(
        int(fields[position])
        for fields in family.values()
        for position in (_USER, _SYSTEM, _WAITED_USER, _WAITED_SYSTEM)
    )
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    resident = {member: int(fields[_RESIDENT]) * page_bytes for member, fields in family.items()}
    shares = {member: _read_share(proc / str(member)) for member in family}
    return Usage(
        cpu_s=ticks / os.sysconf("SC_CLK_TCK"),
        resident_bytes=sum(shares[member] or resident[member] for member in family),
        resident_sum_bytes=sum(resident.values()),
        processes=len(family),
        threads=sum(int(fields[_THREADS]) for fields in family.values()),
        descriptors=sum(_count_descriptors(proc / str(member)) for member in family),
    )


def _family(pid: int, table: dict[int, list[str]]) -> dict[int, list[str]]:
    """Select a process and its descendants from the table of all processes."""
    found: dict[int, list[str]] = {}
    wanted = {pid} & table.keys()
    while wanted:
        found |= {member: table[member] for member in wanted}
        wanted = {child for child, fields in table.items() if int(fields[_PARENT]) in wanted}
    return found


def _read_stat(folder: Path) -> list[str]:
    """The fields after the name, which may contain spaces; empty if the process has exited."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _count_descriptors(folder: Path) -> int:
    """Open file descriptors; 0 if the process has exited or is another user's."""
    try:
        return sum(1 for _ in (folder / "fd").iterdir())
    except OSError:
        return 0


def _read_share(folder: Path) -> int | None:
    """Proportional set size in bytes, which splits shared pages; None if not available."""
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
