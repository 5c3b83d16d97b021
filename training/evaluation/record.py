"""Record test metrics in a version that may be in service, atomically.

A version never changes while it is being read: the metrics are written into a complete copy, and
the two folders are swapped. The model files are the same bytes in both.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.artifact import MANIFEST, REPORT, Manifest, verify_files, write_manifest
from training.reports.report import Report, write_report
from training.support.files import atomic_folder


def record_test(
    folder: Path,
    manifest: Manifest,
    metrics: Mapping[str, Mapping[str, float]],
    split: Mapping[str, Any],
) -> None:
    """Add the metrics of the test split to the manifest and the report of a version.

    Args:
        folder: `models/<name>/<version>`.
        manifest: The manifest in that folder.
        metrics: `metrics[engine][name]`.
        split: The details of the split, from `training.reports.report.describe_split`.

    Raises:
        UnusableVersion: The version changed after its manifest was read.
        DataError: Its report cannot be read.
    """
    with atomic_folder(folder, replaces=MANIFEST) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        verify_files(partial, manifest)  # never record new digests for altered files
        report = Report.read(partial / REPORT).with_split("test", split, metrics)
        shutil.rmtree(partial / REPORT)
        write_report(partial / REPORT, report)
        engines = {engine: dict(scores) for engine, scores in metrics.items()}
        write_manifest(
            partial, manifest.model_copy(update={"metrics": {**manifest.metrics, "test": engines}})
        )
