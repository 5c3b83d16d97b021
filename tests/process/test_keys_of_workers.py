"""API keys in a real server with two workers."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from app.workers import can_fork_workers
from tests.server import COMMAND, ROOT, ServerProcess, environment

pytestmark = pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")


def make_key(file: Path, *options: str) -> dict[str, str]:
    """Append a new key to a file; returns the header that carries it."""
    command = [*COMMAND, "key", file.stem, *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    file.write_text(done.stdout)
    return {"Authorization": f"Bearer {done.stderr.split(': ')[1].strip()}"}


def ask(client: httpx.Client, headers: dict[str, str]) -> int:
    return client.get("/models", headers=headers).status_code


def test_keys_of_all_workers(tmp_path: Path) -> None:
    """A rate holds for both workers together, a new key for both; probes need none."""
    file = tmp_path / "keys.txt"
    slow = make_key(file, "--requests-per-second", "0.01")
    models = shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow").parent
    options = ("--workers", "2", "--engine", "onnx", "--api-keys-file", str(file))
    with ServerProcess(models, *options) as server:
        server.wait_for("the service is ready")
        with server.client() as one, server.client() as other:
            assert [one.get("/readyz").status_code, other.get("/readyz").status_code] == [200, 200]
            assert [ask(one, {}), ask(other, {})] == [401, 401]
            assert [ask(one, slow), ask(other, slow)] == [200, 429]
            fast = make_key(file)
            for client in (one, other):
                while ask(client, fast) != 200:
                    pass
                assert ask(client, slow) == 401
        assert server.stop() == 0
    assert server.events().count("the keys were reloaded") == 2
