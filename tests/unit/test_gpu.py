"""A GPU is seen where CUDA would find one, and nowhere else."""

from pathlib import Path

import pytest

from app.serving.gpu import sees_gpu


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        (("nvidia0", "nvidiactl", "nvidia-uvm"), True),
        (("nvidia3",), True),
        (("nvidiactl", "nvidia-uvm"), False),
        ((), False),
    ],
)
def test_device_files(tmp_path: Path, files: tuple[str, ...], seen: bool) -> None:
    """The device file of a GPU counts; those of the driver alone do not."""
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
def test_hidden(tmp_path: Path, visible: str, seen: bool) -> None:
    """CUDA_VISIBLE_DEVICES hides every GPU when it begins with none."""
    (tmp_path / "nvidia0").touch()
    assert sees_gpu({"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == seen


def test_no_such_folder(tmp_path: Path) -> None:
    """Where there are no device files there is no GPU."""
    assert not sees_gpu({}, tmp_path / "dev")
