"""Several workers behind one port, in a real server."""

import os
import re
import resource
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

pytestmark = pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")

TWO = ("--workers", "2", "--engine", "onnx")
PREDICT = "POST /predict HTTP/1.1\nHost: valence\nContent-Length: 18"
BODY = b'{"text": "superb"}'
_COUNTER = re.compile(r'^valence_requests_total\{.*route="/predict".*\} (\S+)$', re.MULTILINE)


def start(models: Path, *options: str) -> ServerProcess:
    server = ServerProcess(models, *options)
    server.wait_for("the service is ready")
    return server


@pytest.fixture(scope="module")
def shared(bow_models: Path) -> Iterator[ServerProcess]:
    """A server with two workers, for tests that do not change its state."""
    with start(bow_models, *TWO) as server:
        yield server


@pytest.fixture
def server(bow_models: Path) -> Iterator[ServerProcess]:
    """A server with two workers, for tests that kill, stop or signal them."""
    with start(bow_models, *TWO, "--drain-delay-s", "600") as server:
        yield server


@pytest.fixture
def clients(server: ServerProcess) -> Iterator[list[httpx.Client]]:
    """Two clients; each has an open connection to another worker."""
    with server.client() as one, server.client() as other:
        for client in (one, other):
            client.get("/livez").raise_for_status()
        yield [one, other]


def children(server: ServerProcess) -> list[int]:
    """The child processes of a server, dead ones included until they are reaped."""
    pid = server.process.pid
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def count_sockets(pid: int) -> int:
    """The number of open sockets of a process."""
    names = [descriptor.resolve().name for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(name.startswith("socket:") for name in names)


def ask(client: httpx.Client) -> int:
    return client.post("/predict", json={"text": "superb"}).status_code


def count_requests(client: httpx.Client) -> float:
    """The number of requests to /predict, from /metrics."""
    page = client.get("/metrics").text
    return sum(float(number) for number in _COUNTER.findall(page))


def until_whole(client: httpx.Client) -> None:
    """Wait until all workers are ready, until the timeout of the test."""
    while client.get("/readyz").json()["reason"] is not None:
        pass


def read_metric(client: httpx.Client, name: str, **labels: str) -> float:
    """The value of one series of /metrics."""
    pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
    (line,) = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(f"valence_{name}{{{pairs}}} ")
    ]
    return float(line.rpartition(" ")[2])


def read_start(client: httpx.Client) -> str:
    """When the service was started, as /metrics has it."""
    (line,) = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith("process_start_time_seconds ")
    ]
    return line


def finishes(request: OpenRequest) -> bool:
    """Whether a request is answered after its body is sent."""
    try:
        return request.finish()[0] == 200
    except ConnectionError:
        return False


def test_connections_are_balanced(shared: ServerProcess) -> None:
    """Each worker gets the same number of open connections, and releases closed ones."""
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


def test_readiness_covers_all_workers(shared: ServerProcess) -> None:
    """/readyz lists the phase of each worker."""
    with shared.client() as client:
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["workers"]) == (200, ["ready", "ready"])


def test_no_free_file_descriptor(shared: ServerProcess) -> None:
    """While the supervisor has no file descriptor for a connection it waits: logged and counted."""
    pid, kind = shared.process.pid, resource.RLIMIT_NOFILE
    soft, hard = resource.prlimit(pid, kind)
    with shared.client() as client, ThreadPoolExecutor() as pool:
        resource.prlimit(pid, kind, (3, hard))
        status = pool.submit(ask, client)
        event = shared.wait_for("connections are exhausted")
        resource.prlimit(pid, kind, (soft, hard))
        assert (status.result(), event["reason"]) == (200, "Too many open files")
        assert read_metric(client, "rejected_total", reason="connections") > 0


def test_metrics_cover_all_workers(server: ServerProcess, clients: list[httpx.Client]) -> None:
    """Every worker answers /metrics with the counts of all workers."""
    assert [ask(client) for client in (clients[0], clients[0], clients[1])] == [200] * 3
    assert [count_requests(client) for client in clients] == [3, 3]


def test_worker_that_dies(server: ServerProcess, clients: list[httpx.Client]) -> None:
    """A worker that dies loses its connections only; it is restarted, and no count is lost.

    The service stays ready; the loss is in /readyz, in the log and in the metrics. Its start time
    stays: the alert for containers that were restarted goes by it.
    """
    assert [ask(client) for client in clients] == [200, 200]
    assert count_requests(clients[0]) == 2
    started = read_start(clients[0])
    requests = [OpenRequest(client.base_url) for client in clients]  # one of each worker
    before = children(server)
    os.kill(before[0], signal.SIGKILL)
    assert server.wait_for("worker died")["status"] == -signal.SIGKILL
    with server.client() as survivor:
        ready = survivor.get("/readyz")
        assert (ready.status_code, ready.json()["phase"]) == (200, "ready")
        assert sorted(ready.json()["workers"]) == ["ready", "starting"]
        assert ready.json()["reason"] == "worker 1: died; it is being replaced"
        assert survivor.get("/models").json()["reason"] == ready.json()["reason"]
        assert read_metric(survivor, "workers", state="died") == 1
        assert read_metric(survivor, "worker_deaths_total", reason="killed") == 1
        assert sorted(finishes(request) for request in requests) == [False, True]
        assert count_requests(survivor) == 3
        until_whole(survivor)
        assert count_requests(survivor) == 3
        assert read_start(survivor) == started
        assert read_metric(survivor, "workers", state="ready") == 2
        after = children(server)
        assert (len(after), before[0] in after, before[1] in after) == (2, False, True)


