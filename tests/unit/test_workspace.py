"""The workspace: what a stopped training leaves, for the same training and no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import CannotResume, InvalidInput
from tests.corpus import make_corpus, write_csv
from tests.deferred import deferred
from training.configs import load_config

with deferred():
    from training.data.dataset import Source
    from training.fit import workspace as workspaces
    from training.fit.checkpoints import Position
    from training.fit.run import Run
    from training.fit.workspace import open_workspace
    from training.train import train_run

Identity = dict[str, dict[str, Any]]


def stop(run: Path, identity: Identity, *, last: Position | None = None) -> None:
    """Start a training, write a file, and be interrupted."""
    with open_workspace(run) as workspace:
        workspace.claim(identity)
        workspace.checkpoints.last = last
        (workspace.folder / "made").touch()
        raise KeyboardInterrupt


def test_one_training_at_a_time(tmp_path: Path) -> None:
    """A second training of the same run is refused, and removes nothing."""
    with open_workspace(tmp_path / "run") as workspace:
        workspace.claim({"config": {"units": 1}})
        with (
            pytest.raises(InvalidInput, match="one training at a time"),
            open_workspace(tmp_path / "run", fresh=True),
        ):
            pytest.fail("two trainings share a workspace")
        assert (workspace.folder / "training.json").exists()


def test_a_finished_training_leaves_no_workspace(tmp_path: Path) -> None:
    """The workspace is removed when the block succeeds."""
    with open_workspace(tmp_path / "run") as workspace:
        workspace.claim({})
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_tells_how_to_resume(tmp_path: Path) -> None:
    """After an interruption the message names the position of the last checkpoint."""
    last = Position(epoch=2, step=7)
    with pytest.raises(KeyboardInterrupt, match="same command again to resume at epoch 3, step 8"):
        stop(tmp_path / "run", {"config": {"units": 1}}, last=last)


def test_an_unclaimed_workspace_is_removed(tmp_path: Path) -> None:
    """A training that is stopped while it reads its data leaves no folder behind."""
    run = tmp_path / "runs" / "run"
    with (
        pytest.raises(KeyboardInterrupt, match=r"^run the same command again$"),
        open_workspace(run),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_only_the_same_training_is_resumed(tmp_path: Path) -> None:
    """Another identity is refused; the error lists the differences, and nothing is lost."""
    run = tmp_path / "run"
    before = {"config": {"units": 1, "seed": 7}, "data": {"fingerprint": "a" * 64}}
    after = {"config": {"units": 2, "seed": 7}, "data": {"fingerprint": "b" * 64}}
    with pytest.raises(KeyboardInterrupt):
        stop(run, before)
    with pytest.raises(InvalidInput) as refused:
        stop(run, after)
    assert "another config units 2 instead of 1, data fingerprint;" in str(refused.value)
    assert "--fresh discards it" in str(refused.value)
    with open_workspace(run) as workspace:
        assert (workspace.folder / "made").exists()
        workspace.claim(before)


def test_a_fresh_training_discards_the_unfinished_one(tmp_path: Path) -> None:
    """With `fresh`, nothing of the earlier training is left, and another one may start."""
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "run", {"config": {"units": 1}})
    with open_workspace(tmp_path / "run", fresh=True) as workspace:
        assert list(workspace.folder.iterdir()) == []
        workspace.claim({"config": {"units": 2}})


def test_the_identity_is_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is killed while it removes its workspace leaves nothing to be resumed."""
    removed: list[str] = []
    remove = workspaces.remove
    monkeypatch.setattr(
        workspaces, "remove", lambda path: removed.append(path.name) or remove(path)
    )
    with open_workspace(tmp_path / "run") as workspace:
        workspace.claim({"config": {"units": 1}})
        (workspace.folder / "checkpoint.npz").touch()
        removed.clear()
    assert removed[0] == "training.json"
    assert "checkpoint.npz" in removed


def test_a_workspace_without_an_identity_is_discarded(tmp_path: Path) -> None:
    """What is left of a workspace that was being removed is never mixed with another training."""
    folder = tmp_path / ".run.training"
    (folder / "training").mkdir(parents=True)
    for name in ("checkpoint.npz", "tokenizer.json"):
        (folder / name).touch()
    with open_workspace(tmp_path / "run") as workspace:
        workspace.claim({"config": {"units": 2}})
        assert [path.name for path in folder.iterdir()] == ["training.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"config": 1}', b"\xff"])
def test_a_damaged_identity(tmp_path: Path, content: bytes) -> None:
    """It is refused in one sentence that names the file and what to do; nothing is lost."""
    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "run", {"config": {"units": 1}})
    path = tmp_path / ".run.training" / "training.json"
    path.write_bytes(content)
    with (
        pytest.raises(CannotResume, match=r"training\.json is damaged\. --fresh discards"),
        open_workspace(tmp_path / "run") as workspace,
    ):
        workspace.claim({"config": {"units": 1}})
    assert (path.parent / "made").exists()


def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training is not resumed with other texts, unless it starts again with `fresh`."""

    def be_interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    config, run = load_config("smoke").replace(epochs=1), tmp_path / "run"
    source, other = (
        Source(str(write_csv(tmp_path / f"{seed}.csv", make_corpus(40, seed=seed))))
        for seed in (1, 2)
    )
    with monkeypatch.context() as patch:
        patch.setattr("training.train.train", be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, source, run)
    with pytest.raises(InvalidInput, match="Received: another data fingerprint, data splits; "):
        train_run(config, other, run)
    train_run(config, other, run, fresh=True)
    assert Run.read(run).source == other
    assert not (tmp_path / ".run.training").exists()


def test_parts_outlive_a_training(tmp_path: Path) -> None:
    """With a folder for parts, another training finds the results that depend on the same."""

    def compute() -> dict[str, np.ndarray]:
        counted.append(1)
        return {"x": np.zeros(1)}

    counted: list[int] = []
    for run, identity in (("a", [1, "x"]), ("b", [1, "x"]), ("c", [2, "x"])):
        with open_workspace(tmp_path / run, parts=tmp_path / "parts") as workspace:
            workspace.shared_cache(lambda identity=identity: identity).arrays("x.npz", compute)
    assert len(counted) == 2
    with open_workspace(tmp_path / "d") as workspace:
        assert workspace.shared_cache(pytest.fail) is workspace.cache


def test_parts_have_one_user(tmp_path: Path) -> None:
    """Two trainings that would write the same parts at a time are refused; the first goes on."""
    parts = tmp_path / "parts"
    with open_workspace(tmp_path / "a", parts=parts) as first:
        for _ in range(2):
            first.shared_cache(lambda: [1])
        with (
            open_workspace(tmp_path / "b", parts=parts) as second,
            pytest.raises(InvalidInput, match="one training at a time may use its parts"),
        ):
            second.shared_cache(lambda: [1])
    with open_workspace(tmp_path / "b", parts=parts) as second:
        second.shared_cache(lambda: [1])
