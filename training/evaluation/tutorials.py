"""Train and score the recipes of tutorials, and compare with the accuracy their authors claim.

Finished work is kept: a run of the same recipe on the same data is reused with the version
exported from it, and `evaluate` scores its test split once, after the last training. A killed
command loses one training at most and continues when it is repeated.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import keras
import numpy as np

from app import __version__
from app.artifact import TOKENIZER, DataCard
from app.errors import DataError, InvalidInput, ValenceError
from app.text.encoder import TextEncoder
from training.config import Config
from training.data.dataset import Source
from training.data.preprocessing import encode
from training.data.split import fingerprint, split_rows
from training.evaluation.evaluate import EvaluationRequest, evaluate_version
from training.evaluation.tutorial_claims import CLAIMS, MARGIN
from training.export.export import export
from training.fit.run import MODEL, RUN, Run
from training.models.predict import predict
from training.reports.comparison import Entry, make_table, write_comparison
from training.support.files import atomic_folder
from training.support.interruption import errors_as_interruption
from training.support.progress import console
from training.train import train

COMPARISON: Final = "comparison"
TWEETS: Final = "tutorial_tweets"
"""The only recipe that does not use the reviews."""
_TITLE: Final = "Accuracy claimed by tutorials, and reproduced"


class TrainRun(Protocol):
    """`training.train.train_run` with all other options bound."""

    def __call__(self, config: Config, source: Source, folder: Path) -> None:
        """Train a recipe and write its run folder."""


@dataclass(frozen=True, slots=True)
class _Tutorial:
    """One recipe, its data, and its run folder."""

    recipe: str
    config: Config
    source: Source
    folder: Path

    def is_finished(self) -> bool:
        """Whether there is a run of this recipe on this data."""
        try:
            run = Run.read(self.folder)
            return Config.from_mapping(run.config) == self.config and run.source == self.source
        except (DataError, InvalidInput):
            return False

    def train(self, train_run: TrainRun) -> None:
        """Write the run folder."""
        keras.backend.clear_session()  # frees the earlier models
        if self.recipe == TWEETS:
            _train_leaking(self.config, self.source, self.folder)
        else:
            train_run(self.config, self.source, self.folder)

    def score(self) -> Entry:
        """Score the recipe: one row of the table."""
        if self.recipe == TWEETS:
            entry = _score_held_out(self.config, self.source, self.folder)
        else:
            entry = _score_test(self.config, self.source, self.folder)
        claim = CLAIMS[self.recipe]
        entry = replace(
            entry, seconds=Run.read(self.folder).seconds, claimed=claim.accuracy, note=claim.source
        )
        if claim.reason and abs(entry.difference() or 0) > MARGIN:
            return replace(entry, note=f"{claim.source}. {claim.reason}")
        return entry


def compare_tutorials(
    configs: Mapping[str, Config],
    folder: Path,
    *,
    reviews: Source,
    tweets: Source | None,
    train_run: TrainRun,
    fresh: bool = False,
) -> Path:
    """Train and score every recipe, and write a table and a picture.

    A recipe that fails does not stop the others.

    Args:
        configs: By recipe, those of `training.configs.TUTORIALS`.
        folder: Gets a run folder for each, with its exported version in it, and `comparison`.
        reviews: Labelled texts with test texts of their own.
        tweets: The debate tweets; without them their recipe is left out.
        train_run: What trains a recipe.
        fresh: Whether what is finished is trained anew, and its test texts are read anew.

    Returns:
        The folder of the comparison.

    Raises:
        DataError: There is no data or there are no test texts, before anything is trained; or a
            recipe failed, and the comparison is of the others.
    """
    for source in (reviews, tweets):
        if source is not None and not Path(source.path).exists():
            raise DataError(f"{source.path}: there is no such file or folder")
    if not reviews.has_test():
        raise DataError(
            f"{reviews.path}: tutorials are compared on a test split; the data must have one"
        )
    tutorials = [
        _Tutorial(recipe, config, source, folder / config.name)
        for recipe, config in _name_apart(configs).items()
        if (source := tweets if recipe == TWEETS else reviews) is not None
    ]
    failures: dict[str, str] = {}
    for tutorial in tutorials:
        with _noted(tutorial.recipe, failures):
            if fresh or not tutorial.is_finished():
                tutorial.train(train_run)
    entries = []
    for tutorial in tutorials:
        if tutorial.recipe not in failures:
            with _noted(tutorial.recipe, failures):
                entries.append(tutorial.score())
    if entries:
        write_comparison(folder / COMPARISON, _TITLE, entries)
        console.print(make_table(_TITLE, entries))
    if failures:
        told = "; ".join(f"{recipe}: {reason}" for recipe, reason in failures.items())
        raise DataError(f"{len(failures)} of {len(tutorials)} tutorials failed; {told}")
    return folder / COMPARISON


def _name_apart(configs: Mapping[str, Config]) -> dict[str, Config]:
    """Rename the recipe whose split leaks, so that its run is not mistaken for a proper one."""
    return {
        recipe: config.replace(name=f"{config.name}-leaking") if recipe == TWEETS else config
        for recipe, config in configs.items()
    }


@contextmanager
def _noted(recipe: str, failures: dict[str, str]) -> Iterator[None]:
    """Record the failure of a recipe and continue, unless it is an interruption."""
    try:
        with errors_as_interruption():
            yield
    except (ValenceError, OSError) as error:
        failures[recipe] = str(error)
    except Exception as error:  # noqa: BLE001 - the others took hours
        failures[recipe] = f"an unexpected {type(error).__name__}: {error}"


def _score_test(config: Config, source: Source, run_folder: Path) -> Entry:
    """Score the version exported from a run on the test split; it is stored inside the run."""
    version = run_folder / "models" / config.name / "1"
    if not version.is_dir():
        export(run_folder, run_folder / "models", source=source)
    found = evaluate_version(version, EvaluationRequest(source)).split
    return Entry(
        config.name,
        metrics=found["metrics"],
        intervals={name: (low, high) for name, (low, high) in found["intervals"].items()},
    )


def _train_leaking(config: Config, source: Source, folder: Path) -> None:
    """Train like `train_run`, but on a split that leaks. `export` rejects such a run."""
    corpus = source.read("train")
    learned, held_out = split_rows(corpus, held_out=config.loop.validation_share, seed=config.seed)
    with atomic_folder(folder, replaces=RUN) as aside:
        trained = train(config, learned, held_out, aside / MODEL)
        trained.encoder.save(aside / TOKENIZER)
        card = DataCard(
            name=corpus.name,
            fingerprint=fingerprint(corpus),
            counts={"rows": len(corpus), "train": len(learned), "validation": len(held_out)},
            splits={"train": fingerprint(learned), "validation": fingerprint(held_out)},
        )
        run = Run(
            config=asdict(config),
            source=source,
            labels=corpus.labels,
            data=card.model_dump(),
            history=trained.history,
            seconds=round(trained.seconds, 1),
            code_version=__version__,
        )
        run.write(aside)


def _score_held_out(config: Config, source: Source, run_folder: Path) -> Entry:
    """Score the Keras model on the held-out rows; no choice was made on them."""
    _, held_out = split_rows(
        source.read("train"), held_out=config.loop.validation_share, seed=config.seed
    )
    model = keras.models.load_model(run_folder / MODEL, compile=False)
    rows = encode(TextEncoder.load(run_folder / TOKENIZER), held_out, "Encoding rows held out")
    targets = np.array(held_out.targets(), np.int32)
    return Entry.score(config.name, predict(model, rows), targets, held_out.labels)
