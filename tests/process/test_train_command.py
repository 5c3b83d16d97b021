"""`valence-train` from the shell: help, sentences and exit statuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import write_tsv_folder

ROOT = Path(__file__).parents[2]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", [[], ["fetch"], ["train"], ["tune"], ["export"], ["evaluate"]])
def test_help(verb: list[str]) -> None:
    """Every verb explains itself, with an example to copy."""
    done = call(*verb, "--help")
    assert done.returncode == 0
    assert f"  valence-train {' '.join(verb)}".rstrip() in done.stdout.split("examples:")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--config", "gru", "--data", "x"], "invalid choice: 'gru'"),
        (["train", "--config", "smoke"], "--data"),
        (["train", "--config", "smoke", "--data", "x", "--set", "depth=3"], "Received: 'depth'"),
        (["train", "--config", "smoke", "--data", "x", "--run", "."], "which exists"),
        (["train", "--config", "smoke", "--data", "x", "--label", "5"], "must be VALUE=NAME"),
        (["tune", "--config", "smoke", "--data", "x", "--space", "moon"], "Received: 'moon'"),
        (["tune", "--config", "smoke", "--data", "x", "--space", "lstm"], "trials must be"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_call(arguments: list[str], sentence: str) -> None:
    """A wrong call exits with 2 and says what was wrong."""
    done = call(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config", "smoke", "--data", "no/such/data"],
        ["export", "--run", "no/such/run"],
        ["evaluate", "no/such/version", "--data", "no/such/data"],
    ],
)
def test_a_failure(arguments: list[str]) -> None:
    """A failure exits with 1 and one sentence; `--debug` adds the traceback."""
    done = call(*arguments)
    assert done.returncode == 1
    assert "no/such" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    debugged = call(*arguments, "--debug")
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr


def test_without_the_training_packages() -> None:
    """Where only serving is installed, the sentence says what is missing and how to get it."""
    program = (
        "import sys; sys.modules['rich'] = None\n"
        "from training.__main__ import main\n"
        "sys.exit(main(['train', '--config', 'smoke', '--data', 'x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run make setup, or install valence[train]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["app", "training", "app.__main__", "training.__main__"])
def test_import_without_tensorflow(module: str) -> None:
    """Importing the packages and their command lines does not import TensorFlow."""
    program = f"import sys, {module}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_columns_and_labels_of_ones_own(tmp_path: Path) -> None:
    """A file with other columns and labels trains, as the help shows."""
    data = tmp_path / "mine.csv"
    rows = "".join(f"film {n} was fine,5\nfilm {n} was poor,1\n" for n in range(40))
    data.write_text(f"body,stars\n{rows}")
    done = call(
        *(
            "train",
            "--config",
            "smoke",
            "--name",
            "mine",
            "--data",
            data,
            "--run",
            tmp_path / "run",
        ),
        *("--text-column", "body", "--label-column", "stars", "--set", "epochs=1"),
        *("--label", "5=positive", "--label", "1=negative"),
    )
    assert done.returncode == 0, done.stderr


def test_a_termination_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of a training ends it with 1, a sentence, and nothing half-written."""
    data = write_tsv_folder(tmp_path / "data", train=60, test=20)
    command = [
        *(sys.executable, "-m", "training", "train", "--config", "smoke", "--data", str(data)),
        *("--run", str(tmp_path / "runs" / "run"), "--set", "epochs=1000"),
        *("--set", "stop_patience=1000"),
    ]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "epoch 1:" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


def test_train_and_export(tmp_path: Path) -> None:
    """The two commands of the pipeline work as the help shows them, and stderr stays readable."""
    data = write_tsv_folder(tmp_path / "data", train=60, test=20)
    run = tmp_path / "run"
    trained = call("train", "--config", "smoke", "--set", "epochs=1", "--data", data, "--run", run)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[0] == str(run)
    exported = call("export", "--run", run, "--models", tmp_path / "models")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.strip() == str(tmp_path / "models" / "smoke" / "1")
    for line in (trained.stderr + exported.stderr).splitlines():
        assert line.startswith(("smoke:", "epoch 1:", "validation:", "test:", "onnx:")), line
