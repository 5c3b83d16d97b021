"""New versions and aliases take over in a running service, in all workers at once."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.workers import can_fork_workers
from load_tests.bench import swaps
from load_tests.bench.swaps import measure
from tests.process.test_one_truth import answers
from tests.process.test_worker_processes import children
from tests.published import SOURCE, publish, set_aliases
from tests.server import ROOT, ServerProcess

ONE, TWO = ("--workers", "1"), ("--workers", "2")
needs_workers = pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one version of `bow`."""
    publish(tmp_path / "models", "bow", 1)
    return tmp_path / "models"


WITHOUT_LABELS = ROOT / "models" / "bow-ngrams" / "1"
"""A version whose golden rows have no labels, so that its manifest may have other ones."""
workers_first = pytest.mark.parametrize(
    "server",
    [pytest.param(ONE, marks=pytest.mark.slow), pytest.param(TWO, marks=needs_workers)],
    ids=["one", "two"],
    indirect=True,
)
"""One process in make long alone: it takes the same path as each worker."""


@pytest.fixture(params=[ONE, pytest.param(TWO, marks=needs_workers)], ids=["one", "two"])
def server(request: pytest.FixtureRequest, models: Path) -> Iterator[ServerProcess]:
    """A ready server of one process, or of two workers; it looks when it gets SIGHUP."""
    options = ("--engine", "onnx", "--reload-poll-s", "0", *request.param)
    with ServerProcess(models, *options) as server:
        server.wait_for("the service is ready")
        yield server


def look(server: ServerProcess, *, until: str, times: int = 1) -> None:
    """Let the service look at the repository, and wait for an event of its log."""
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(until, times=times)


def versions(client: httpx.Client) -> dict[int, dict[str, object]]:
    """The versions of `bow` in /models, by number."""
    listed = client.get("/models/bow").json()["versions"]
    return {version["version"]: version for version in listed}


@needs_workers
def test_swaps_under_load() -> None:
    """Hot swaps lose no request; after a new version has answered, the old one never does."""
    outcome = measure(
        SOURCE, swaps=5, options=TWO, clients=8, rate=80, report=lambda _: None, calm_s=0.2
    )
    assert len({answer.version for answer in outcome.answers}) == 6
    assert (outcome.lost, outcome.mixed) == (0, 0)


def test_new_version(server: ServerProcess, models: Path) -> None:
    """A new version takes over, compared with the one before; the removed one is released."""
    publish(models, "bow", 2)
    shutil.rmtree(models / "bow" / "1")
    look(server, until="versions switched")
    assert answers(server) == {("bow", 2)}
    server.wait_for("a version was released")
    with server.client() as client:
        assert list(versions(client)) == [2]
        compared = versions(client)[2]["compared"]
    assert (compared["version"], compared["texts"]) == (1, 22)
    assert compared["mean_difference"] == pytest.approx(0, abs=1e-6)
    assert compared["changed_labels"] == 0


@workers_first
def test_bad_version(server: ServerProcess, models: Path) -> None:
    """A version that fails its checks serves nowhere, with the reason; the old one serves on."""
    (publish(models, "bow", 2) / "model.onnx").write_bytes(b"half")
    look(server, until="a version was rejected")
    assert answers(server) == {("bow", 1)}
    with server.client() as client:
        while 2 not in versions(client):
            pass
        assert versions(client)[2]["state"] == "rejected"
        assert "model.onnx must have" in str(versions(client)[2]["reason"])
    shutil.rmtree(models / "bow" / "2")
    publish(models, "bow", 2)
    look(server, until="versions switched")
    assert answers(server) == {("bow", 2)}


@workers_first
def test_other_labels(server: ServerProcess, models: Path) -> None:
    """A version with its labels in another order takes over only if an alias says so."""
    labels = json.loads((SOURCE / "manifest.json").read_text())["labels"]
    swaps.publish(WITHOUT_LABELS, models, "bow", 3, labels=labels[::-1])
    look(server, until="a version is ready", times=2)
    with server.client() as client:
        while 3 not in versions(client):
            pass
        assert "its labels must be those of version 1" in str(versions(client)[3]["reason"])
    assert answers(server) == {("bow", 1)}


def test_removed_version(server: ServerProcess, models: Path) -> None:
    """A version that answers goes on from memory when its folder is removed, and is shown so."""
    shutil.rmtree(models / "bow" / "1")
    look(server, until="a version was removed")
    assert answers(server) == {("bow", 1)}
    with server.client() as client:
        assert versions(client)[1]["state"] == "removed"


def test_aliases(server: ServerProcess, models: Path) -> None:
    """Moving `stable` is a rollback; an alias that is not ready is refused with the reason."""
    publish(models, "bow", 2)
    look(server, until="versions switched")
    set_aliases(models, "bow", stable=1, canary=2)
    look(server, until="versions switched", times=2)
    assert answers(server) == {("bow", 1)}
    with server.client() as client:
        asked = client.post("/predict", json={"text": "superb", "version": "canary"}).json()
        assert asked["version"] == 2
        set_aliases(models, "bow", stable=9)
        look(server, until="aliases refused")
        assert client.post("/predict", json={"text": "superb"}).json()["version"] == 1
        listed = client.get("/models/bow").json()
    assert listed["reason"] == ("aliases.json: stable must be a version that is ready. Received: 9")
    assert listed["aliases"] == {"stable": 1, "canary": 2}


@needs_workers
def test_worker_killed_during_a_reload(models: Path) -> None:
    """A worker that is killed while a version is prepared mixes nothing; the version comes."""
    with ServerProcess(models, "--engine", "onnx", "--reload-poll-s", "1", *TWO) as server:
        server.wait_for("the service is ready")
        publish(models, "bow", 2)
        server.wait_for("a version is ready", times=3)  # the first worker has prepared it
        os.kill(children(server)[1], signal.SIGKILL)
        server.wait_for("versions switched")
        assert answers(server) == {("bow", 2)}
        server.wait_for("all workers are ready again")
        assert answers(server) == {("bow", 2)}
        assert server.stop() == 0
