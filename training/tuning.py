"""Tuning: many trainings of one recipe, each with another setting, judged on validation alone.

A trial's figure is the validation accuracy of the model that training would keep: after the epoch
of the lowest validation loss, or after the last one, as the recipe says. Test texts are not read.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from app.errors import DataError, InvalidInput
from app.text.encoder import TextEncoder
from training.config import Config
from training.data import Corpus
from training.dataset import Dataset, Source, load_dataset
from training.progress import progress_bar, quiet
from training.run import MODEL
from training.space import Setting, assignments
from training.study import Search, Study, open_study
from training.train import encode, predict, train
from training.trial_worker import Report, Trainer, Worker
from training.tune_report import write_tune_report

REPORT: Final = "report"
MAX_JOBS: Final = 64

_CHECKPOINTS: Final = "checkpoints"
_DECIMALS: Final = 6  # what an accuracy of four bytes can tell


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


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the figure after each epoch, and ends a training that is not worth going on with.

    Args:
        report: Told the figure after each epoch.
        keep: Which epoch training keeps, as in `Config`.

    Attributes:
        figure: Validation accuracy of the epoch to keep so far; nan before the first.
        ended: Whether the training was ended, for its figure or because its loss was no number.
    """

    def __init__(self, report: Report, *, keep: str) -> None:
        super().__init__()
        self._report, self._keep, self._lowest_loss = report, keep, math.inf
        self.figure, self.ended = math.nan, False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report; after the last epoch there is nothing left to end."""
        figures = logs or {}
        if not math.isfinite(figures["val_loss"]):
            self.ended = self.model.stop_training = True
            return
        if self._keep == "last" or figures["val_loss"] < self._lowest_loss:
            self._lowest_loss = figures["val_loss"]
            self.figure = round(float(figures["val_accuracy"]), _DECIMALS)
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self._report(epoch + 1, self.figure) and not last:
            self.ended = self.model.stop_training = True


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
    searched = {"known_ngrams", "pretrain", "teacher"} & set(search.space.fields)
    dataset = load_dataset(
        source,
        validation_share=config.validation_share,
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


def train_once(dataset: Dataset, checkpoint: Path, config: Config, report: Report) -> float | None:
    """Train with one setting, without a word; answers its figure, or None when it was ended."""
    watch = Watch(report, keep=config.keep)
    # It warns of each further model of a process as if that were the same one, traced anew.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with quiet():
            trained = train(
                config,
                dataset.train,
                dataset.validation,
                checkpoint,
                unlabelled=dataset.unlabelled.texts(),
                callbacks=[watch],
            )
            if config.teacher != "none" and config.ngrams and not watch.ended:
                # What is kept carries the teacher's n-grams, without which each epoch was judged.
                return _judge(checkpoint, trained.encoder, dataset.validation)
    except DataError:
        if not watch.ended:  # else a loss that is no number, which is an answer here
            raise
    finally:
        keras.utils.clear_session()  # what one trial leaves behind would add up
    return None if watch.ended else watch.figure


def _judge(path: Path, encoder: TextEncoder, validation: Corpus) -> float:
    """Accuracy of a model on validation texts."""
    model = keras.models.load_model(path, compile=False)
    answers = predict(model, encode(encoder, validation, "Encoding validation texts"))
    right = answers.argmax(axis=1) == np.array(validation.targets())
    return round(float(right.mean()), _DECIMALS)


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
                tried = config.with_values(assignments(setting))
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
        "recipe": asdict(config),
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
