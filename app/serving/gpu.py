"""Whether there is a GPU, found out without the libraries that would use it."""

import os
from collections.abc import Mapping
from pathlib import Path

_DEVICES = Path("/dev")


def sees_gpu(environment: Mapping[str, str] = os.environ, devices: Path = _DEVICES) -> bool:
    """Whether CUDA programs of this process find an NVIDIA GPU.

    They open `/dev/nvidia0` and its like, which a container has only when it was given the GPU.
    `/proc/driver/nvidia` would not do: a container sees that of its host.

    Args:
        environment: `CUDA_VISIBLE_DEVICES` in it, where set, is a list that ends at the first entry
            that is no device, such as `-1`; so nothing, or that, in front hides every GPU.
        devices: The folder of device files.
    """
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    hidden = not first or first.startswith("-") or first == "NoDevFiles"
    return not hidden and any(devices.glob("nvidia[0-9]*"))
