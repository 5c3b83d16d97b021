"""The requests of a capacity run: texts, and the share of requests that are lists."""

import json
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.bench.load import Load


@dataclass(frozen=True, slots=True)
class Mix:
    """Which requests are sent.

    Attributes:
        list_share: The share of requests that have several texts, from 0 to 1.
        list_size: How many each of these has.
    """

    list_share: float
    list_size: int


def make_bodies(texts: Sequence[str], model: str, mix: Mix, seed: int) -> list[bytes]:
    """Make bodies in a random order of single texts and lists.

    Args:
        texts: Each is in one body; a rest that is too short for a list is left out.
        model: The model that is asked.
        mix: The share and size of lists.
        seed: Determines the order.
    """
    rng = random.Random(seed)  # noqa: S311 - the same order for the same seed
    bodies, at = [], 0
    while at < len(texts):
        size = mix.list_size if rng.random() < mix.list_share else 1
        chosen = list(texts[at : at + size])
        at += size
        if len(chosen) == size:
            content = {"text": chosen[0]} if size == 1 else {"texts": chosen}
            bodies.append(json.dumps(content | {"model": model}, separators=(",", ":")).encode())
    return bodies


def texts_per_request(bodies: Sequence[bytes]) -> float:
    """The mean number of texts in a body of `make_bodies`."""
    return statistics.fmean(len(json.loads(body).get("texts", (1,))) for body in bodies)


@contextmanager
def request_file(bodies: Sequence[bytes]) -> Iterator[Path]:
    """Write whole requests to a file, which generators read; each has a line with its size."""
    with tempfile.TemporaryDirectory(prefix="capacity-") as folder:
        path = Path(folder) / "requests"
        with path.open("wb") as file:
            for request in Load(0, bodies, 0, 0).requests():
                file.write(b"%d\n" % len(request) + request)
        yield path


def read_requests(path: Path) -> list[bytes]:
    """Read what `request_file` has written."""
    requests = []
    with path.open("rb") as file:
        while size := file.readline():
            requests.append(file.read(int(size)))
    return requests
