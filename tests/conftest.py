"""Fixtures that several test modules share."""

import gc
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from app.gc_tuning import give_back_memory
from app.telemetry.metrics import Metrics
from tests import trained
from tests.deferred import import_deferred
from tests.fakes import Running, run_service, write_version
from tests.published import publish

KEPT = ("VALENCE_DATA", "VALENCE_IMAGE", "VALENCE_TRAIN_IMAGE")
"""Read by tests themselves. Settings of the environment do not apply to them."""

for variable in list(os.environ):
    if variable.upper().startswith("VALENCE_") and variable not in KEPT:
        del os.environ[variable]
# Tests that import ONNX Runtime themselves send no telemetry either; it is read at the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A deadline would be a timing assertion, and the first example of a graph is traced.
settings.register_profile("valence", deadline=None)
settings.load_profile("valence")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Import what the test's module deferred; skip a test marked `gpu` where there is no GPU."""
    import_deferred(item.module)
    if item.get_closest_marker("gpu"):
        tensorflow = pytest.importorskip("tensorflow")
        if not tensorflow.config.list_physical_devices("GPU"):
            pytest.skip("no GPU is visible to TensorFlow")


@pytest.fixture(scope="module", autouse=True)
def released_models(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a module keeps with `functools.cache`, often models of 100 MB, goes when it ends."""
    yield
    kept = [one for one in vars(request.module).values() if hasattr(one, "cache_clear")]
    if any(one.cache_info().currsize for one in kept):
        for one in kept:
            one.cache_clear()
        gc.collect()
        give_back_memory()


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture
def metrics() -> Metrics:
    """Fresh metrics."""
    return Metrics()


@pytest.fixture
def logging_state() -> Iterator[None]:
    """Put the loggers and the hooks back that `configure_logs` replaces."""
    root, own = logging.getLogger(), logging.getLogger("app")
    handlers, levels = root.handlers[:], (root.level, own.level)
    hooks = threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    logging.raiseExceptions = True
    logging.captureWarnings(capture=False)
    threading.excepthook, sys.unraisablehook = hooks


@pytest.fixture(scope="session")
def fake_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository for fake engines: lstm 1 and 2, bow 1. A test that writes works on a copy."""
    models = tmp_path_factory.mktemp("fake_models")
    for name, number in (("lstm", 1), ("lstm", 2), ("bow", 1)):
        write_version(models, name, number)
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    yield models
    after = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    assert after == before, "a test has written to the shared models"


@pytest.fixture(scope="session")
def bow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the bundled `bow` alone, which is loaded fastest. Do not write to it."""
    models = tmp_path_factory.mktemp("bow_models")
    publish(models, "bow", 2)
    return models


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are exported without their report, whose pictures take a third of the time."""
    monkeypatch.setattr("training.export.export.write_report", lambda *_: None)


@pytest.fixture
async def running(fake_models: Path) -> AsyncIterator[Running]:
    """A ready service with the fake repository."""
    async with run_service(fake_models) as service:
        yield service


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> trained.Workshop:
    """A tiny data set with an `lstm` and a `bow`, trained and exported for real. Do not write."""
    import_deferred(trained)
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the processes of one run share it
        folder = folder.parent
    return trained.share_workshop(folder / "workshop")


@pytest.fixture(scope="session")
def exported_models(workshop: trained.Workshop) -> Path:
    """The repository of the workshop."""
    return workshop.models
