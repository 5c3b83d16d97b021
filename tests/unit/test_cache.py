"""The cache on disk: computed once, complete or absent."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.support.cache import Arrays, DiskCache


def test_a_result_is_created_once(tmp_path: Path) -> None:
    """The second call returns the file of the first one."""
    cache = DiskCache(tmp_path)
    first = cache.path("thing", lambda path: path.write_text("first"))
    assert cache.path("thing", lambda path: path.write_text("second")) == first
    assert first.read_text() == "first"


def test_a_failure_leaves_no_result(tmp_path: Path) -> None:
    """A result whose creation was interrupted is created again."""
    cache = DiskCache(tmp_path)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.path("thing", fail)
    assert not (tmp_path / "thing").exists()
    assert cache.path("thing", lambda path: path.write_text("whole")).read_text() == "whole"


def test_arrays_are_computed_once(tmp_path: Path) -> None:
    """Arrays come from the file the second time, with the same names, types and values."""
    expected = {"ids": np.arange(3, dtype=np.int32), "weights": np.array([[0.1]], np.float32)}

    def fail() -> Arrays:
        pytest.fail("computed again")

    DiskCache(tmp_path).arrays("x.npz", lambda: expected)
    arrays = DiskCache(tmp_path).arrays("x.npz", fail)
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


def write_folder(path: Path) -> None:
    """Write a folder of two files, as a shard is one."""
    path.mkdir()
    for name in ("ids", "ends"):
        (path / name).write_bytes(name.encode() * 1000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "ids").unlink(),
        lambda path: (path / "ids").write_bytes(b"ids" * 999),
        lambda path: (path / "ids").write_bytes(b"sdi" * 1000),
        lambda path: (path / "more").touch(),
        lambda path: (path.parent / ".thing.crc32").unlink(),
        lambda path: (path.parent / ".thing.crc32").write_bytes(b"\xff"),
    ],
    ids=["missing", "cut", "altered", "another file", "no checksum", "damaged checksum"],
)
def test_a_damaged_result_is_created_again(
    tmp_path: Path, damage: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    """The next training computes what was damaged since, and says so."""
    path = DiskCache(tmp_path).path("thing", write_folder)
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    damage(path)
    assert DiskCache(tmp_path).path("thing", write_folder) == path
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before
    assert f"{path} is damaged and is computed again" in capfd.readouterr().err
