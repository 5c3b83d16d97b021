"""A tiny HTTP server whose response to /predict is chosen by the text of the request."""

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Answering(socketserver.ThreadingTCPServer):
    """Responds to a number with that status; to `lost`, `close` and `odd` as they say.

    Attributes:
        bodies: The received bodies.
        connections: The number of connections.
        closes: So many connections are closed as soon as they are open.
    """

    request_queue_size = 128  # clients connect all at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.port = self.server_address[1]
        self.bodies: list[bytes] = []
        self.connections = self.closes = 0
        self.lock = threading.Lock()


class _Connection(socketserver.StreamRequestHandler):
    server: Answering
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer the requests of a connection."""
        with self.server.lock:
            self.server.connections += 1
            number = self.server.connections
        if number <= self.server.closes:
            return
        try:
            while self._answer_one():
                pass
        except ConnectionError:  # the client has closed
            pass

    def _answer_one(self) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return False
            head += line
        length = _LENGTH.search(head)
        body = self.rfile.read(int(length[1]) if length else 0)
        self.server.bodies.append(body)
        text = json.loads(body).get("text", "")
        if text == "lost":
            return False
        status = int(text) if text.isdigit() else 200
        answer = body if status == 200 else b"{}"
        lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json"]
        if text == "close":
            lines.append("Connection: close")
        if text != "odd":
            lines.append(f"Content-Length: {len(answer)}")
        data = "\r\n".join([*lines, "", ""]).encode() + answer
        half = len(data) // 2
        for piece in (data[:half], data[half:]):  # in pieces, as from a network
            self.wfile.write(piece)
        return text not in ("close", "odd")


@contextmanager
def answering() -> Iterator[Answering]:
    """Run the server in threads, which end when its clients disconnect."""
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
