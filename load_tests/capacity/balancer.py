"""A real balancer in front of replicas: nginx or HAProxy, whichever is installed."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.capacity.generator import pinned

BALANCERS: Final = ("nginx", "haproxy")
_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin")
_READY_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 10.0

_NGINX: Final = """\
daemon off;
worker_processes {threads};
{placed}
error_log stderr error;
pid {folder}/pid;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 16m;
  client_body_buffer_size 256k;
  upstream replicas {{
    {method}
{servers}
    keepalive 256;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""

_HAPROXY: Final = """\
global
  nbthread {threads}
{placed}
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend door
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance {method}
{servers}
"""

_METHODS: Final = {
    "nginx": {"round-robin": "", "least-requests": "least_conn;", "random": "random;"},
    "haproxy": {
        "round-robin": "roundrobin",
        "least-requests": "leastconn",
        "random": "random(1)",
    },
}


def find_balancer(name: str) -> tuple[str, str]:
    """Find a balancer; returns its name and its path.

    Args:
        name: Its name, or `auto` for the first that is installed.

    Raises:
        BenchError: It is not installed.
    """
    for each in BALANCERS if name == "auto" else (name,):
        path = shutil.which(each) or shutil.which(each, path=":".join(_FOLDERS))
        if path is not None:
            return each, path
    missing = "nginx or haproxy" if name == "auto" else name
    raise BenchError(f"{missing} must be installed, for instance by: apt-get install nginx-light")


def write_config(
    name: str,
    folder: Path,
    port: int,
    replicas: Sequence[int],
    *,
    method: str,
    cores: Sequence[int],
    user: str,
) -> str:
    """Write the configuration of a balancer.

    Args:
        name: The balancer.
        folder: For its files.
        port: Where it listens on this machine.
        replicas: The ports of the replicas.
        method: `round-robin`, `least-requests` or `random`.
        cores: Each has a worker or thread; one anywhere if empty.
        user: A line for nginx that names the user of its workers; empty for its own.
    """
    lines = {
        # One failure would else send everything to the other replica for 10 s.
        "nginx": [f"    server 127.0.0.1:{each} max_fails=0;" for each in replicas],
        "haproxy": [f"  server r{each} 127.0.0.1:{each}" for each in replicas],
    }[name]
    masks = " ".join(f"{1 << core:b}" for core in cores)
    placed = {
        "nginx": f"worker_cpu_affinity {masks};" if cores else "",
        "haproxy": "\n".join(f"  cpu-map 1/{n} {core}" for n, core in enumerate(cores, 1)),
    }[name]
    template = {"nginx": _NGINX, "haproxy": _HAPROXY}[name]
    return template.format(
        folder=folder,
        port=port,
        threads=max(1, len(cores)),
        method=_METHODS[name][method],
        placed=placed,
        servers="\n".join(lines),
        user=user,
    )


@contextmanager
def balancing(
    name: str, replicas: Sequence[int], cores: Sequence[int], *, method: str
) -> Iterator[int]:
    """Run a balancer with a worker on each of some cores; yields its port.

    Raises:
        BenchError: It is not installed, or does not start.
    """
    name, path = find_balancer(name)
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="balancer-") as made:
        folder = Path(made)
        config = folder / "config"
        text = write_config(
            name, folder, port, replicas, method=method, cores=cores, user=_user_line()
        )
        config.write_text(text)
        options = ["-p", str(folder), "-c", str(config)] if name == "nginx" else ["-f", str(config)]
        errors = folder / "errors"
        with errors.open("wb") as stderr, pinned(cores):
            process = subprocess.Popen(  # noqa: S603 - the path of a balancer, our options
                [path, *options], stdout=stderr, stderr=stderr
            )
        try:
            _wait_until_open(process, port, errors)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_open(process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    lines = errors.read_text(errors="replace").strip().splitlines() or ["no message"]
    raise BenchError(f"the balancer does not start: {lines[-1]}")


def _user_line() -> str:
    """Started by root, nginx gives its workers to `nobody`, who cannot read a temporary folder."""
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return f"user {name};" if name == "root" else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
