import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.errors import DataError
from tests.deferred import deferred
from training.data.fetch import IMDB_SHA256, IMDB_URL, fetch_imdb

with deferred():
    from training.data.readers import read

FILES = {
    "aclImdb/train/pos/0_9.txt": "good",
    "aclImdb/train/neg/0_1.txt": "bad",
    "aclImdb/test/pos/0_10.txt": "fine",
    "aclImdb/test/neg/0_2.txt": "poor",
}


Fault = Callable[[Callable[[], object]], str]


def pack(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Home:
    """A web server with one file, which can break connections and refuse ranges.

    Attributes:
        content: The file.
        break_after: How many bytes each of the next answers gets before the connection breaks.
        ranges: Whether a request for a part is honoured.
        status: Of every answer to a request for the whole.
        asked: The Range header of each request so far.
    """

    def __init__(self) -> None:
        self.content = pack(FILES)
        self.break_after: list[int] = []
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []
        home = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers["Range"]
                home.asked.append(wanted)
                start = 0
                if wanted and home.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                part = home.content[start:]
                self.send_response(206 if start else home.status)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part[: home.break_after.pop(0)] if home.break_after else part)

            def log_message(self, *_: object) -> None:
                """Keep standard error clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/aclImdb_v1.tar.gz"

    def fetch(self, destination: Path) -> Path:
        """Fetch from here, whatever is served."""
        return fetch_imdb(destination, url=self.url, sha256=sha256(self.content))


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home()
    thread = threading.Thread(target=home.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield home
    home.server.shutdown()
    home.server.server_close()
    thread.join()


@pytest.fixture
def fault(tmp_path: Path) -> Fault:
    """Runs something that must fail, checks that nothing is left, and gives the sentence."""

    def run(action: Callable[[], object]) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(DataError) as caught:
            action()
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return run


def test_fetch_unpacks_what_the_reader_reads(home: Home, tmp_path: Path) -> None:
    """The archive becomes a folder that `read` knows, and nothing else is left beside it."""
    folder = home.fetch(tmp_path / "data")
    assert folder == tmp_path / "data" / "aclImdb"
    assert list((tmp_path / "data").iterdir()) == [folder]
    assert read(folder).texts() == ["bad", "good"]


def test_fetch_does_nothing_the_second_time(home: Home, tmp_path: Path) -> None:
    """A folder that is there already is not downloaded again."""
    home.fetch(tmp_path)
    assert home.fetch(tmp_path) == tmp_path / "aclImdb"
    assert len(home.asked) == 1


def test_fetch_takes_an_archive_at_hand(tmp_path: Path) -> None:
    """An archive downloaded by hand is verified, unpacked and kept; no request is sent."""
    archive = tmp_path / "by-hand.tar.gz"
    archive.write_bytes(pack(FILES))
    folder = fetch_imdb(
        tmp_path / "data", archive=archive, url="http://unused", sha256=sha256(archive.read_bytes())
    )
    assert len(read(folder, split="test")) == 2
    assert archive.exists()


def test_fetch_resumes_a_broken_download(home: Home, tmp_path: Path) -> None:
    """When the connection breaks, only the rest is asked for."""
    home.break_after = [100, 50]
    home.fetch(tmp_path)
    assert home.asked == [None, "bytes=100-", "bytes=150-"]


def test_fetch_starts_over_without_ranges(home: Home, tmp_path: Path) -> None:
    """A server that knows no ranges sends the whole again, and the whole is right."""
    home.break_after, home.ranges = [100], False
    assert read(home.fetch(tmp_path)).texts() == ["bad", "good"]


def test_fetch_gives_up_after_three_attempts(home: Home, tmp_path: Path, fault: Fault) -> None:
    """A connection that keeps breaking is reported with how far it came."""
    home.break_after = [10, 10, 10]
    message = fault(lambda: home.fetch(tmp_path / "data"))
    assert f"the connection closed after 30 of {len(home.content)} bytes" in message
    assert len(home.asked) == 3


def test_fetch_without_network_says_what_to_do(home: Home, tmp_path: Path, fault: Fault) -> None:
    """No network: the sentence has the address, the reason, and the way with a file by hand."""
    home.server.socket.close()
    message = fault(lambda: home.fetch(tmp_path / "data"))
    assert message == (
        f"{home.url} could not be downloaded: Connection refused. Without network access, download "
        "aclImdb_v1.tar.gz on another machine, copy it here, and run the command again with "
        "--archive FILE"
    )


def test_fetch_repeats_what_the_server_says(home: Home, tmp_path: Path, fault: Fault) -> None:
    """A file that is gone is asked for once, and the server's answer is passed on."""
    home.status = 404
    assert "the server answered 404 Not Found" in fault(lambda: home.fetch(tmp_path / "data"))
    assert len(home.asked) == 1


