"""The examples of the documentation run as shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import make_corpus, write_csv

ROOT = Path(__file__).parents[2]


def run_grid_search(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the example in a shell."""
    return subprocess.run(
        [sys.executable, "docs/examples/grid_search.py", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_grid_search(tmp_path: Path) -> None:
    """A Keras model inside GridSearchCV: every cell is printed, and the best one last.

    The texts have more words than the model has ids.
    """
    letters = "abcdefghijklmnopqr"
    words = [f"x{a}{b}{c}" for a in letters for b in letters for c in letters]
    rows = enumerate(make_corpus(24, seed=3))
    samples = [
        each._replace(text=" ".join([each.text, *words[243 * n : 243 * (n + 1)]]))
        for n, each in rows
    ]
    data = write_csv(tmp_path / "texts.csv", samples)
    data.write_text(data.read_text().replace("text,label", "body,stars", 1))
    columns = ["--text-column", "body", "--label-column", "stars"]
    options = ["--batch-sizes", "8", "12", "--epochs", "1", "--folds", "2"]
    done = run_grid_search(data, *columns, *options)
    assert done.returncode == 0, done.stderr
    *cells, best = done.stdout.splitlines()
    settings = ["{'batch_size': 8, 'epochs': 1}", "{'batch_size': 12, 'epochs': 1}"]
    assert [line.split(" with ")[1] for line in cells] == settings
    figure, setting = best.removeprefix("Best: ").split(" using ")
    assert figure == max(line.split()[0] for line in cells)
    assert setting in settings


@pytest.mark.slow
def test_a_missing_file() -> None:
    """A file that is not there is one sentence on stderr, and the exit status 1."""
    done = run_grid_search("no/such.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "grid_search: no/such.csv: there is no such file or folder"
    )
