"""A start that can never become ready ends: exit status 1 and one sentence, with all workers."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app.workers import can_fork_workers
from tests.server import COMMAND, PATIENCE_S, ROOT, environment

ONE, TWO = ("--workers", "1"), ("--workers", "2")
needs_workers = pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")
each_number_of_workers = pytest.mark.parametrize(
    "workers", [ONE, pytest.param(TWO, marks=needs_workers)], ids=["one worker", "two workers"]
)
# Root may read every folder, unless these capabilities are dropped.
WITHOUT_PRIVILEGES = (
    ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)


def serve(
    models: Path, *options: str, prefix: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `valence serve`, until all processes that hold its stdout and stderr have ended."""
    return subprocess.run(
        [*prefix, *COMMAND, "serve", "--port", "0", "--models-dir", str(models), *options],
        cwd=ROOT,
        env=environment() | variables,
        timeout=PATIENCE_S,
        capture_output=True,
        text=True,
        check=False,
    )


def sentence_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on stderr of a service that has failed."""
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    return sentence.removeprefix("valence: ")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with the bundled version of `bow`."""
    return shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow").parent


def test_missing_folder(tmp_path: Path) -> None:
    """Without a folder of models the start fails."""
    sentence = sentence_of(serve(tmp_path / "absent", *TWO))
    assert sentence.startswith(f"the folder of models must exist. Received: {tmp_path / 'absent'}")


def test_empty_folder(tmp_path: Path) -> None:
    """With an empty folder of models the start fails."""
    sentence = sentence_of(serve(tmp_path, *TWO))
    assert sentence == f"{tmp_path}: there are no models in the repository"


@pytest.mark.skipif(
    bool(WITHOUT_PRIVILEGES) and shutil.which("setpriv") is None, reason="root without setpriv"
)
def test_unreadable_folder(models: Path) -> None:
    """With an unreadable folder of models the start fails."""
    models.chmod(0)
    sentence = sentence_of(serve(models, *TWO, prefix=WITHOUT_PRIVILEGES))
    assert sentence == f"the folder of models, {models}, cannot be read: Permission denied"
    models.chmod(0o700)


def test_no_such_default_model(models: Path) -> None:
    """With an unknown default model the start fails, and the models are listed."""
    sentence = sentence_of(serve(models, *TWO, "--default-model", "lstm"))
    assert sentence == f"{models}: the default model lstm is not there; there are: bow"


def remove_graph(models: Path) -> None:
    next(models.glob("bow/*/model.onnx")).unlink()


def alter_tokenizer(models: Path) -> None:
    next(models.glob("bow/*/tokenizer.json")).write_text("{}")


@each_number_of_workers
@pytest.mark.parametrize("damage", [remove_graph, alter_tokenizer])
def test_damaged_default_model(
    models: Path, damage: Callable[[Path], None], workers: tuple[str, ...]
) -> None:
    """Without a usable version of the default model the start fails, at once."""
    shutil.copytree(ROOT / "models" / "tweets-lstm", models / "tweets-lstm")
    damage(models)
    done = serve(models, *workers, "--default-model", "bow", "--engine", "onnx")
    beginning = "the service cannot become ready: the default model bow has no usable version: "
    assert sentence_of(done).startswith(beginning)
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert not {"a version is ready", "worker died", "the service is draining"} & set(events)


@each_number_of_workers
def test_unusable_library(models: Path, tmp_path: Path, workers: tuple[str, ...]) -> None:
    """With a library that cannot be imported the start fails, and the extra is named."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError")
    done = serve(models, *workers, "--engine", "onnx", PYTHONPATH=str(tmp_path))
    assert sentence_of(done).endswith("install valence[onnx]")


@needs_workers
def test_failure_is_logged_as_json(models: Path) -> None:
    """With JSON logs the reason is in the last event, and stderr is empty."""
    remove_graph(models)
    done = serve(models, *TWO, "--engine", "onnx", VALENCE_LOG_FORMAT="json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert events[-1]["event"] == "the service failed"
    assert "model.onnx" in events[-1]["reason"]
