"""`valence-train` from the shell: help, errors and exit statuses."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from app.errors import ValenceError
from tests.corpus import write_tsv_folder
from tests.deferred import deferred

with deferred():
    from training.cli import main
    from training.fit.run import Run

ROOT = Path(__file__).parents[2]
Output = pytest.CaptureFixture[str]


def run_in_shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def call(*arguments: object) -> int:
    """The exit status of the command, run in this process to save importing TensorFlow again."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:  # raised by argparse
        return int(end.code or 0)


@pytest.mark.parametrize(
    "verb", [[], ["fetch"], ["check"], ["train"], ["tune"], ["export"], ["evaluate"], ["pace"]]
)
def test_help(verb: list[str], capsys: Output) -> None:
    """The help of every verb has an example to copy."""
    assert call(*verb, "--help") == 0
    shown = capsys.readouterr().out
    assert f"  valence-train {' '.join(verb)}".rstrip() in shown.split("examples:")[1]


def test_version(capsys: Output) -> None:
    """`--version` prints the version of the project."""
    assert call("--version") == 0
    assert capsys.readouterr().out == f"valence-train {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--config", "gru", "--data", "x"], "invalid choice: 'gru'"),
        (["train", "--config", "smoke"], "--data"),
        (["train", "--config", "smoke", "--data", "x", "--set", "depth=3"], "Received: 'depth'"),
        (["train", "--config", "smoke", "--data", "x", "--run", "."], "which exists"),
        (["train", "--config", "smoke", "--data", "x", "--label", "5"], "must be VALUE=NAME"),
        (["train", "--config", "smoke", "--data", "x", "--label", "5= "], "must be VALUE=NAME"),
        (
            ["train", "--config", "smoke", "--data", "x", "--label", "5=a", "--label", "5=b"],
            "must name a value once. Received: '5' twice",
        ),
        (["tune", "--config", "smoke", "--data", "x", "--space", "moon"], "Received: 'moon'"),
        (["tune", "--config", "smoke", "--data", "x", "--space", "lstm"], "trials must be"),
        (["fly"], "there is no command fly"),
        (["trian"], "did you mean train?"),
        (["train", "--confg", "smoke"], "did you mean --config?"),
        (["train", "--config", "smoke", "--data", "x", "--set", "unit=3"], "did you mean units?"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_call(arguments: list[str], sentence: str, capsys: Output) -> None:
    """A wrong call exits with 2 and an explanation."""
    assert call(*arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config", "smoke", "--data", "no/such/data"],
        ["export", "--run", "no/such/run"],
        ["evaluate", "no/such/version", "--data", "no/such/data"],
    ],
)
def test_a_failure(arguments: list[str], capsys: Output) -> None:
    """A failure exits with 1 and one sentence; `--debug` shows the traceback."""
    assert call(*arguments) == 1
    sentence = capsys.readouterr().err
    assert "no/such" in sentence
    assert sentence.count("\n") == 1
    with pytest.raises(ValenceError, match="no/such"):
        call(*arguments, "--debug")


def test_a_failure_in_a_shell() -> None:
    """A shell sees the exit status and the sentence, and no output of TensorFlow."""
    done = run_in_shell("evaluate", "no/such/version", "--data", "no/such/data")
    assert done.returncode == 1
    assert done.stderr.startswith("valence-train: no/such/version: ")
    assert done.stderr.count("\n") == 1


