"""The examples of the documentation run as shown, in the order in which a reader meets them.

A block that is not run has a comment before it: `<!-- not run: the reason -->`. The folder in which
they run has the files that a reader brings, and a service that answers at the documented address.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import make_corpus, write, write_csv, write_tsv_folder
from tests.documents import ROOT, RUN, SHELL, Block, blocks, documents
from tests.server import ServerProcess, environment

_DONE = {
    "make setup": "this environment is its result",
    "valence-train fetch": "downloads 84 MB; the folder has a small corpus of the same form",
}
"""Lines that are left out of a block, and why."""
_HEAVY = re.compile(r"valence-train|tensorflow|load_tests")
_ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):8000\b")


def _examples() -> Iterator[Any]:
    """Each block that is run, and what is shown below it; training takes too long for each run."""
    for document in documents():
        found = list(blocks(document))
        for block, below in zip(found, [*found[1:], None], strict=False):
            if block.language in RUN and block.reason is None:
                marks = [pytest.mark.slow] if _HEAVY.search(block.code) else []
                shown = below if below and below.language == "json" else None
                name = f"{block.path}:{block.line}"
                yield pytest.param(block, shown, id=name, marks=marks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone as a reader has it, with data in small."""
    here = tmp_path_factory.mktemp("clone")
    for name in ("app", "training", "load_tests", "docs", "k8s", "pyproject.toml"):
        (here / name).symlink_to(ROOT / name)
    (here / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "models", here / "models")
    write_tsv_folder(here / "data/imdb")
    stars = {"negative": "1", "positive": "5"}
    for name, samples in (
        ("other.csv", make_corpus(60, seed=6)),
        ("mine.csv", make_corpus(60, seed=5)),
    ):
        table = write_csv(here / name, [(text, stars[label]) for text, label in samples])  # type: ignore[misc]
        write(table, table.read_text("utf-8").replace("text,label", "body,stars", 1))
    rows = "".join(f'"{text}"\n' for text, _ in samples)
    reviews = write(here / "reviews.csv", f"text\n{rows}")
    lines = "".join(json.dumps({"body": text}) + "\n" for text, _ in samples)
    (here / "reviews.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (here / "reviews.tsv.gz").write_bytes(gzip.compress(reviews.read_bytes().replace(b",", b" ")))
    return here


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Host and port of a service on the folder's models."""
    with ServerProcess(folder / "models", "--workers", "1") as server:
        server.wait_for("the service is ready")
        yield server.wait_for("the service is starting")["address"].removeprefix("http://")


@pytest.mark.parametrize(("block", "shown"), [*_examples()])
def test_block(block: Block, shown: Block | None, folder: Path, address: str) -> None:
    """Every command of a block succeeds, and answers what the block below it shows."""
    code = _ADDRESS.sub(address, block.code)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _without_done(code)]
        if block.language in SHELL
        else [sys.executable, "-c", code],
        cwd=folder,
        env=environment() | {"PATH": f"{folder}/.venv/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    if shown:
        assert _rounded(json.loads(done.stdout)) == _rounded(json.loads(shown.code))


def _without_done(code: str) -> str:
    return "\n".join(
        line for line in code.splitlines() if not any(command in line for command in _DONE)
    )


def _rounded(value: Any) -> Any:
    """An answer whose numbers are equal where processors differ in the last digits."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, 2) if isinstance(value, float) else value
