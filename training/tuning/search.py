"""Hyperparameter search: train a recipe with many settings, and compare them on validation texts.

The score of a trial is the validation accuracy of the model that training would keep: the one with
the lowest validation loss, or the last one, as the recipe says. Test texts are not read.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
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
from training.config import READ_UNLABELLED, Config
from training.data.accounting import print_rows
from training.data.dataset import Dataset, Source, load_dataset
from training.fit.run import MODEL
from training.support.progress import progress_bar
from training.train import Inputs
from training.tuning.interface import Trainer
from training.tuning.report import write_tune_report
from training.tuning.space import Setting, assignments
from training.tuning.study import Search, Study, open_study
from training.tuning.trial import train_once
from training.tuning.worker import Worker

REPORT: Final = "report"
MAX_JOBS: Final = 64
_CHECKPOINTS: Final = "checkpoints"
_DECIDE_INPUTS: Final = ("answers", "neutral", "halve_neutral")
"""The fields on which depends what a trial reads besides its texts."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial of a search.

    Attributes:
        accuracy: Its validation accuracy.
        setting: Its setting.
        report: Folder of the report about all trials.
    """

    accuracy: float
    setting: Setting
    report: Path

    def changes(self) -> list[str]:
        """The setting in the form of `train --set`."""
        return assignments(self.setting)


def tune(config: Config, source: Source, search: Search, folder: Path, *, jobs: int = 1) -> Best:
    """Run a search until all its trials are done, and write the report.

    Trials of earlier calls with the same `folder` count.

    Args:
        config: The recipe.
        source: The data; a part of its training texts is used for validation.
        search: Which settings to try, and how.
        folder: Stores the study between calls, and gets `report/`.
        jobs: Number of trials in parallel. Each has its own process if there are several; they
            share the cores.

    Raises:
        InvalidInput: `jobs` is out of its bounds, `folder` holds a study of something else, or the
            recipe needs answers that are missing, incomplete or about other texts.
        DataError: The data is missing or wrong, or no trial was completed.
        ChildProcessError: A worker process ended; finished trials are stored.
        KeyboardInterrupt: The search was interrupted; the message says how to continue.
    """
    if not 1 <= jobs <= MAX_JOBS:
        raise InvalidInput(f"jobs must be from 1 to {MAX_JOBS}. Received: {jobs}")
    searched = READ_UNLABELLED & set(search.space.fields)
    dataset = load_dataset(
        source,
        validation_share=config.loop.validation_share,
        seed=config.seed,
        unlabelled=config.reads_unlabelled or bool(searched),
        # Answers are about what is left without the texts of the test split.
        read_test=bool(config.teacher.answers) or "answers" in search.space.fields,
    )
    inputs = _inputs_of_trials(config, dataset, search)
    with (
        open_study(folder, search, _made_with(config, inputs, search)) as study,
        _checkpoints(folder) as checkpoints,
    ):
        try:
            _run_trials(study, config, dataset, checkpoints, jobs)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("run the same command again to continue the study") from None
        done = study.done()
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    if not complete:
        raise DataError(
            f"at least one trial must be completed. Received: {len(done)} trials, all stopped "
            "early; try lower values of learning_rate"
        )
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    write_tune_report(folder / REPORT, config, search, done, best)
    print_rows(dataset.rows)
    return Best(float(best.values[0]), search.space.setting(best.params), folder / REPORT)


def _run_trials(
    study: Study, config: Config, dataset: Dataset, checkpoints: Path, jobs: int
) -> None:
    """Train the remaining trials, `jobs` in parallel, with one progress bar for all."""
    console = Console(stderr=True)  # the console of the trainings is quiet
    with progress_bar(console=console) as bar:
        task = bar.add_task("Trials", total=study.search.trials, completed=len(study.done()))

        def work(train_one: Trainer) -> None:
            while (following := study.next_trial()) is not None:
                trial, setting = following
                tried = config.with_assignments(assignments(setting))
                accuracy = train_one(tried, partial(study.report, trial))
                line = _describe(study.finish(trial, accuracy), setting)
                console.print(line, highlight=False, markup=False, soft_wrap=True)
                bar.update(task, completed=len(study.done()))

        if jobs == 1:
            work(partial(train_once, dataset, checkpoints / MODEL))
        else:
            _work_in_processes(work, dataset, checkpoints, jobs)


def _work_in_processes(
    work: Callable[[Trainer], None], dataset: Dataset, checkpoints: Path, jobs: int
) -> None:
    """Call `work` for each of `jobs` workers; a failure or interruption kills all of them."""
    workers: list[Worker] = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for k in range(jobs):
                workers.append(Worker(dataset, checkpoints / f"{k}.keras", jobs=jobs))
            for thread in as_completed([pool.submit(work, worker) for worker in workers]):
                thread.result()
        finally:
            for worker in workers:
                worker.kill()  # also ends the thread that waits for it


def _describe(trial: FrozenTrial, setting: Setting) -> str:
    """One line about a trial that has just finished."""
    accuracy = "" if trial.value is None else f" {trial.value:.4f}"
    epochs = len(trial.intermediate_values)
    stopped = f" stopped after epoch {epochs}" if trial.state == TrialState.PRUNED else ""
    return f"trial {trial.number}:{accuracy}{stopped} using {setting}"


def _inputs_of_trials(config: Config, dataset: Dataset, search: Search) -> list[Inputs]:
    """All that the settings of the space may read, checked before the first trial.

    Raises:
        InvalidInput: A setting, whether it will be drawn or not, needs answers that are missing,
            incomplete or about other texts.
    """
    first = {field: values[0] for field, values in search.space.bounds().items()}
    settings = (first | cell for cell in search.space.only(_DECIDE_INPUTS).cells())
    return [Inputs.of(config.with_assignments(assignments(each)), dataset) for each in settings]


def _made_with(config: Config, inputs: Sequence[Inputs], search: Search) -> dict[str, Any]:
    """Everything that scores depend on: trials compare only where all of it is equal."""
    card = inputs[0].dataset.card.model_dump()
    answers = {str(each.answers.folder): each.answers for each in inputs if each.answers}
    found = [each.fingerprint() for _, each in sorted(answers.items())]
    fields = search.space.fields.items()
    return {
        "recipe": config.flat(),
        "data": {part: card[part] for part in ("fingerprint", "counts", "splits")},
        "space": {field: distribution_to_json(of) for field, of in fields},
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
        **({"answers": " ".join(found)} if found else {}),
    }


@contextmanager
def _checkpoints(folder: Path) -> Iterator[Path]:
    """A temporary folder for the models of running trials."""
    checkpoints = folder / _CHECKPOINTS
    shutil.rmtree(checkpoints, ignore_errors=True)  # left by a process that was killed
    checkpoints.mkdir()
    try:
        yield checkpoints
    finally:
        shutil.rmtree(checkpoints, ignore_errors=True)
