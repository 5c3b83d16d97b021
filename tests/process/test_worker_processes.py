"""Several workers behind one port, in a real server."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.workers import can_fork_workers
from tests.process.test_connections import Wire
from tests.process.test_server import OpenRequest
from tests.server import PATIENCE_S, ROOT, LoggingProcess, ServerProcess, run

pytestmark = pytest.mark.skipif(not can_fork_workers(), reason="one process is all there is here")

TWO = ("--workers", "2", "--engine", "onnx")
ASK = "POST /predict HTTP/1.1\nHost: valence\nContent-Length: 18"
BODY = b'{"text": "superb"}'
_COUNTER = re.compile(r'^valence_requests_total\{.*route="/predict".*\} (\S+)$', re.MULTILINE)


def start(*options: str) -> ServerProcess:
    server = ServerProcess(ROOT / "models", *options)
    server.wait_for("the service is ready")
    return server


@pytest.fixture(scope="module")
def shared() -> Iterator[ServerProcess]:
    """Two workers, for tests that leave them as they are."""
    with start(*TWO) as server:
        yield server


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """Two workers, for tests that do them harm."""
    with start(*TWO, "--drain-delay-s", "600") as server:
        yield server


@pytest.fixture
def clients(server: ServerProcess) -> Iterator[list[httpx.Client]]:
    """Two clients, each with an open connection to a worker of its own."""
    with server.client() as one, server.client() as other:
        for client in (one, other):
            client.get("/livez").raise_for_status()
        yield [one, other]


def children(server: ServerProcess) -> list[int]:
    """The processes that a server has started, dead ones among them until they are buried."""
    pid = server.process.pid
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def count_sockets(pid: int) -> int:
    """Open sockets of a process, its connections among them."""
    names = [descriptor.resolve().name for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(name.startswith("socket:") for name in names)


def ask(client: httpx.Client) -> int:
    return client.post("/predict", json={"text": "superb"}).status_code


def count_requests(client: httpx.Client) -> float:
    """Predictions asked for, as /metrics has it."""
    page = client.get("/metrics").text
    return sum(float(number) for number in _COUNTER.findall(page))


def until_ready(client: httpx.Client) -> None:
    """Ask until the service is ready again; the test's own timeout ends it."""
    while client.get("/readyz").status_code != 200:
        pass


def finishes(request: OpenRequest) -> bool:
    """Whether a request is answered when its body has come."""
    try:
        return request.finish()[0] == 200
    except ConnectionError:
        return False


def test_connections_are_shared_out(shared: ServerProcess) -> None:
    """Each worker gets as many of the open connections, and keeps nothing of closed ones."""
    workers = children(shared)
    idle = {pid: count_sockets(pid) for pid in workers}
    with shared.client() as client, ExitStack() as connections:
        for _ in range(20):
            wire = connections.enter_context(Wire(client.base_url))
            wire.send("GET /livez HTTP/1.1\nHost: valence")
            assert wire.read().status == 200
        assert [count_sockets(pid) - idle[pid] for pid in workers] == [10, 10]
    while any(count_sockets(pid) > idle[pid] for pid in workers):
        pass


def test_ready_tells_of_all(shared: ServerProcess) -> None:
    """/readyz says where each worker stands."""
    with shared.client() as client:
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["workers"]) == (200, ["ready", "ready"])


def test_figures_are_of_all(server: ServerProcess, clients: list[httpx.Client]) -> None:
    """Whichever worker is asked for /metrics, it tells what all of them have counted."""
    assert [ask(client) for client in (clients[0], clients[0], clients[1])] == [200] * 3
    assert [count_requests(client) for client in clients] == [3, 3]


def test_worker_that_dies(server: ServerProcess, clients: list[httpx.Client]) -> None:
    """A worker that dies takes its connections along; the others serve on until it is replaced.

    Meanwhile /readyz says so. What was counted stays counted.
    """
    assert [ask(client) for client in clients] == [200, 200]
    assert count_requests(clients[0]) == 2
    requests = [OpenRequest(client.base_url) for client in clients]  # one of each worker
    before = children(server)
    os.kill(before[0], signal.SIGKILL)
    assert server.wait_for("a worker has died")["status"] == -signal.SIGKILL
    with server.client() as survivor:
        unready = survivor.get("/readyz")
        assert (unready.status_code, unready.json()["phase"]) == (503, "starting")
        assert sorted(unready.json()["workers"]) == ["ready", "starting"]
        assert sorted(finishes(request) for request in requests) == [False, True]
        assert count_requests(survivor) == 3
        until_ready(survivor)
        assert count_requests(survivor) == 3
        after = children(server)
        assert (len(after), before[0] in after, before[1] in after) == (2, False, True)


