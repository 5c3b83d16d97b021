"""Models trained and exported for real, on a tiny corpus, by the words a user would type."""

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.corpus import write_tsv_folder
from tests.deferred import deferred

with deferred():
    from training.cli import main

_TINY = {
    "lstm": ["--config=smoke", "--set=epochs=4", "--set=short_temperature=0.8"],
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
    """The workshop in `folder`. Test processes that ask for it share the work."""
    workshop = Workshop(folder / "data", folder / "runs", folder / "models")
    folder.mkdir(exist_ok=True)
    _once(folder / "data", partial(write_tsv_folder, workshop.data))
    builds = {folder / name: partial(_build, workshop, name) for name in _TINY}
    others = [mark for mark, build in builds.items() if not _once(mark, build, wait=False)]
    for mark in others:
        _once(mark, builds[mark])
    return workshop


def _once(mark: Path, build: Callable[[], object], *, wait: bool = True) -> bool:
    """Build something that no process has built; returns False if another one is at it."""
    with mark.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        complete = mark.with_suffix(".complete")
        if not complete.exists():
            build()
            complete.touch()
    return True


def _build(workshop: Workshop, name: str) -> None:
    """Train and export a tiny `lstm` or `bow`."""
    run = workshop.runs / name
    trained = call("train", *_TINY[name], "--name", name, "--data", workshop.data, "--run", run)
    exported = call("export", "--run", run, "--models", workshop.models)
    assert (trained, exported) == (0, 0)
