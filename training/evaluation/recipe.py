"""From data to an evaluated version in one command, resumed at the first step that is not done.

The run folder is the record: a run with the same recipe, data and answers of a teacher is not
trained again, and a file beside its model names the version that was exported from it.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from app.errors import DataError, InvalidInput
from training.config import Config
from training.data.dataset import Source
from training.evaluation.evaluate import Evaluation, EvaluationRequest, evaluate_version
from training.export.export import check_labels, export
from training.fit.run import RUN, Run
from training.quality.assess import choose_sets
from training.support.files import atomic_path
from training.support.progress import print_line
from training.train import Inputs, train_run

EXPORTED: Final = "version.json"
"""In a run folder: the version that was exported from it."""


def make_version(
    config: Config,
    source: Source,
    run_folder: Path,
    models: Path,
    *,
    new_labels: bool = False,
    short: Path | None = None,
    **options: Any,
) -> tuple[Path, Evaluation]:
    """Train a recipe, export it and score the test texts.

    What any step would refuse is refused before the first one.

    Args:
        config: The recipe.
        source: Where the data is; with test texts.
        run_folder: Where the run goes.
        models: The repository of models.
        new_labels: See `training.export.export.export`.
        short: The folder of short texts. Default: the folder `short` in or beside that of the data.
        options: Of `train_run`.

    Returns:
        The folder of the version, and its evaluation.

    Raises:
        DataError: The data or the short texts are missing or invalid.
        InvalidInput: There are no test texts, answers are missing or incomplete, or the newest
            version of this name has other labels.
    """
    began = time.monotonic()
    inputs = Inputs.read(config, source)
    _check(inputs, models / config.name, source, new_labels=new_labels, short=short)
    digests = inputs.digests()
    del inputs  # each step reads the texts for itself
    if options.get("fresh") or not _is_trained(run_folder, config, source, digests):
        train_run(config, source, run_folder, **options)
    version = _exported(run_folder, models)
    if version is None:
        version = export(run_folder, models, source=source, new_labels=new_labels, short=short)
        with atomic_path(run_folder / EXPORTED) as partial:
            partial.write_text(json.dumps({"version": str(version.resolve())}), encoding="utf-8")
    evaluation = evaluate_version(version, EvaluationRequest(source=source, short=short))
    minutes = (time.monotonic() - began) / 60
    print_line(f"{config.name}: {minutes:.0f} minutes, {_peak_memory() / 1e9:.1f} GB of memory")
    return version, evaluation


def _check(
    inputs: Inputs, folder: Path, source: Source, *, new_labels: bool, short: Path | None
) -> None:
    """Check what export and evaluation would refuse after hours of training."""
    if inputs.dataset.test is None:
        raise InvalidInput(
            "make scores test texts, which are in the data, or named by --test or --test-share. "
            f"Received: none in {source.path}"
        )
    if not new_labels:
        check_labels(folder, inputs.labels)
    choose_sets(short, Path(source.path), inputs.labels)


def _is_trained(folder: Path, config: Config, source: Source, inputs: Mapping[str, Any]) -> bool:
    """Whether the run of this recipe is complete, and has learned from this data and answers."""
    if not (folder / RUN).exists():
        return False
    try:
        run = Run.read(folder)
    except DataError:
        return False
    same_recipe = Config.from_mapping(run.config) == Config.from_mapping(asdict(config))
    same_source = run.source == replace(source.absolute(), bad_rows_file=None)
    return same_recipe and same_source and _has_read(run, inputs)


def _has_read(run: Run, inputs: Mapping[str, Any]) -> bool:
    if run.inputs:
        return run.inputs == inputs
    # A run of an earlier release: its data card tells of the data, and nothing of answers.
    same_data = all(run.data.get(name) == inputs[name] for name in ("fingerprint", "splits"))
    return same_data and "answers" not in inputs


def _exported(run_folder: Path, models: Path) -> Path | None:
    """The version that was exported from a run, if it is still there."""
    try:
        text = (run_folder / EXPORTED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    folder = Path(json.loads(text)["version"])
    return folder if folder.is_dir() and folder.parent.parent == models.resolve() else None


def _peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
