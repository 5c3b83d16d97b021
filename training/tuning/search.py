"""Tuning: many trainings of one recipe, each with another setting, judged on validation alone.

A trial's figure is the validation accuracy of the model that training would keep: after the epoch
of the lowest validation loss, or after the last one, as the recipe says. Test texts are not read.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from app.errors import DataError, InvalidInput
from training.config import Config
from training.data.dataset import Dataset, Source, load_dataset
from training.fit.run import MODEL
from training.support.progress import progress_bar
from training.tuning.interface import Trainer
from training.tuning.report import write_tune_report
from training.tuning.space import Setting, assignments
from training.tuning.study import Search, Study, open_study
from training.tuning.trial import train_once
from training.tuning.worker import Worker

REPORT: Final = "report"


MAX_JOBS: Final = 64


_CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        figure: Validation accuracy of the best trial.
        setting: Of the best trial.
        report: The folder that tells about all trials.
    """

    figure: float
    setting: Setting
    report: Path

    def changes(self) -> list[str]:
        """The setting as `train --set` takes it."""
        return assignments(self.setting)


def tune(config: Config, source: Source, search: Search, folder: Path, *, jobs: int = 1) -> Found:
    """Search until all trials are done, those of earlier calls included, and write the report.

    Args:
        config: The recipe.
        source: The data; its training texts are learned from and validated on.
        search: Which settings to try, and how.
        folder: Keeps the study between calls and gets `report/`.
        jobs: Trials at once; more than one have a process each, and share the cores.

    Raises:
        InvalidInput: `jobs` is out of its bounds, or `folder` holds a study of something else.
        DataError: The data is missing or wrong, or no trial came to its end.
        ChildProcessError: A process of a trial ended; what was done is kept.
    """
    if not 1 <= jobs <= MAX_JOBS:
        raise InvalidInput(f"jobs must be from 1 to {MAX_JOBS}. Received: {jobs}")
    searched = {"ngram_embeddings", "pretrain_embeddings", "teacher"} & set(search.space.fields)
    dataset = load_dataset(
        source,
        validation_share=config.loop.validation_share,
        seed=config.seed,
        unlabelled=config.reads_unlabelled or bool(searched),
        read_test=False,
    )
    with (
        open_study(folder, search, _made_with(config, dataset, search)) as study,
        _checkpoints(folder) as checkpoints,
    ):
        _run_trials(study, config, dataset, checkpoints, jobs)
        done = study.done()
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    if not complete:
        raise DataError(
            f"at least one trial must come to its end. Received: {len(done)}, all ended early; "
            "try lower values of learning_rate"
        )
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    write_tune_report(folder / REPORT, config, search, done, best)
    return Found(float(best.values[0]), search.space.setting(best.params), folder / REPORT)


def _run_trials(
    study: Study, config: Config, dataset: Dataset, checkpoints: Path, jobs: int
) -> None:
    """Train what is left of the study, `jobs` at once, with a bar over the trials."""
    console = Console(stderr=True)  # that of the trainings is quiet
    with progress_bar(console=console) as bar:
        task = bar.add_task("Trials", total=study.search.trials, completed=len(study.done()))

        def work(train_one: Trainer) -> None:
            while (following := study.next_trial()) is not None:
                trial, setting = following
                tried = config.with_assignments(assignments(setting))
                figure = train_one(tried, partial(study.report, trial))
                line = _describe(study.finish(trial, figure), setting)
                console.print(line, highlight=False, markup=False, soft_wrap=True)
                bar.update(task, completed=len(study.done()))

        if jobs == 1:
            work(partial(train_once, dataset, checkpoints / MODEL))
        else:
            _work_at_once(work, dataset, checkpoints, jobs)


def _work_at_once(
    work: Callable[[Trainer], None], dataset: Dataset, checkpoints: Path, jobs: int
) -> None:
    """`work` in a thread for each of `jobs` processes; a failure or interruption ends them all."""
    workers: list[Worker] = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for k in range(jobs):
                workers.append(Worker(dataset, checkpoints / f"{k}.keras", jobs=jobs))
            for thread in as_completed([pool.submit(work, worker) for worker in workers]):
                thread.result()
        finally:
            for worker in workers:
                worker.kill()  # which also ends the thread that waits for it


def _describe(trial: FrozenTrial, setting: Setting) -> str:
    """A line on a trial that has just come to an end."""
    figure = "" if trial.value is None else f" {trial.value:.4f}"
    epochs = len(trial.intermediate_values)
    ended = f" ended after epoch {epochs}" if trial.state == TrialState.PRUNED else ""
    return f"trial {trial.number}:{figure}{ended} using {setting}"


def _made_with(config: Config, dataset: Dataset, search: Search) -> dict[str, Any]:
    """What the figures of a study depend on; two of its trials compare only if all is equal."""
    card = dataset.card.model_dump()
    fields = search.space.fields.items()
    return {
        "recipe": config.flat(),
        "data": {part: card[part] for part in ("fingerprint", "counts", "splits")},
        "space": {field: distribution_to_json(of) for field, of in fields},
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
    }


@contextmanager
def _checkpoints(folder: Path) -> Iterator[Path]:
    """A folder for the weights of running trials, which nobody needs afterwards."""
    place = folder / _CHECKPOINTS
    shutil.rmtree(place, ignore_errors=True)  # left by a process that was killed
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
