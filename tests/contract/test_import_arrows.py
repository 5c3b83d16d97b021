"""Imports point one way (style guide, section 2): who may import whom, in one table."""

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SERVING = {"app.artifact", "app.text", "app.telemetry", "app.errors"}
_FOR_TRAINING = {"app", "app.text", "app.artifact", "app.tables", "app.errors"}
"""`app` itself holds the version number and imports nothing."""

ALLOWED: dict[str, set[str]] = {
    "app": set(),
    "app.errors": set(),
    "app.command_line": set(),
    "app.text": {"app.errors"},
    "app.tables": {"app.errors"},
    "app.artifact": {"app.text", "app.errors"},
    "app.telemetry": set(),
    "app.serving": _SERVING,
    "app.scoring": {"app.artifact", "app.serving", "app.tables", "app.text", "app.errors"},
    "app.workers": set(),
    "app.gc_tuning": set(),
    "app.service": {"app.serving", "app.telemetry", "app.errors"},
    "app.api": {"app.serving", "app.telemetry", "app.errors", "app.workers", "app.gc_tuning"},
    "app.settings": set(),
    "app.configuration": {
        *("app.settings", "app.api", "app.serving", "app.workers", "app.artifact", "app.errors"),
    },
    "app.main": {
        *_SERVING,
        *("app", "app.settings", "app.workers", "app.serving", "app.api"),
        *("app.service", "app.configuration"),
    },
    "app.server": {
        *("app.telemetry", "app.errors", "app.serving", "app.api", "app.workers"),
        *("app", "app.settings", "app.main", "app.service", "app.gc_tuning"),
        "app.configuration",
    },
    "app.score_options": {"app.command_line", "app.tables"},
    "app.score": {
        *("app.settings", "app.configuration", "app.api", "app.scoring", "app.serving"),
        *("app.command_line", "app.errors", "app.score_options", "app.tables"),
    },
    "app.cli": {
        *_SERVING,
        *("app", "app.settings", "app.main", "app.server", "app.serving", "app.api"),
        *("app.command_line", "app.score", "app.score_options", "app.configuration"),
    },
    "app.__main__": {"app.cli"},
    "training": set(),
    "training.support": _FOR_TRAINING,
    "training.config": _FOR_TRAINING,
    "training.configs": {*_FOR_TRAINING, "training.config"},
    "training.data": {*_FOR_TRAINING, "training.config", "training.support"},
    "training.features": {*_FOR_TRAINING, "training.config", "training.data", "training.support"},
    "training.fit": {*_FOR_TRAINING, "training.config", "training.data", "training.support"},
    "training.reports": {*_FOR_TRAINING, "training.data", "training.support"},
    "training.quality": {
        *_FOR_TRAINING,
        *("training.data", "training.reports", "training.support"),
    },
    "training.inspection": {
        *_FOR_TRAINING,
        *("training.config", "training.data", "training.reports", "training.support"),
    },
    "training.models": {
        *_FOR_TRAINING,
        *("training.features", "training.data", "training.config", "training.support"),
    },
    "training.distillation": {
        *_FOR_TRAINING,
        *("training.models", "training.features", "training.fit", "training.data"),
        "training.support",
    },
    "training.train": {
        *_FOR_TRAINING,
        *("training.config", "training.data", "training.features", "training.fit"),
        *("training.models", "training.distillation", "training.support"),
    },
    "training.export": {
        *_FOR_TRAINING,
        *("training.models", "training.fit", "training.reports", "training.quality"),
        *("training.data", "training.config", "training.support"),
    },
    "training.evaluation": {
        *_FOR_TRAINING,
        *("training.export", "training.train", "training.models", "training.features"),
        *("training.fit", "training.reports", "training.data", "training.config"),
        *("training.support", "training.quality", "training.evaluation.served"),
    },
    # The one exception to the version folder as the only road: versions are scored by the code
    # that serves them.
    "training.evaluation.served": {
        *_FOR_TRAINING,
        *("app.serving", "training.reports", "training.data", "training.support"),
    },
    "training.tuning": {
        *_FOR_TRAINING,
        *("training.train", "training.reports", "training.models", "training.fit"),
        *("training.data", "training.config", "training.support"),
    },
    "training.cli": {
        *_FOR_TRAINING,
        "app.command_line",
        *("training.config", "training.configs", "training.data", "training.evaluation"),
        *("training.export", "training.inspection", "training.support", "training.train"),
        *("training.tuning", "training.distillation", "training.quality", "training.reports"),
    },
    "training.__main__": {"training.cli"},
    "load_tests": set(),
    # Starts the service that Locust asks.
    "load_tests.started": {"load_tests.bench"},
    "load_tests.bench": {"load_tests", "load_tests.bench.ceiling"},
    "load_tests.soak": {"load_tests", "load_tests.bench"},
    "load_tests.capacity": {"load_tests", "load_tests.bench", "load_tests.capacity.data"},
    # Reads files as training and scoring do.
    "load_tests.capacity.data": {"app.tables", "app.errors", "load_tests.bench"},
    # The service's own queue and admission in virtual time, and the buckets of its histograms.
    "load_tests.simulation": {
        *("load_tests", "load_tests.bench", "load_tests.capacity", "app.serving"),
        "app.telemetry",
    },
    # The one exception to the black box: what the same engine does without HTTP.
    "load_tests.bench.ceiling": {
        *("app.artifact", "app.text", "app.serving", "app.errors", "load_tests.bench"),
    },
    # What the batcher does without HTTP.
    "load_tests.bench.single_flight": {
        *("app.artifact", "app.text", "app.serving", "app.telemetry", "load_tests.bench"),
    },
    # The service without its metrics.
    "load_tests.bench.unmetered": {"app.cli", "app.telemetry"},
    # Starts the service behind other supervisors than its own, to compare them.
    "load_tests.bench.worker_designs.launchers": {
        *("app.api", "app.telemetry", "app.gc_tuning", "app.main", "app.server", "app.settings"),
        "app.configuration",
    },
}
"""The packages, and which others each may import."""

