"""Trainings that are killed again and again, anywhere, end as if they had not been."""

import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.corpus import write_tsv_folder
from tests.deferred import deferred
from tests.server import ROOT

with deferred():
    import keras

    from training.fit.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = 20
RECIPES = {
    "smoke": ["--config=smoke", "--set=epochs=4", "--set=reduce_patience=1"],
    "bow": [
        *("--config=bow", "--set=teacher=linear", "--set=ngram_logits=2", "--set=min_count=1"),
        *("--set=ngram_logits_buckets=1024", "--set=epochs=5", "--set=batch_size=32"),
    ],
    "rnn": [
        *("--config=smoke", "--set=cell=gru", "--set=bidirectional=true", "--set=layers=2"),
        *("--set=epochs=3", "--set=optimizer=nadam", "--set=ema_momentum=0.9"),
        *("--set=word_dropout=0.2", "--set=recurrent_dropout=0.2", "--set=class_weights=balanced"),
        *("--set=warmup_epochs=0.5", "--set=clip_norm=1.0"),
    ],
}

# The events: each step, and each operation on a file from the moment the workspace is claimed.
KILLED_AT = """
import os, signal, sys
from training.cli import main
from training.support.tensorflow_import import import_tensorflow
import_tensorflow()
import training.features.ngram_vectors
import training.train
from training.fit.progress import EpochProgress
from training.fit.workspace import Workspace

training.features.ngram_vectors.MAX_BUCKETS = 2**14
limit, count, active = int(sys.argv[1]), 0, False

def happen(*_, **__):
    global active, count
    count += active
    if active and count == limit:
        active = False  # the kill is an event itself
        os.kill(os.getpid(), signal.SIGKILL)

def listen(event, arguments):
    opened = event == "open" and ".training" in str(arguments[0])
    if opened or event.startswith(("os.", "shutil.")):
        happen()

def claim(*arguments):
    global active
    active = True
    claim_workspace(*arguments)

claim_workspace, Workspace.claim = Workspace.claim, claim
EpochProgress.on_train_batch_end = happen
sys.addaudithook(listen)
status = main(sys.argv[2:])
print(count)
sys.exit(status)
"""


@dataclass(frozen=True)
class Training:
    """One training, whose parts are processes of their own."""

    recipe: str
    data: Path
    run: Path

    def start(self, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
        """Train until the end, or until an event at which it kills itself."""
        typed = [*RECIPES[self.recipe], f"--data={self.data}", f"--run={self.run}"]
        program = [sys.executable, "-c", KILLED_AT, str(kill_at), "train", *typed]
        program.append("--checkpoint-every=0")
        return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)

    def outcome(self) -> tuple[dict[str, list[float]], list[np.ndarray], bytes]:
        """The history without the throughput, the weights, and the tokenizer."""
        import training.models.build  # noqa: F401 registers the layers; deferred, it would not

        history = Run.read(self.run).history
        history.pop("tokens_per_second")
        model = keras.models.load_model(self.run / "model.keras", compile=False)
        weights = [np.asarray(weight) for weight in model.get_weights()]
        return history, weights, (self.run / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_at_twenty_points(recipe: str, tmp_path: Path) -> None:
    """Weights, history and learning rates are identical to those of an uninterrupted training."""
    data = write_tsv_folder(tmp_path / "data", train=160, test=20)
    whole = Training(recipe, data, tmp_path / "runs" / "whole")
    done = whole.start()
    assert done.returncode == 0, done.stderr
    events = int(done.stdout.splitlines()[-1])

    killed = Training(recipe, data, tmp_path / "runs" / "killed")
    draw, kills = random.Random(recipe), 0
    while kills < KILLS:
        done = killed.start(kill_at=draw.randint(1, events // 4))
        if done.returncode == 0:  # after a few kills it ends, and another training begins
            compare(killed, whole)
            continue
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
    assert killed.start().returncode == 0
    compare(killed, whole)
    assert sorted(path.name for path in killed.run.parent.iterdir()) == ["killed", "whole"]


def compare(killed: Training, whole: Training) -> None:
    """Compare what both trainings wrote."""
    history, weights, tokenizer = killed.outcome()
    expected_history, expected_weights, expected_tokenizer = whole.outcome()
    assert history == expected_history
    assert tokenizer == expected_tokenizer
    assert all(map(np.array_equal, weights, expected_weights))
