"""Models trained and exported for real, on a tiny corpus, by the words a user would type."""

import fcntl
from dataclasses import dataclass
from pathlib import Path

from tests.corpus import write_tsv_folder
from tests.deferred import deferred

with deferred():
    from training.cli import main

_TINY = {
    "lstm": ["--config=smoke", "--set=epochs=4"],
    "bow": [
        *(
            "--config=bow",
            "--set=teacher=linear",
            "--set=min_count=1",
            "--set=batch_size=32",
            "--set=epochs=12",
        ),
        *("--set=learning_rate=0.01", "--set=ema_momentum=0", "--set=input_dropout=0.2"),
    ],
}


@dataclass(frozen=True)
class Workshop:
    """A data set, the runs trained on it and the versions exported from them."""

    data: Path
    runs: Path
    models: Path


def call(*arguments: object) -> int:
    """Call `valence-train`; returns its exit status."""
    return main([str(argument) for argument in arguments])


def share_workshop(folder: Path) -> Workshop:
    """The workshop in `folder`, built by the first test process that asks for it."""
    workshop = Workshop(folder / "data", folder / "runs", folder / "models")
    folder.mkdir(exist_ok=True)
    complete = folder / "complete"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            _build(workshop)
            complete.touch()
    return workshop


def _build(workshop: Workshop) -> None:
    """Train and export a tiny `lstm` and `bow`."""
    write_tsv_folder(workshop.data)
    for name, recipe in _TINY.items():
        run = workshop.runs / name
        trained = call("train", *recipe, "--name", name, "--data", workshop.data, "--run", run)
        exported = call("export", "--run", run, "--models", workshop.models)
        assert (trained, exported) == (0, 0)
