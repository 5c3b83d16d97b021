"""Cores, CPU quotas and GPUs, as the operating system shows them."""

from pathlib import Path

import pytest

from app.serving.hardware import sees_gpu, visible_cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({}, 8),
    ],
)
def test_cpu_quota(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU quota caps the cores, rounded up to at least one; without a quota all 8 count."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert visible_cores(tmp_path) == cores


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
