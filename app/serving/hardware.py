"""The hardware this process may use: cores, GPUs, and what cgroups allow of CPU time and memory.

Everything is found without importing the libraries that would use it.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_DEVICES: Final = Path("/dev")
_NO_LIMIT_BYTES: Final = 2**60
"""Version 1 of cgroups states "no limit" as the largest multiple of a page, about 2**63."""


def visible_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Count the cores this process may use: its CPU affinity, capped by CPU quotas.

    A quota is CPU time per period, as `docker run --cpus`, a pod's CPU limit and systemd's
    `CPUQuota=` set it. A fraction is rounded up: 1.5 cores count as 2, and half a core as 1.

    Args:
        cgroups: Where the file systems of cgroups are mounted, version 1 or 2.
        membership: Lists the cgroups of this process, as `/proc/self/cgroup` does.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for group in _groups("cpu", cgroups, membership):
        quota, period = _read_quota(group)
        if quota > 0 and period > 0:
            cores = min(cores, math.ceil(quota / period))
    return cores


def memory_limit(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int | None:
    """The memory that the processes of this container or unit may use together, in bytes.

    Args:
        cgroups: As for `visible_cores`.
        membership: As for `visible_cores`.

    Returns:
        The lowest limit that holds for this process; None if there is none.
    """
    limits = [
        limit
        for group in _groups("memory", cgroups, membership)
        for name in ("memory.max", "memory.limit_in_bytes")
        for limit in _read_numbers(group / name)
        if limit < _NO_LIMIT_BYTES
    ]
    return min(limits, default=None)


def _groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders whose limits hold for this process: its cgroup and the parents of that.

    A container often sees its own cgroup as the root of the mount, while `membership` has the path
    on the host. So folders that do not exist are skipped, and the roots always count.
    """
    paths = {"": "/", controller: "/"}  # of version 2, and of the controller in version 1
    with contextlib.suppress(OSError, ValueError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), path)
    for root, path in ((cgroups, paths[""]), (cgroups / controller, paths[controller])):
        folder = root / path.strip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root) and each.is_dir():
                yield each


def _read_quota(group: Path) -> tuple[int, int]:
    """The CPU time per period of a cgroup, in microseconds each; (-1, -1) if it has no quota."""
    both = _read_numbers(group / "cpu.max")
    if len(both) != 2:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        both = [number for name in names for number in _read_numbers(group / name)]
    return (both[0], both[1]) if len(both) == 2 else (-1, -1)


def _read_numbers(path: Path) -> list[int]:
    """The numbers in a file; none if it does not exist or a word in it, as `max`, is no number."""
    try:
        return [int(word) for word in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return []


def sees_gpu(environment: Mapping[str, str] = os.environ, devices: Path = _DEVICES) -> bool:
    """Whether CUDA programs in this process can find an NVIDIA GPU.

    CUDA opens `/dev/nvidia0` and its siblings, which exist in a container only if it was given a
    GPU. `/proc/driver/nvidia` would be wrong: a container sees the host's.

    Args:
        environment: Read for `CUDA_VISIBLE_DEVICES`, a list that ends at the first invalid entry.
            An empty list, or `-1` in front, hides every GPU.
        devices: The folder of device files.
    """
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    hidden = not first or first.startswith("-") or first == "NoDevFiles"
    return not hidden and any(devices.glob("nvidia[0-9]*"))
