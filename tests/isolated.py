"""Programs in a network namespace of their own, and every packet that they send.

    unshare --net --map-root-user python -m tests.isolated serve --workers 2
    unshare --net --map-root-user python -m tests.isolated training
    unshare --net --map-root-user python -m tests.isolated onnxruntime

Every address is local in the namespace, so that a look-up or a connection to anywhere becomes a
packet on the loopback device. Lines on stdout say how far it is: "running", "packet" for the first
packet that is not HTTP to the service, then, after a line on stdin, all of these packets as JSON.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

from tests.server import ROOT, ServerProcess

_ALL_PROTOCOLS = socket.htons(0x0003)
_MARK = b"the last packet that matters was sent before this one"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Sniffer:
    """Every packet on the loopback device, apart from TCP from and to the ports in `expected`."""

    def __init__(self) -> None:
        self.packets: list[str] = []
        self.expected: set[int] = set()
        self._marked = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, _ALL_PROTOCOLS)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while not self._marked.is_set():
            packet = self._socket.recv(65536)
            if _MARK in packet:
                self._marked.set()
            elif not self._is_expected(packet):
                self.packets.append(repr(packet))
                if len(self.packets) == 1:
                    say("packet")

    def _is_expected(self, packet: bytes) -> bool:
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return False
        ports = packet[4 * (packet[0] & 15) :][:4]
        both = (int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big"))
        return not self.expected.isdisjoint(both)

    def finish(self) -> list[str]:
        """What was sent until now."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(_MARK, ("127.0.0.1", 9))
        assert self._marked.wait(60)
        return self.packets


def make_every_address_local() -> None:
    """Bring the loopback device up, and send every address to it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for family in ("-4", "-6"):
        route = ["ip", family, "route", "add", "local", "default", "dev", "lo"]
        subprocess.run(route, check=family == "-4")  # IPv6 may be switched off


@contextlib.contextmanager
def serving(sniffer: Sniffer, *options: str) -> Iterator[None]:
    """A service that has answered a request to each bundled model."""
    with ServerProcess(ROOT / "models", *options) as server:
        server.wait_for("the service is ready")
        with server.client() as client:
            sniffer.expected.add(client.base_url.port or 0)
            for model in ("lstm", "bow", "bow-ngrams", "tweets-lstm"):
                body = {"text": "superb", "model": model}
                client.post("/predict", json=body).raise_for_status()
            client.get("/metrics").raise_for_status()
        yield
        assert server.stop() == 0


@contextlib.contextmanager
def onnxruntime(_sniffer: Sniffer) -> Iterator[None]:
    """ONNX Runtime as it comes, in this process."""
    import onnxruntime  # noqa: F401 for what it does to the network

    yield


@contextlib.contextmanager
def training(_sniffer: Sniffer) -> Iterator[None]:
    """ONNX Runtime as training runs it, in this process."""
    from training.export.runtimes import OnnxModel

    OnnxModel(next(ROOT.glob("models/bow/*/model.onnx")))
    yield


def run(name: str, *options: str) -> None:
    """Run one of the programs, and tell what it sends."""
    make_every_address_local()
    sniffer = Sniffer()
    programs = {"serve": serving, "training": training, "onnxruntime": onnxruntime}
    with programs[name](sniffer, *options):
        say("running")
        sys.stdin.readline()
    say(json.dumps(sniffer.finish()))


if __name__ == "__main__":
    run(*sys.argv[1:])
