"""Record: test figures into a version that may be in service, in one step.

A version never changes under a reader: a complete copy beside it gets the figures, and the two
folders exchange their names. The model's files are the same bytes in both.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.artifact import REPORT, Manifest, verify_files, write_manifest
from training.report import Report, write_report

_AT_FDCWD: Final = -100  # of fcntl.h: paths count from the working directory
_RENAME_EXCHANGE: Final = 2  # of linux/fs.h


def record_test(
    folder: Path,
    manifest: Manifest,
    metrics: Mapping[str, Mapping[str, float]],
    split: Mapping[str, Any],
) -> None:
    """Complete manifest and report of a version with the figures of its test texts.

    Args:
        folder: `models/<name>/<version>`.
        manifest: As it is there now.
        metrics: `metrics[engine][name]`.
        split: By `training.report.describe_split`.

    Raises:
        UnusableVersion: The version was altered since its manifest was read.
        DataError: Its report cannot be read.
    """
    folder = folder.resolve()
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        verify_files(aside, manifest)  # new digests are made of what had the old ones only
        report = Report.read(aside / REPORT).with_split("test", split, metrics)
        shutil.rmtree(aside / REPORT)
        write_report(aside / REPORT, report)
        engines = {engine: dict(scores) for engine, scores in metrics.items()}
        write_manifest(
            aside, manifest.model_copy(update={"metrics": {**manifest.metrics, "test": engines}})
        )
        exchange(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Let two folders exchange their names.

    In one step on Linux, where its file system can, so that both names are always there; elsewhere
    in three, between which `other` is missing for a moment.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    if rename and rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    spare = one.with_suffix(".earlier")
    other.rename(spare)
    one.rename(other)
    spare.rename(one)
