"""Record figures in a version that may be in service, atomically.

A version never changes while it is being read: the figures are written into a complete copy, and
the two folders are swapped. The model files are the same bytes in both.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.artifact import MANIFEST, REPORT, Manifest, verify_files, write_manifest
from training.quality.assess import Quality
from training.quality.figures import with_quality
from training.reports.report import Report, write_report
from training.support.files import atomic_folder


def record_test(
    folder: Path,
    manifest: Manifest,
    metrics: Mapping[str, Mapping[str, float]],
    split: Mapping[str, Any],
    quality: Quality | None = None,
) -> None:
    """Add the metrics of the test split to the manifest and the report of a version.

    Args:
        folder: `models/<name>/<version>`.
        manifest: The manifest in that folder.
        metrics: `metrics[engine][name]`.
        split: The details of the split, from `training.reports.report.describe_split`.
        quality: Further figures for the report.

    Raises:
        UnusableVersion: The version changed after its manifest was read.
        DataError: Its report cannot be read.
    """
    engines = {engine: dict(scores) for engine, scores in metrics.items()}
    changed = manifest.model_copy(update={"metrics": {**manifest.metrics, "test": engines}})
    further = quality or Quality()
    _rewrite(
        folder,
        manifest,
        changed,
        lambda report: further.into(report.with_split("test", split, metrics)),
    )


def record_quality(folder: Path, manifest: Manifest, quality: Quality) -> None:
    """Add figures of short texts and capabilities to the report of a version.

    Raises:
        UnusableVersion: The version changed after its manifest was read.
        DataError: Its report cannot be read.
    """
    _rewrite(folder, manifest, manifest, quality.into)


def _rewrite(
    folder: Path, manifest: Manifest, changed: Manifest, change: Callable[[Report], Report]
) -> None:
    """Replace a version by a copy with another manifest and another report."""
    with atomic_folder(folder, replaces=MANIFEST) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        verify_files(partial, manifest)  # never record new digests for altered files
        report = change(Report.read(partial / REPORT))
        shutil.rmtree(partial / REPORT)
        write_report(partial / REPORT, report)
        write_manifest(partial, with_quality(changed, report))
