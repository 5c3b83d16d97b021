"""What a process and its children took of the machine, read from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")

# Positions behind the name in /proc/<pid>/stat, whose fields proc(5) counts from 1 with the
# process id first and the name second.
_PARENT, _USER, _SYSTEM, _WAITED_USER, _WAITED_SYSTEM, _RESIDENT = (
    field - 3 for field in (4, 14, 15, 16, 17, 24)
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and all its children.

    Attributes:
        cpu_s: Processor time since it began; that of children that ended is in it.
        resident_bytes: Memory now. What processes share is counted once, where the system tells.
        resident_sum_bytes: Memory now, what processes share counted for each of them.
        processes: How many there are.
    """

    cpu_s: float
    resident_bytes: int
    resident_sum_bytes: int
    processes: int


def read_usage(pid: int, proc: Path = PROC) -> Usage | None:
    """What `pid` and its children took; None where the system does not tell."""
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
    )


def _family(pid: int, table: dict[int, list[str]]) -> dict[int, list[str]]:
    """The fields of a process and of everything below it."""
    found: dict[int, list[str]] = {}
    wanted = {pid} & table.keys()
    while wanted:
        found |= {member: table[member] for member in wanted}
        wanted = {child for child, fields in table.items() if int(fields[_PARENT]) in wanted}
    return found


def _read_stat(folder: Path) -> list[str]:
    """The fields behind the name, which may itself hold spaces; none if the process is gone."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _read_share(folder: Path) -> int | None:
    """Bytes of a process, of each shared page only its share; None where the system is silent."""
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
