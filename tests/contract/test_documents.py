"""The documentation keeps its format, and names only files and modules that exist."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.documents import RUN, blocks, documents

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *(path for name in ("docs", "k8s", "load_tests") for path in (ROOT / name).rglob("*.md")),
        ROOT / "models" / "README.md",
    }
)
SOURCES = sorted(
    path for name in ("app", "training", "load_tests") for path in (ROOT / name).rglob("*.py")
)
COMMENTED = sorted(
    {
        *(ROOT / name for name in ("Dockerfile", "Makefile", "pyproject.toml", ".dockerignore")),
        *(ROOT / name for name in (".gitignore", ".pre-commit-config.yaml", ".ci/run")),
        *(ROOT / "k8s").rglob("*.yaml"),
        *(ROOT / "k8s").rglob("*.env"),
        *(ROOT / ".github").rglob("*.yml"),
        *(ROOT / "training").rglob("*.toml"),
        *(ROOT / "load_tests").rglob("*.lua"),
    }
)

LINE_LENGTH = 120
README_LINES = 95

COMMENT = re.compile(r"(^|\s)(#|--) ")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
QUOTED_PATH = re.compile(
    r"`((?:app|docs|k8s|load_tests|models|requirements|tests|training)/[\w./-]*)`"
)
# `app.state` is an attribute of FastAPI's application.
QUOTED_MODULE = re.compile(r"`((?:app(?!\.state\b)|load_tests|training)(?:\.\w+)+)`")
EXAMPLE = re.compile(r"\(`(\S+\.py)`\).*?```python\n(.*?)```", re.DOTALL)


def found_in(paths: Iterable[Path], find: Callable[[Path], list[Any]]) -> dict[str, list[Any]]:
    """What `find` finds in each file, without files in which it finds nothing."""
    return {str(path.relative_to(ROOT)): found for path in paths if (found := find(path))}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def long_lines(path: Path, wanted: Callable[[str], Any] = str.split) -> list[int]:
    """Numbers of the lines that are too long, although they have a space to break at."""
    return [
        number
        for number, line in enumerate(read(path).splitlines(), start=1)
        if len(line) > LINE_LENGTH and " " in line.strip() and wanted(line)
    ]


def is_defined(dotted: str) -> bool:
    """Whether a dotted name is a module, or a name that occurs in a module."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        file = ROOT.joinpath(*parts[:end])
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        if file.is_file():
            return all(re.search(rf"\b{name}\b", read(file)) for name in parts[end:])
    return False


def test_lines_of_documents_are_short() -> None:
    """A line of a document has at most 120 characters, tables included."""
    assert found_in(DOCUMENTS, long_lines) == {}


def test_lines_with_comments_are_short() -> None:
    """A line with a comment has at most 120 characters; Ruff checks Python files."""
    assert found_in(COMMENTED, lambda path: long_lines(path, COMMENT.search)) == {}


def test_the_readme_is_short() -> None:
    """The README has at most 80 lines, and shows the two commands in its first 20."""
    lines = read(ROOT / "README.md").splitlines()
    assert len(lines) <= README_LINES
    commands = {line.split("#")[0].strip() for line in lines[:20]}
    assert {"make serve", "make test"} <= commands


def test_links_resolve() -> None:
    """Every relative link of a document leads to a file or folder."""

    def broken(path: Path) -> list[str]:
        return [link for link in LINK.findall(read(path)) if not (path.parent / link).exists()]

    assert found_in(DOCUMENTS, broken) == {}


def test_named_files_exist() -> None:
    """A path in backticks exists, in documents and in source code."""

    def missing(path: Path) -> list[str]:
        return [name for name in QUOTED_PATH.findall(read(path)) if not (ROOT / name).exists()]

    assert found_in([*DOCUMENTS, *SOURCES], missing) == {}


def test_named_modules_exist() -> None:
    """A module in backticks, or a name in it, exists, in documents and in source code."""

    def missing(path: Path) -> list[str]:
        return [name for name in QUOTED_MODULE.findall(read(path)) if not is_defined(name)]

    assert found_in([*DOCUMENTS, *SOURCES], missing) == {}


def test_examples_are_those_of_the_code() -> None:
    """The docstring and the test that CONTRIBUTING shows are copies of the named files' code."""
    examples = EXAMPLE.findall(read(ROOT / "CONTRIBUTING.md"))
    assert [name for name, _ in examples] == ["app/text/padding.py", "tests/unit/test_load_slo.py"]
    assert [name for name, code in examples if code not in read(ROOT / name)] == []


def test_examples_are_run_or_say_why_not() -> None:
    """A comment before a block gives the reason why it is not run; data in a block can be read."""
    readers = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    for block in (each for path in documents() for each in blocks(path)):
        where = f"{block.path}:{block.line}"
        assert block.language in (*readers, *RUN, "dockerfile", "text", ""), where
        if read := readers.get(block.language):
            assert read(block.code), where
        if block.language == "dockerfile":
            assert block.reason, where