def test_replacement_that_cannot_load(tmp_path: Path) -> None:
    """A replacement that cannot load what the others serve stays unready, and tries again.

    The log, /readyz, /models and the metrics have the reason; the others keep answering.
    """
    models = shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow").parent
    graph = next(models.glob("bow/*/model.onnx"))
    with start(models, *TWO) as server:
        graph.rename(tmp_path / "model.onnx")
        os.kill(children(server)[0], signal.SIGKILL)
        failed = server.wait_for("worker differs")
        assert (failed["worker"], "model.onnx is missing" in failed["reason"]) == (1, True)
        with server.client() as client:
            assert ask(client) == 200
            ready = client.get("/readyz")
            assert (ready.status_code, sorted(ready.json()["workers"])) == (
                *(200, ["ready", "warming"]),
            )
            assert ready.json()["reason"] == f"worker 1: differs: {failed['reason']}"
            assert client.get("/models").json()["reason"] == ready.json()["reason"]
            assert read_metric(client, "workers", state="differs") == 1
        (tmp_path / "model.onnx").rename(graph)
        server.wait_for("all workers are ready again")
        assert server.stop() == 0


def test_unresponsive_worker(server: ServerProcess, clients: list[httpx.Client]) -> None:
    """An unresponsive worker gets no new connections, and its last metrics still count.

    The service stays ready; /readyz names the worker until it responds again.
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
            while (answer := newcomer.get("/readyz")).json()["reason"] is None:
                pass
            assert answer.status_code == 200
            assert answer.json()["reason"] == "worker 1: unresponsive"
        finally:
            os.kill(stopped, signal.SIGCONT)
        until_whole(newcomer)


def test_supervisor_that_dies(server: ServerProcess) -> None:
    """When the supervisor dies, the workers finish open requests and end."""
    with server.client() as client:
        request = OpenRequest(client.base_url)
    server.process.kill()
    assert finishes(request)
    server.wait()  # for the end of the log, which every worker holds open
    assert server.events()[-1] == "the log has ended"


def test_drain(server: ServerProcess) -> None:
    """SIGTERM makes all workers unready at once; after a second one they finish open requests."""
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


def test_connections_in_the_backlog(bow_models: Path) -> None:
    """A request that was sent before the port is closed is answered, even if not accepted yet."""
    with start(bow_models, *TWO) as server, server.client() as client:
        server.process.send_signal(signal.SIGSTOP)
        with ExitStack() as connections:
            waiting = [connections.enter_context(Wire(client.base_url)) for _ in range(200)]
            for wire in waiting:
                wire.send(PREDICT, BODY)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert {wire.read().status for wire in waiting} == {200}
        assert server.wait() == 0


def test_keyboard(server: ServerProcess) -> None:
    """Ctrl-C, which a terminal sends to supervisor and workers alike, counts as one signal.

    The service drains, and does not skip the delay.
    """
    for pid in (*children(server), server.process.pid):
        os.kill(pid, signal.SIGINT)
    server.wait_for("the service is draining")
    with server.client() as client:
        assert ask(client) == 200
    assert server.stop(signal.SIGINT) == 0


def test_parent_that_ignores_children(bow_models: Path) -> None:
    """A worker that dies is replaced, even where the parent of the service ignores SIGCHLD."""
    with ServerProcess(bow_models, *TWO, setup="trap '' CHLD") as server:
        server.wait_for("the service is ready")
        os.kill(children(server)[0], signal.SIGKILL)
        assert server.wait_for("worker died")["status"] == -signal.SIGKILL
        with server.client() as client:
            assert ask(client) == 200
        assert server.stop() == 0


def test_one_worker(bow_models: Path) -> None:
    """With WORKERS=1 there is one process."""
    with start(bow_models, "--workers", "1", "--engine", "onnx") as server:
        assert children(server) == []
        with server.client() as client:
            assert client.get("/readyz").json()["workers"] is None


def test_faulty_settings(tmp_path: Path) -> None:
    """A wrong setting is reported once, before any worker is started."""
    result = run("serve", *TWO, "--models-dir", str(tmp_path / "absent"))
    assert result.returncode == 1
    assert result.stderr.count("the folder of models must exist") == 1
    assert result.stdout == ""


def supervise(name: str) -> LoggingProcess:
    return LoggingProcess(sys.executable, "-m", "tests.supervised", name)


def test_worker_that_cannot_start() -> None:
    """A worker that fails is restarted, with a growing delay; the log has the reason."""
    with supervise("raise") as supervisor:
        supervisor.wait_for("worker died", times=3)
        died = [line for line in supervisor.log if line["event"] == "worker died"]
        assert [line["restart_in_seconds"] for line in died][:3] == [0.5, 1, 2]
        assert supervisor.wait_for("worker failed")["error"] == "ValueError"
        assert supervisor.stop() == 0


def test_worker_that_hangs() -> None:
    """A worker without a heartbeat is killed and restarted; at the end it is killed, too."""
    with supervise("hang") as supervisor:
        supervisor.wait_for("worker unresponsive, killed")
        assert supervisor.wait_for("worker died")["status"] == -signal.SIGKILL
        supervisor.wait_for("worker unresponsive, killed", times=2)
        assert supervisor.stop() == 0
