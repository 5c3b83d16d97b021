"""The container image, built and run as a cluster would run it: `make container`.

Needs docker or podman; docs/container.md says how to get by without a Docker engine. The variables
`VALENCE_IMAGE` and `VALENCE_TRAIN_IMAGE` name images that are there already, which are then not
built.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import __version__
from app.artifact import read_manifest
from tests.collector import collecting
from tests.corpus import write_tsv_folder
from tests.published import publish

pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/valence:dev"
TRACED = f"localhost/valence:{__version__}-traced"
STRANGER = "54321:54321"
PATIENCE_S = 120
MAX_MB = 150
"""Beyond the base; docs/container.md tells what weighs."""

COUNT = """
import json, os
def size(top):
    files = (os.path.join(at, name) for at, _, names in os.walk(top) for name in names)
    return sum(os.lstat(file).st_size for file in files)
site = next(p for p in __import__("sys").path if p.endswith("site-packages"))
items = {f"/opt/venv: {n}": size(os.path.join(site, n)) for n in os.listdir(site)}
items |= {f"/srv/valence/{n}": size(f"/srv/valence/{n}") for n in os.listdir("/srv/valence")}
items |= {"/opt/bytecode": size("/opt/bytecode")}
print(json.dumps({"total": size("/opt") + size("/srv"), "items": items}))
"""


def _engine() -> str:
    """Docker or podman, whichever works."""
    for name in filter(shutil.which, ("docker", "podman")):
        if subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    pytest.skip("needs docker or podman, and neither works here")


@pytest.fixture(scope="module")
def engine() -> str:
    return _engine()


@pytest.fixture(scope="module")
def image(engine: str) -> str:
    """The image; built here unless `VALENCE_IMAGE` names one."""
    if named := os.environ.get("VALENCE_IMAGE"):
        return named
    subprocess.run([ROOT / "k8s" / "image" / "build", "cpu"], check=True)
    return IMAGE


class Container:
    """A running container, with a read-only root, no capabilities and a user without a name."""

    def __init__(self, engine: str, image: str, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._engine = engine
        self._started = time.monotonic()
        self.id = self.call(
            *("run", "--detach", "--network", "host", "--read-only", "--cap-drop", "all"),
            *("--security-opt", "no-new-privileges", "--user", STRANGER, *options),
            *("-e", f"VALENCE_PORT={port}", "-e", "VALENCE_HOST=127.0.0.1"),
            *("-e", "VALENCE_WORKERS=2", image),
        )
        self.address = f"http://127.0.0.1:{port}"

    def call(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._engine, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait_until_ready(self) -> float:
        """Returns the seconds from the command to the first 200."""
        while time.monotonic() < self._started + PATIENCE_S:
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return time.monotonic() - self._started
            except httpx.TransportError:
                running = self.call("inspect", self.id, "--format", "{{.State.Running}}")
                assert running == "true", self.call("logs", self.id)
            time.sleep(0.02)
        raise AssertionError(self.call("logs", self.id))

    def remove(self) -> None:
        self.call("rm", "--force", self.id)


@pytest.fixture
def container(engine: str, image: str) -> Iterator[Container]:
    container = Container(engine, image)
    yield container
    container.remove()


def test_predicts(container: Container) -> None:
    """It starts read-only as a user that it does not know, and predicts with all its models."""
    print(f"\nready after {container.wait_until_ready():.2f} s")
    with httpx.Client(base_url=container.address) as client:
        states = client.get("/models").json()["models"]
        assert {"bow", "lstm", "tweets-lstm"} <= {model["name"] for model in states}
        for model in states:
            body = {"text": "A warm, funny film.", "model": model["name"]}
            answer = client.post("/predict", json=body)
            assert answer.status_code == 200
            assert answer.json()["label"] in model["versions"][0]["labels"]
            metadata = client.get(f"/v1/models/{model['name']}/metadata")
            assert metadata.status_code == 200
        assert client.get("/docs").status_code == 200
        assert "valence_requests_total" in client.get("/metrics").text


def test_terminates_under_load(container: Container) -> None:
    """SIGTERM under load: no request fails, and the exit status is 0."""
    container.wait_until_ready()
    answered: list[int] = []
    lost: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=container.address, timeout=PATIENCE_S) as client:
            while not ended.is_set():
                try:
                    answer = client.post("/predict", json={"text": "A warm, funny film. " * 40})
                except httpx.ConnectError:  # nobody listens any more: the drain is over
                    return
                except httpx.TransportError as error:
                    lost.append(repr(error))
                    return
                answered.append(answer.status_code)

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    while len(answered) < 200:
        time.sleep(0.01)
    container.call("stop", "--time", "60", container.id)
    ended.set()
    for client in clients:
        client.join()
    status = container.call("inspect", container.id, "--format", "{{.State.ExitCode}}")
    print(f"\n{len(answered)} requests answered, {len(lost)} lost")
    assert (status, set(answered), lost) == ("0", {200}, [])


def test_mounted_models(engine: str, image: str) -> None:
    """Models of a volume take the place of those in the image."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to strangers
        Path(folder).chmod(0o755)
        publish(Path(folder), "bow", 2)
        container = Container(engine, image, "--volume", f"{folder}:/srv/valence/models:ro")
        try:
            container.wait_until_ready()
            models = httpx.get(f"{container.address}/models").json()["models"]
            assert [model["name"] for model in models] == ["bow"]
        finally:
            container.remove()


