"""Whatever happens to models and workers, all workers answer from the same version."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.workers import can_fork_workers
from tests.process.test_worker_processes import children, read_metric
from tests.published import publish
from tests.server import ServerProcess

pytestmark = pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")

TWO = ("--workers", "2", "--engine", "onnx", "--reload-poll-s", "0")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with two versions of `lstm`, the default, and one of `bow`."""
    for name, number in (("lstm", 1), ("lstm", 2), ("bow", 1)):
        publish(tmp_path / "models", name, number)
    return tmp_path / "models"


@pytest.fixture
def server(models: Path) -> Iterator[ServerProcess]:
    """A ready server with two workers."""
    with ServerProcess(models, *TWO) as server:
        server.wait_for("the service is ready")
        yield server


def answers(server: ServerProcess, count: int = 20) -> set[tuple[str, int]]:
    """Model and version of the answers on so many connections, which all workers share."""
    found = set()
    with ExitStack() as connections:
        for _ in range(count):
            client = connections.enter_context(server.client())
            answer = client.post("/predict", json={"text": "superb"}).raise_for_status().json()
            found.add((answer["model"], answer["version"]))
    return found


def kill_worker(server: ServerProcess) -> None:
    os.kill(children(server)[0], signal.SIGKILL)


def remove_default(models: Path) -> None:
    shutil.rmtree(models / "lstm")


def roll_back_by_deletion(models: Path) -> None:
    shutil.rmtree(models / "lstm" / "2")


def replace_files(models: Path) -> None:
    publish(models, "lstm", 2, seed=5)


def damage_another(models: Path) -> None:
    (models / "bow" / "1" / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove_default, "lstm/2: manifest.json cannot be read"),
        (roll_back_by_deletion, "lstm/2: manifest.json cannot be read"),
        (replace_files, "lstm/2: its files are not those that the other workers have loaded"),
        (damage_another, "bow/1: tokenizer.json"),
    ],
)
def test_replacement_that_differs(
    server: ServerProcess, models: Path, change: Callable[[Path], None], reason: str
) -> None:
    """A replacement that cannot load what the others serve answers nothing; they go on.

    Log, /readyz, /models and metrics say so in the same words.
    """
    change(models)
    kill_worker(server)
    event = server.wait_for("worker differs")
    assert reason in event["reason"]
    assert answers(server) == {("lstm", 2)}
    with server.client() as client:
        ready, listed = client.get("/readyz"), client.get("/models").json()
        assert (ready.status_code, listed["default"]) == (200, "lstm")
        assert "worker 1: differs: " in ready.json()["reason"]
        assert reason in ready.json()["reason"]
        assert listed["reason"] == ready.json()["reason"]
        assert read_metric(client, "workers", state="differs") == 1


def test_no_worker_is_left(server: ServerProcess, models: Path) -> None:
    """When no worker can load what was agreed on, nothing answers: the default never changes."""
    remove_default(models)
    for pid in children(server):
        os.kill(pid, signal.SIGKILL)
    server.wait_for("worker differs", times=2)
    with server.client() as client:
        assert client.get("/readyz").status_code == 503
        for model in (None, "lstm", "bow"):
            answer = client.post("/predict", json={"text": "superb", "model": model})
            assert answer.status_code == 503


def test_version_that_one_worker_rejects(models: Path) -> None:
    """A version that cannot be loaded serves nowhere; the one before answers."""
    (models / "lstm" / "2" / "model.onnx").unlink()
    with ServerProcess(models, *TWO) as server:
        server.wait_for("the service is ready")
        assert answers(server) == {("lstm", 1)}
        with server.client() as client:
            newest, _ = client.get("/models/lstm").json()["versions"]
        assert (newest["state"], newest["reason"]) == ("rejected", "model.onnx is missing")


def test_kept_connection(server: ServerProcess, models: Path) -> None:
    """A connection that stays with its worker gets the version that all serve."""
    with ExitStack() as connections:
        clients = [connections.enter_context(server.client()) for _ in range(2)]
        before = {answer(client) for client in clients}
        roll_back_by_deletion(models)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("a version was removed")
        assert {answer(client) for client in clients} == before == {2}


def answer(client: httpx.Client) -> int:
    version: int = client.post("/predict", json={"text": "superb"}).json()["version"]
    return version
