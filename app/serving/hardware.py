"""The hardware this process may use: cores, a container's CPU quota, and GPUs.

Everything is found without importing the libraries that would use it.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")
_DEVICES: Final = Path("/dev")


def visible_cores(cgroup: Path = _CGROUP) -> int:
    """Count the cores this process may use: its CPU affinity, capped by a container's quota.

    A quota is CPU time per period, as `docker run --cpus` and a pod's CPU limit set it. A
    fraction is rounded up: 1.5 cores count as 2.

    Args:
        cgroup: Where a container sees its limits: `cpu.max` (version 2), or `cpu/cpu.cfs_quota_us`
            and `cpu/cpu.cfs_period_us` (version 1).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, _read_quota(cgroup) or cores)


def _read_quota(cgroup: Path) -> int | None:
    """The CPU quota in cores, rounded up; None if there is none."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such files, or the quota is "max"
        return None


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