def test_spans_of_the_traced_image(engine: str) -> None:
    """The image `traced` sends the spans of its requests to the collector that it is told."""
    subprocess.run([ROOT / "k8s" / "image" / "build", "traced"], check=True)
    with collecting() as collector:
        endpoint = f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{collector.server_port}"
        container = Container(engine, TRACED, "-e", "VALENCE_TRACING=otlp", "-e", endpoint)
        try:
            print(f"\nready after {container.wait_until_ready():.2f} s")
            body = {"text": "A warm, funny film."}
            assert httpx.post(f"{container.address}/predict", json=body).status_code == 200
            container.call("stop", "--time", "60", container.id)
        finally:
            container.remove()
    assert b"POST /predict" in b"".join(body for _, body in collector.received)


def test_train_image(engine: str) -> None:
    """The image `train` trains and exports a model: read-only, any user, without network."""
    image = os.environ.get("VALENCE_TRAIN_IMAGE")
    if not image:
        subprocess.run([ROOT / "k8s" / "image" / "build", "train"], check=True)
        image = f"localhost/valence:{__version__}-train"
    # pytest's own folders are closed to strangers, and the stranger owns what it wrote
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)
        write_tsv_folder(Path(folder, "data"))
        command = [
            *(engine, "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp"),  # noqa: S108
            *("--cap-drop", "all", "--user", STRANGER, "--volume", f"{folder}:/work", image),
        ]
        trained = ("--config", "smoke", "--set", "epochs=1", "--data", "/work/data")
        subprocess.run([*command, "train", *trained, "--run", "/work/run"], check=True)
        exported = ("--run", "/work/run", "--models", "/work/models")
        subprocess.run([*command, "export", *exported], check=True)
        assert read_manifest(Path(folder, "models", "smoke", "1")).labels


def test_size(engine: str, image: str) -> None:
    """Beyond its base the image has what the service reads, and little else."""
    command = [engine, "run", "--rm", "--network", "none", "--entrypoint", "python"]
    done = subprocess.run([*command, image, "-c", COUNT], capture_output=True, check=True)
    found = json.loads(done.stdout)
    print()
    for name, size in sorted(found["items"].items(), key=lambda item: -item[1])[:14]:
        print(f"{size / 1e6:7.1f} MB  {name}")
    print(f"{found['total'] / 1e6:7.1f} MB  in all")
    assert found["total"] / 1e6 <= MAX_MB


def test_nothing_to_build_with(engine: str, image: str) -> None:
    """The environment has no TensorFlow, no pip, no installer, and models without a SavedModel."""
    script = (
        "import importlib.util as u, pathlib, sys\n"
        "names = ['tensorflow', 'keras', 'setuptools', 'pytest']\n"
        "site = [p for p in sys.path if p.startswith('/opt/venv')][0]\n"
        "there = [n for n in [*names, 'pip'] if pathlib.Path(site, n).exists()]\n"
        "there += [str(p) for p in pathlib.Path('/srv').rglob('saved_model.pb')]\n"
        "print(there)"
    )
    command = [engine, "run", "--rm", "--network", "none", "--entrypoint", "python"]
    done = subprocess.run([*command, image, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_labels(engine: str, image: str) -> None:
    """The labels of OCI say what it is, of which revision, and on which base."""
    command = [engine, "image", "inspect", image, "--format", "{{json .Config.Labels}}"]
    labels = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    prefix = "org.opencontainers.image."
    for name in ("title", "description", "licenses", "version", "revision", "base.name"):
        assert labels[f"{prefix}{name}"]
