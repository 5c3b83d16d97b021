"""Record: test figures into a version that may be in service, in one step.

A version never changes under a reader: a complete copy beside it gets the figures, and the two
folders exchange their names. The model's files are the same bytes in both.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.artifact import REPORT, Manifest, verify_files, write_manifest
from training.reports.report import Report, write_report
from training.support.files import exchange


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
        split: By `training.reports.report.describe_split`.

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
