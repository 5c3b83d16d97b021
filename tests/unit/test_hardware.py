"""Cores, CPU quotas and GPUs, as the operating system shows them."""

from pathlib import Path

import pytest

from app.serving.hardware import memory_limit, sees_gpu, visible_cores


def write_cgroups(folder: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    """Write files below a mount of cgroups, and the list of this process's cgroups."""
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (folder / "membership").write_text(membership, encoding="utf-8")
    return folder / "cgroup", folder / "membership"


IN_ROOT = "0::/\n"
IN_UNIT = "0::/system.slice/valence.service\n"
UNIT = "system.slice/valence.service"
V1 = "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/box\n"


@pytest.mark.parametrize(
    ("files", "membership", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, IN_ROOT, 2),
        ({"cpu.max": "150000 100000\n"}, IN_ROOT, 2),
        ({"cpu.max": "5000 100000\n"}, IN_ROOT, 1),
        ({"cpu.max": "max 100000\n"}, IN_ROOT, 8),
        ({"cpu.max": "6400000 100000\n"}, IN_ROOT, 8),
        ({"cpu.max": "nonsense"}, IN_ROOT, 8),
        ({"cpu.max": "200000 0"}, IN_ROOT, 8),
        ({}, IN_ROOT, 8),
        ({}, "", 8),
        ({}, "nonsense", 8),
        # systemd's CPUQuota= of the unit, or of the slice above it
        ({f"{UNIT}/cpu.max": "200000 100000\n"}, IN_UNIT, 2),
        ({f"{UNIT}/cpu.max": "max 100000\n", "system.slice/cpu.max": "50000 100000"}, IN_UNIT, 1),
        ({f"{UNIT}/cpu.max": "400000 100000", "system.slice/cpu.max": "300000 100000"}, IN_UNIT, 3),
        ({"user.slice/cpu.max": "100000 100000\n"}, IN_UNIT, 8),
        # a container that sees its cgroup as the root, under the path it has on the host
        ({"cpu.max": "300000 100000\n"}, "0::/kubepods/pod1/box\n", 3),
        # version 1, in a container and in a unit
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, V1, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, V1, 8),
        ({"cpu/box/cpu.cfs_quota_us": "150000", "cpu/box/cpu.cfs_period_us": "50000"}, V1, 3),
    ],
)
def test_cpu_quota(
    files: dict[str, str],
    membership: str,
    cores: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lowest quota of the process's cgroups caps its 8 cores, rounded up to at least one."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert visible_cores(*write_cgroups(tmp_path, files, membership)) == cores


@pytest.mark.parametrize(
    ("files", "membership", "limit"),
    [
        ({"memory.max": "1073741824\n"}, IN_ROOT, 2**30),
        ({"memory.max": "max\n"}, IN_ROOT, None),
        ({}, IN_ROOT, None),
        ({f"{UNIT}/memory.max": "max\n", "system.slice/memory.max": "4096"}, IN_UNIT, 4096),
        ({"memory.max": "8192", f"{UNIT}/memory.max": "4096"}, IN_UNIT, 4096),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, V1, None),
        ({"memory/box/memory.limit_in_bytes": "536870912\n"}, V1, 2**29),
    ],
)
def test_memory_limit(
    files: dict[str, str], membership: str, limit: int | None, tmp_path: Path
) -> None:
    """The lowest memory limit of the process's cgroups holds, in bytes."""
    assert memory_limit(*write_cgroups(tmp_path, files, membership)) == limit


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        (("nvidia0", "nvidiactl", "nvidia-uvm"), True),
        (("nvidia3",), True),
        (("nvidiactl", "nvidia-uvm"), False),
        ((), False),
    ],
)
def test_gpu_device_files(tmp_path: Path, files: tuple[str, ...], seen: bool) -> None:
    """A GPU is seen by its device file; the driver's own device files do not count."""
    for name in files:
        (tmp_path / name).touch()
    assert sees_gpu({}, tmp_path) == seen


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("0", True),
        ("1,0", True),
        ("GPU-8d8c1c2e", True),
        ("MIG-5a1f", True),
        ("", False),
        ("-1", False),
        ("-1,0", False),
        ("NoDevFiles", False),
    ],
)
def test_hidden_gpu(tmp_path: Path, visible: str, seen: bool) -> None:
    """CUDA_VISIBLE_DEVICES hides every GPU if it is empty or its first entry is invalid."""
    (tmp_path / "nvidia0").touch()
    assert sees_gpu({"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == seen


def test_no_device_folder(tmp_path: Path) -> None:
    """Without a folder of device files there is no GPU."""
    assert not sees_gpu({}, tmp_path / "dev")
