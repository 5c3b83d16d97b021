"""From data to an evaluated version: one command, and what an interruption leaves to do."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DataError, InvalidInput
from tests.answered import write_answers
from tests.corpus import write_tsv_folder
from tests.deferred import deferred
from tests.fakes import write_version
from training.configs import load_config

with deferred():
    from training.data.dataset import Source, load_dataset
    from training.evaluation import recipe
    from training.fit.run import Run
    from training.train import Inputs

CONFIG = load_config("smoke")


class Steps:
    """The three steps, as fakes that leave what the real ones do; `broken` fails instead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, list[str]()
        self.source = Source(str(write_tsv_folder(folder / "data", train=120, test=20)))
        self.broken = ""

    def train_run(self, config: Any, source: Source, folder: Path, **_: object) -> None:
        """Write the description of a run."""
        self._begin("train")
        folder.mkdir(exist_ok=True)
        for each in folder.iterdir():
            each.unlink()
        run = Run(
            config=asdict(config),
            source=source.absolute(),
            labels=("negative", "positive"),
            data={"name": "x", "fingerprint": "0" * 64, "counts": {}, "splits": {}},
            history={"val_loss": [1.0]},
            seconds=1.0,
            code_version="0",
            inputs=Inputs.read(config, source).digests(),
        )
        run.write(folder)

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
        recipe.make_version(config, steps.source, folder / "run", folder / "models", **options)
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
        lambda steps: write_tsv_folder(steps.folder / "data", seed=2) and make(steps),
    ],
    ids=["another recipe", "--fresh", "no run", "other texts"],
)
def test_another_training_is_done_anew(steps: Steps, change: Callable[[Steps], list[str]]) -> None:
    """Another recipe, a fresh start, a missing run or other texts make another version."""
    make(steps)
    assert change(steps) == ["train", "export", "evaluate"]
    assert len(list((steps.folder / "models" / "smoke").iterdir())) == 2


def test_a_run_of_an_earlier_release(steps: Steps) -> None:
    """A run that has no digests of its inputs counts as trained while its data card is right."""
    make(steps)
    file = steps.folder / "run" / "run.json"
    content = json.loads(file.read_text())
    inputs = content.pop("inputs")
    content["data"] |= {name: inputs[name] for name in ("fingerprint", "splits")}
    file.write_text(json.dumps(content))
    assert make(steps) == ["evaluate"]
    write_tsv_folder(steps.folder / "data", seed=2)
    assert make(steps) == ["train", "export", "evaluate"]


def test_a_version_that_was_removed(steps: Steps) -> None:
    """A run whose version is gone is exported again, and not trained again."""
    make(steps)
    (steps.folder / "models" / "smoke" / "1").rmdir()
    assert make(steps) == ["export", "evaluate"]
    assert make(steps, replace(CONFIG)) == ["evaluate"]


def test_answers_that_changed_in_place(steps: Steps) -> None:
    """A run whose teacher has answered otherwise since is trained again; a copy changes nothing."""
    dataset = load_dataset(
        steps.source,
        validation_share=CONFIG.loop.validation_share,
        seed=CONFIG.seed,
        unlabelled=True,
    )
    folder = write_answers(steps.folder / "answers", dataset)
    config = CONFIG.replace(answers=str(folder))
    assert make(steps, config) == ["train", "export", "evaluate"]
    write_answers(folder, dataset)
    assert make(steps, config) == ["evaluate"]
    logits = np.load(folder / "answers/0000.npz")["logits"]
    np.savez(folder / "answers/0000.npz", logits=-logits)
    assert make(steps, config) == ["train", "export", "evaluate"]


def _without_test(steps: Steps) -> None:
    for path in (steps.folder / "data").glob("test*"):
        path.unlink()


def _short(steps: Steps) -> None:
    (steps.folder / "short").mkdir()
    (steps.folder / "short" / "mine.tsv").write_text("text\tlabel\nFine.\tsplendid\n", "utf-8")


def _other_labels(steps: Steps) -> None:
    folder = write_version(steps.folder / "models", "smoke", 1)
    manifest = (folder / "manifest.json").read_text("utf-8").replace('"positive"', '"good"')
    (folder / "manifest.json").write_text(manifest, "utf-8")


@pytest.mark.parametrize(
    ("break_it", "changes", "error", "message"),
    [
        (_without_test, {}, InvalidInput, "make scores test texts"),
        (_short, {}, DataError, "short texts must be among those of the model"),
        (_other_labels, {}, InvalidInput, "must have the labels of smoke/1"),
        (lambda _: None, {"answers": "/nowhere"}, InvalidInput, "output folder of teach"),
        (lambda _: None, {"neutral": True}, InvalidInput, "which texts are neutral"),
    ],
    ids=["no test texts", "short texts", "other labels", "no answers", "no neutral texts"],
)
def test_what_a_later_step_would_refuse(
    steps: Steps,
    break_it: Callable[[Steps], None],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """It is refused before the first step, which takes hours."""
    break_it(steps)
    short = steps.folder / "short"
    with pytest.raises(error, match=message):
        make(steps, CONFIG.replace(**changes), short=short if short.exists() else None)
    assert steps.done == []