def test_version_from_after_the_start(tmp_path: Path) -> None:
    """A worker that replaces another answers with the versions of the start and no others."""
    models = shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow").parent
    bundled = max(int(version.name) for version in (models / "bow").iterdir())
    with ServerProcess(models, *TWO) as server:
        server.wait_for("the service is ready")
        shutil.copytree(models / "bow" / f"{bundled}", models / "bow" / f"{bundled + 1}")
        os.kill(children(server)[0], signal.SIGKILL)
        server.wait_for("all workers are ready again")
        with ExitStack() as connections:
            clients = [connections.enter_context(server.client()) for _ in range(4)]
            lists = [client.get("/models").json()["models"][0]["versions"] for client in clients]
    assert [[version["version"] for version in versions] for versions in lists] == [[bundled]] * 4


def test_worker_that_stands_still(server: ServerProcess, clients: list[httpx.Client]) -> None:
    """While a worker stands still, others get what is new, and its last figures count.

    Soon /readyz says so, until it goes on.
    """
    assert [ask(client) for client in clients] == [200, 200]
    assert count_requests(clients[0]) == 2
    stopped = children(server)[0]
    with ThreadPoolExecutor() as pool, server.client() as newcomer:
        os.kill(stopped, signal.SIGSTOP)
        try:
            pages = [pool.submit(count_requests, client) for client in clients]
            done, waiting = wait(pages, timeout=PATIENCE_S, return_when=FIRST_COMPLETED)
            assert [page.result() for page in done] == [2]  # the other waits for the stopped one
            assert len(waiting) == 1
            assert ask(newcomer) == 200
            while (answer := newcomer.get("/readyz")).status_code == 200:
                pass
            assert answer.json()["reason"] == "a worker stands still"
        finally:
            os.kill(stopped, signal.SIGCONT)
        until_ready(newcomer)


def test_supervisor_that_dies(server: ServerProcess) -> None:
    """Workers without a supervisor finish what is open and end."""
    with server.client() as client:
        request = OpenRequest(client.base_url)
    server.process.kill()
    assert finishes(request)
    server.wait()  # for the end of the log, which every worker holds open
    assert server.events()[-1] == "the log has ended"


def test_drain(server: ServerProcess) -> None:
    """SIGTERM makes all workers unready at once; a second one lets them finish what is open."""
    with server.client() as client:
        requests = [OpenRequest(client.base_url) for _ in range(2)]  # one of each worker
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("the service is draining")
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["workers"]) == (503, ["draining", "draining"])
        assert ask(client) == 200
    server.process.send_signal(signal.SIGTERM)
    assert [request.finish() for request in requests] == [(200, "close")] * 2
    assert server.wait() == 0


def test_who_stood_before_the_port() -> None:
    """A request that was sent before the port was closed is answered, though nobody had looked."""
    with start(*TWO) as server, server.client() as client:
        server.process.send_signal(signal.SIGSTOP)
        with ExitStack() as connections:
            waiting = [connections.enter_context(Wire(client.base_url)) for _ in range(200)]
            for wire in waiting:
                wire.send(ASK, BODY)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert {wire.read().status for wire in waiting} == {200}
        assert server.wait() == 0


def test_keyboard(server: ServerProcess) -> None:
    """Ctrl-C, which a terminal sends to supervisor and workers alike, is one signal, not several.

    The service drains: the delay is not skipped.
    """
    for pid in (*children(server), server.process.pid):
        os.kill(pid, signal.SIGINT)
    server.wait_for("the service is draining")
    with server.client() as client:
        assert ask(client) == 200
    assert server.stop(signal.SIGINT) == 0


def test_alone() -> None:
    """With WORKERS=1 there is one process."""
    with start("--workers", "1", "--engine", "onnx") as server:
        assert children(server) == []
        with server.client() as client:
            assert client.get("/readyz").json()["workers"] is None


def test_faulty_settings(tmp_path: Path) -> None:
    """What is wrong with the settings is said once, before there are workers."""
    result = run("serve", *TWO, "--models-dir", str(tmp_path / "absent"))
    assert result.returncode == 1
    assert result.stderr.count("the folder of models must exist") == 1
    assert result.stdout == ""


def supervise(name: str) -> LoggingProcess:
    return LoggingProcess(sys.executable, "-m", "tests.supervised", name)


def test_worker_that_cannot_start() -> None:
    """A worker that fails is tried again after longer and longer; the log says why."""
    with supervise("fail") as supervisor:
        supervisor.wait_for("a worker has died", times=3)
        died = [line for line in supervisor.log if line["event"] == "a worker has died"]
        assert [line["next_in_seconds"] for line in died][:3] == [0.5, 1, 2]
        assert supervisor.wait_for("a worker has failed")["error"] == "ValueError"
        assert supervisor.stop() == 0


def test_worker_that_hangs() -> None:
    """A worker whose event loop does not turn is killed and replaced, and killed at the end."""
    with supervise("stand-still") as supervisor:
        supervisor.wait_for("a worker stands still and is killed")
        assert supervisor.wait_for("a worker has died")["status"] == -signal.SIGKILL
        supervisor.wait_for("a worker stands still and is killed", times=2)
        assert supervisor.stop() == 0