BARE_SERVERS = {"load_tests.bench.floor", "load_tests.bench.worker_designs.launchers"}
"""Servers that the service is compared with."""

LIBRARIES = {
    "tensorflow": {"app.serving.engines.tensorflow", "training"},
    "onnxruntime": {"app.serving.engines.onnx", "training.export.runtimes"},
    "onnx": {"training.models.onnx_writer", "training.export", "training.evaluation.pace"},
    "keras": {"training"},
    "sklearn": {"training"},
    "opentelemetry": {"app.telemetry.tracing"},
    "pyarrow": {"app.tables.columnar", "app.tables.parquet_parts"},
    "openpyxl": {"app.tables.columnar"},
    "ray": {"app.scoring.ray_data"},
    "charset_normalizer": {"app.tables.characters"},
    "optuna": {"training.tuning"},
    "torch": {"training.distillation.pretrained", "training.distillation.pretrained_run"},
    "transformers": {"training.distillation.pretrained"},
    "matplotlib": {
        *("training.reports", "training.evaluation"),
        *("load_tests.bench.picture", "load_tests.soak.report", "load_tests.capacity.picture"),
        "load_tests.simulation.report",
    },
    "rich": {"training", "load_tests.bench.progress"},
    "fastapi": {"app.api", "app.main", *BARE_SERVERS},
    "starlette": {"app.api", "app.main", *BARE_SERVERS},
    "uvicorn": {"app.api", "app.server", *BARE_SERVERS},
    "pydantic_settings": {"app.settings"},
    "locust": {"load_tests"},
}
"""Libraries that only some packages may import."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the repository but the tests: its dotted name and its file."""
    found = {}
    for package in ("app", "training", "load_tests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(name: str) -> tuple[str, ...]:
    """What a module imports anywhere in it, by dotted name."""
    found: list[str] = []
    for node in ast.walk(ast.parse(modules()[name].read_bytes())):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; the table reads dotted names"
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def longest_prefix(name: str, known: Mapping[str, object] | set[str]) -> str | None:
    """The longest of the known dotted names that `name` is, or is in."""
    parts = name.split(".")
    prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), None)


def dependencies(name: str) -> Iterator[tuple[str, str]]:
    """Each import of a module from this repository: what is imported, and its package."""
    for imported in imports(name):
        if (package := longest_prefix(imported, ALLOWED)) is not None:
            yield imported, package


def find_cycle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """The nodes of a cycle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None


def test_packages_import_only_what_the_table_allows() -> None:
    """A module imports from its own package and from those that its package may import."""
    wrong = [
        f"{name} imports {imported}"
        for name in modules()
        for imported, package in dependencies(name)
        if (own := longest_prefix(name, ALLOWED)) != package and package not in ALLOWED[own or ""]
    ]
    assert wrong == []


def test_the_table_has_no_unused_entry() -> None:
    """What the table allows between packages of `training` is used, so it tells what is so."""
    used: dict[str, set[str]] = {package: set() for package in ALLOWED}
    for name in modules():
        used[longest_prefix(name, ALLOWED) or ""] |= {package for _, package in dependencies(name)}
    unused = [
        f"{package} -> {allowed}"
        for package, others in ALLOWED.items()
        for allowed in others - used[package]
        if package.startswith("training") and allowed.startswith("training")
    ]
    assert unused == []


def test_no_module_cycle() -> None:
    """No module imports itself by way of others, not even inside a function."""
    graph = {
        name: {
            module
            for imported in imports(name)
            if (module := longest_prefix(imported, modules().keys())) not in (None, name)
        }
        for name in modules()
    }
    assert find_cycle(graph) is None


def test_no_package_cycle() -> None:
    """No package imports itself by way of others."""
    graph: dict[str, set[str]] = {package: set() for package in ALLOWED}
    for name in modules():
        own = longest_prefix(name, ALLOWED) or ""
        graph[own] |= {package for _, package in dependencies(name) if package != own}
    for package in graph:  # a package and its exceptions count as one, as in `ALLOWED`
        graph[package] = {other for other in graph[package] if not other.startswith(f"{package}.")}
    assert find_cycle(graph) is None


def test_libraries() -> None:
    """Each heavy library is imported where the table says and nowhere else."""
    wrong = [
        f"{name} imports {imported}"
        for name in modules()
        for imported in imports(name)
        if (allowed := LIBRARIES.get(imported.partition(".")[0])) is not None
        and longest_prefix(name, allowed) is None
    ]
    assert wrong == []


def test_app_imports_nothing() -> None:
    """`import app` brings nothing with it: training gets `app.text` without a web server."""
    assert imports("app") == ()


def test_no_borrowed_names() -> None:
    """No module has the name of one of the standard library."""
    own_names = {name: name.rpartition(".")[2] for name in modules()}
    borrowed = [
        name
        for name, own in own_names.items()
        if own != "__main__" and own in sys.stdlib_module_names
    ]
    assert borrowed == []


def test_top_of_training_is_small() -> None:
    """A newcomer finds at most five files directly in `training/`."""
    assert len(list((ROOT / "training").glob("*.py"))) <= 5
