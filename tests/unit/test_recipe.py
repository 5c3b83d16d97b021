"""From data to an evaluated version: one command, and what an interruption leaves to do."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.deferred import deferred
from training.configs import load_config

with deferred():
    from training.data.dataset import Source
    from training.evaluation import recipe
    from training.fit.run import Run

CONFIG = load_config("smoke")


class Steps:
    """The three steps, as fakes that leave what the real ones do; `broken` fails instead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, list[str]()
        self.broken = ""

    def train_run(self, config: Any, source: Source, folder: Path, **_: object) -> None:
        """Write the description of a run."""
        self._begin("train")
        folder.mkdir(exist_ok=True)
        for each in folder.iterdir():
            each.unlink()
        card = {"name": "x", "fingerprint": "0" * 64, "counts": {}, "splits": {}}
        history = {"val_loss": [1.0]}
        Run(asdict(config), source.absolute(), ("a", "b"), card, history, 1.0, "0").write(folder)

    def export(self, run: Path, models: Path, **_: object) -> Path:
        """Create the folder of the next version."""
        self._begin("export")
        existing = list((models / "smoke").glob("*"))
        version = models / "smoke" / str(1 + len(existing))
        version.mkdir(parents=True)
        return version

    def evaluate_version(self, folder: Path, request: object) -> str:
        """Say which version is evaluated."""
        self._begin("evaluate")
        return folder.name

    def _begin(self, step: str) -> None:
        if step == self.broken:
            raise OSError("no electricity")
        self.done.append(step)


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The steps in place of the real ones."""
    fakes = Steps(tmp_path)
    for name in ("train_run", "export", "evaluate_version"):
        monkeypatch.setattr(recipe, name, getattr(fakes, name))
    return fakes


def make(steps: Steps, config: Any = CONFIG, **options: Any) -> list[str]:
    """Make a version; return the steps that it took, the failed one left out."""
    steps.done.clear()
    folder = steps.folder
    try:
        recipe.make_version(config, Source("data"), folder / "run", folder / "models", **options)
    except OSError:
        assert steps.broken
    return list(steps.done)


def test_each_step_is_done_once(steps: Steps) -> None:
    """What was done before an interruption is not done again."""
    for broken, done in (
        ("train", []),
        ("export", ["train"]),
        ("evaluate", ["export"]),
        ("", ["evaluate"]),
        ("", ["evaluate"]),
    ):
        steps.broken = broken
        assert make(steps) == done


@pytest.mark.parametrize(
    "change",
    [
        lambda steps: make(steps, CONFIG.replace(seed=8)),
        lambda steps: make(steps, fresh=True),
        lambda steps: (steps.folder / "run" / "run.json").unlink() or make(steps),
    ],
    ids=["another recipe", "--fresh", "no run"],
)
def test_another_training_is_done_anew(steps: Steps, change: Callable[[Steps], list[str]]) -> None:
    """Another recipe, a fresh start or a missing run makes another version."""
    make(steps)
    assert change(steps) == ["train", "export", "evaluate"]
    assert len(list((steps.folder / "models" / "smoke").iterdir())) == 2


def test_a_version_that_was_removed(steps: Steps) -> None:
    """A run whose version is gone is exported again, and not trained again."""
    make(steps)
    (steps.folder / "models" / "smoke" / "1").rmdir()
    assert make(steps) == ["export", "evaluate"]
    assert make(steps, replace(CONFIG)) == ["evaluate"]