def test_without_the_training_packages() -> None:
    """With only serving installed, the error names the missing package and how to install it."""
    absent = ("keras", "matplotlib", "numba", "optuna", "rich", "scipy", "sklearn", "tensorflow")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
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
def test_import_takes_no_seconds(module: str) -> None:
    """Importing the packages and their command lines imports nothing that takes seconds."""
    program = (
        f"import sys, {module}; sys.exit(not {{'sklearn', 'tensorflow'}}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_columns_and_labels_of_ones_own(tmp_path: Path) -> None:
    """A file with its own columns and labels can be trained on, as the help shows."""
    data = tmp_path / "mine.csv"
    rows = "".join(f"film {n} was fine,5\nfilm {n} was poor,1\n" for n in range(40))
    data.write_text(f"body,stars\n{rows}")
    run = tmp_path / "run"
    trained = call(
        *("train", "--config", "smoke", "--name", "mine", "--data", data, "--run", run),
        *("--text-column", "body", "--label-column", "stars", "--set", "epochs=1"),
        *("--label", "5=positive", "--label", "1=negative"),
    )
    assert trained == 0
    assert Run.read(run).labels == ("negative", "positive")


def test_a_termination_says_how_to_resume(tmp_path: Path, capsys: Output) -> None:
    """SIGTERM during training exits with 1 and says how to resume; no partial run is left.

    Another recipe cannot resume from there, but can start over with --fresh.
    """
    data = write_tsv_folder(tmp_path / "data", train=60, test=20)
    run = tmp_path / "runs" / "run"
    recipe = ["--config", "smoke", "--set", "architecture=embedding"]
    typed = ["train", *recipe, "--data", str(data), "--run", str(run)]
    endless = ["--set", "epochs=1000", "--set", "stop_patience=1000"]
    command = [sys.executable, "-m", "training", *typed, *endless]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "epoch 1:" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "interrupted; run the same command again to resume at epoch" in errors
    assert [path.name for path in run.parent.iterdir()] == [".run.training"]

    assert call(*typed, "--set", "epochs=1") == 2
    refused = capsys.readouterr().err
    assert "config epochs 1 instead of 1000" in refused
    assert refused.count("\n") == 1
    assert call(*typed, "--set", "epochs=1", "--fresh") == 0
    assert [path.name for path in run.parent.iterdir()] == ["run"]


FEELINGS = {
    "Радость": "радость χαρά खुशी 嬉しい سعادة",
    "Θυμός": "гнев θυμός क्रोध 怒り غضب",
    "दुख": "грусть λύπη दुख 悲しい حزن",
    "恐い": "страх φόβος डर 恐い خوف",
    "دهشة": "удивление έκπληξη आश्चर्य 驚き دهشة",
}
FRAMES = (
    "сегодня мы чувствуем: {}, сказала она в {} часов",
    "σήμερα νιώθουμε {}, είπε στις {}",
    "आज हम सब {} महसूस करते हैं, उसने {} बजे कहा",
    "今日は{}という気持ちです、{}時に言いました。",
    "نشعر اليوم {} كما قالت في الساعة {}",
)
"""By the script of a label's words, in their order; Japanese has no spaces."""


def test_any_labels_in_any_script(tmp_path: Path) -> None:
    """Five classes in five scripts are trained from named columns and served."""
    rows = [
        (frame.format(word, hour), label)
        for label, words in FEELINGS.items()
        for frame, word in zip(FRAMES, words.split(), strict=True)
        for hour in range(24)
    ]
    data = tmp_path / "gefühle.csv"
    with data.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("τι", "κείμενο"), *((label, text) for text, label in rows)])
    run, models = tmp_path / "run", tmp_path / "models"
    trained = call(
        *("train", "--config", "smoke", "--name", "feelings", "--data", data, "--run", run),
        *("--text-column", "κείμενο", "--label-column", "τι", "--set", "epochs=6"),
        *("--set", "architecture=embedding"),
    )
    exported = call("export", "--run", run, "--models", models)
    assert (trained, exported) == (0, 0)

    text = "今日は驚きという気持ちです、きっと言いました。"
    command = [sys.executable, "-m", "app", "predict", "--json", "--models-dir", str(models), text]
    answered = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answer = json.loads(answered.stdout)
    assert answer["label"] == "دهشة"
    assert set(answer["probabilities"]) == {"радость", "θυμός", "दुख", "恐い", "دهشة"}


def test_train_and_export(tmp_path: Path) -> None:
    """`train` and `export` work as the help shows, and stderr stays readable."""
    data = write_tsv_folder(tmp_path / "data", train=60, test=20)
    run = tmp_path / "run"
    recipe = ("--config", "smoke", "--set", "epochs=1")
    trained = run_in_shell("train", *recipe, "--data", data, "--run", run)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[0] == str(run)
    exported = run_in_shell("export", "--run", run, "--models", tmp_path / "models")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.strip() == str(tmp_path / "models" / "smoke" / "1")
    for line in (trained.stderr + exported.stderr).splitlines():
        known = (
            "smoke:",
            "epoch 1:",
            "validation:",
            "test:",
            "reliable:",
            "onnx:",
            "rows read ",
            "  ",
        )
        assert line.startswith(known), line
