"""Arrows point one way (style guide, section 2): who may import whom, in one table."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED: dict[str, set[str]] = {
    "app": set(),
    "app.errors": set(),
    "app.text": {"app.errors"},
    "app.artifact": {"app.text", "app.errors"},
    "app.telemetry": set(),
    "app.serving": {"app.artifact", "app.text", "app.telemetry", "app.errors"},
    "app.workers": set(),
    "app.api": {"app.serving", "app.telemetry", "app.errors", "app.workers"},
    "app.settings": set(),
    "app.main": {
        *("app.artifact", "app.text", "app.telemetry", "app.errors", "app.serving", "app.api"),
        *("app", "app.settings", "app.workers"),
    },
    "app.server": {
        *("app.telemetry", "app.errors", "app.serving", "app.api", "app.workers"),
        *("app", "app.settings", "app.main"),
    },
    "app.__main__": {
        *("app.artifact", "app.text", "app.telemetry", "app.errors", "app.serving", "app.api"),
        *("app", "app.settings", "app.main", "app.server"),
    },
    "training": {"app", "app.text", "app.artifact", "app.errors", "training.served"},
    # The one exception to the version folder as the only road: it is asked through the code that
    # serves.
    "training.served": {"app.artifact", "app.text", "app.serving", "app.errors", "training"},
    "load_tests": set(),
    "load_tests.bench": {"load_tests", "load_tests.bench.ceiling"},
    # The one exception to the black box: what the same engine does without HTTP.
    "load_tests.bench.ceiling": {
        *("app.artifact", "app.text", "app.serving", "app.errors", "load_tests.bench"),
    },
}
"""The rooms, and which others each may import."""

LIBRARIES = {
    "tensorflow": {"app.serving.engines.tensorflow", "training"},
    "onnxruntime": {"app.serving.engines.onnx", "training"},
    "onnx": {"training"},
    "keras": {"training"},
    "sklearn": {"training"},
    "optuna": {"training"},
    "matplotlib": {"training", "load_tests.bench.picture"},
    "rich": {"training"},
    "fastapi": {"app.api", "app.main", "load_tests.bench.floor"},
    "starlette": {"app.api", "app.main", "load_tests.bench.floor"},
    "uvicorn": {"app.api", "app.server", "load_tests.bench.floor"},
    "pydantic_settings": {"app.settings"},
    "locust": {"load_tests"},
}
"""Libraries that only some rooms may import."""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the repository but the tests: its dotted name and its file."""
    for package in ("app", "training", "load_tests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


every_module = pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*module, id=module[0]) for module in modules()]
)


def imports(name: str, path: Path) -> Iterator[str]:
    """What a module imports anywhere in it, by dotted name."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; the table reads dotted names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room that a dotted name belongs to: the longest entry of the table it begins with."""
    parts = name.split(".")
    prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in ALLOWED), None)


def belongs(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@every_module
def test_arrows(name: str, path: Path) -> None:
    """A module imports from its own room and from those its room may see."""
    room = room_of(name)
    assert room is not None, f"{name} stands in no room of the table"
    for imported in imports(name, path):
        target = room_of(imported)
        if target is not None and target != room:
            assert target in ALLOWED[room], f"{name} imports {imported}"


@every_module
def test_libraries(name: str, path: Path) -> None:
    """Each heavy library is imported where the table says and nowhere else."""
    for imported in imports(name, path):
        allowed = LIBRARIES.get(imported.partition(".")[0])
        if allowed is not None:
            assert belongs(name, allowed), f"{name} imports {imported}"


def test_app_imports_nothing() -> None:
    """`import app` brings nothing with it: training gets `app.text` without a web server."""
    assert list(imports("app", ROOT / "app" / "__init__.py")) == []


@every_module
def test_no_borrowed_names(name: str, path: Path) -> None:
    """No module borrows the name of one of the standard library."""
    own = name.rpartition(".")[2]
    assert own == "__main__" or own not in sys.stdlib_module_names, path
