"""Facts about the machine, without which a measurement means nothing."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]

_PACKAGES: Final = (
    *("onnxruntime", "tensorflow", "numpy", "fastapi", "starlette", "uvicorn"),
    *("uvloop", "httptools", "pydantic", "prometheus-client"),
)


def bundled_version(model: str) -> Path:
    """The folder of the newest bundled version of a model."""
    folders = [path for path in (ROOT / "models" / model).iterdir() if path.name.isdecimal()]
    return max(folders, key=lambda path: int(path.name))


def describe_machine() -> dict[str, Any]:
    """Collect processor, cores, memory, versions, commit and time."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores() -> float | None:
    """The load average of the last minute: processes that were running or ready to run."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit, followed by `-dirty` if there are uncommitted changes."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:
        done = subprocess.run(  # noqa: S603 - a constant command
            command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