def test_fetch_leaves_nothing_of_a_wrong_archive(home: Home, tmp_path: Path, fault: Fault) -> None:
    """An archive with another digest is not unpacked; both digests are named."""
    right = "0" * 64
    message = fault(lambda: fetch_imdb(tmp_path / "data", url=home.url, sha256=right))
    assert f"must be {right}. Received: {sha256(home.content)}" in message


@pytest.mark.parametrize(
    "files",
    [{**FILES, "../outside.txt": "x"}, {**FILES, "aclImdb/../../outside.txt": "x"}],
    ids=["above", "through the folder"],
)
def test_fetch_unpacks_nothing_outside(
    home: Home,
    tmp_path: Path,
    fault: Fault,
    files: dict[str, str],
) -> None:
    """A member that points out of the folder stops the unpacking, and nothing is left."""
    home.content = pack(files)
    assert "the archive cannot be unpacked" in fault(lambda: home.fetch(tmp_path / "data"))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (pack({"aclImdb/train/pos/0_9.txt": "good"}), "Received: no train/neg"),
        (b"no archive at all", "the archive cannot be unpacked"),
    ],
    ids=["incomplete", "no archive"],
)
def test_fetch_refuses_another_archive(
    home: Home,
    tmp_path: Path,
    fault: Fault,
    content: bytes,
    rule: str,
) -> None:
    """Even with the digest asked for, an archive without the reviews is refused."""
    home.content = content
    assert rule in fault(lambda: home.fetch(tmp_path / "data"))


def test_fetch_does_not_touch_a_folder_in_the_way(home: Home, tmp_path: Path, fault: Fault) -> None:
    """Something else by the name of the result is left alone and named."""
    (tmp_path / "aclImdb").mkdir()
    message = fault(lambda: home.fetch(tmp_path))
    assert message.endswith("aclImdb: the folder exists but lacks train/pos; move it away first")


def test_fetch_names_an_archive_that_is_not_there(tmp_path: Path, fault: Fault) -> None:
    """--archive with a wrong path is answered with that path."""
    message = fault(lambda: fetch_imdb(tmp_path / "data", archive=tmp_path / "no.tar.gz"))
    assert message.endswith("no.tar.gz: there is no such file; --archive takes aclImdb_v1.tar.gz")


def test_fetch_needs_a_folder_it_can_write(tmp_path: Path, home: Home, fault: Fault) -> None:
    """A destination that is a file is named, with the reason."""
    (tmp_path / "data").write_text("in the way")
    assert "data: cannot be written:" in fault(lambda: home.fetch(tmp_path / "data"))


def test_fetch_speaks_http_only(tmp_path: Path, fault: Fault) -> None:
    """An address of another kind, such as a local file, is refused."""
    message = fault(lambda: fetch_imdb(tmp_path / "data", url="file:///etc/passwd"))
    assert message.startswith("the address must begin with https:// or http://")


def test_fetch_asks_the_original_home() -> None:
    """By default the archive comes from its authors, over TLS, with its known digest."""
    assert IMDB_URL == "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    assert len(bytes.fromhex(IMDB_SHA256)) == 32
