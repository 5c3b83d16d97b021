"""The texts of a benchmark and the request bodies made from them."""

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from load_tests import corpus
from load_tests.bench.errors import WrongCall

MIN_TEXTS: Final = 512
"""With fewer texts, concurrent requests would hold equal texts, which the service computes once."""

T = TypeVar("T")

_COLUMNS: Final = ("review", "text")
_GZIP_MAGIC: Final = b"\x1f\x8b"


def make_texts(count: int, seed: int) -> list[str]:
    """Generate distinct texts with the lengths of film reviews."""
    found: dict[str, None] = {}
    for text in corpus.texts(seed):
        found[text] = None
        if len(found) == count:
            break
    return list(found)


def read_texts(path: Path, count: int, seed: int) -> list[str]:
    """Choose `count` distinct texts of a file, or all of them if it has fewer.

    Args:
        path: A file with one text per line, or a TSV file with a column `review` or `text`. Either
            may be compressed with gzip.
        count: The maximum number of texts.
        seed: Determines the choice.

    Raises:
        WrongCall: The file cannot be read, or has too few texts.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        lines = content.decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise WrongCall(f"{path.name} cannot be read as text: {type(error).__name__}") from error
    header = lines[0].rstrip("\r").split("\t")
    column = next((header.index(name) for name in _COLUMNS if name in header), None)
    if len(header) > 1 and column is not None:
        rows = (line.rstrip("\r").split("\t") for line in lines[1:])
        cells: Iterable[str] = (row[column] for row in rows if len(row) == len(header))
    else:
        cells = (line.rstrip("\r") for line in lines)
    found = list(dict.fromkeys(cell for cell in cells if cell.strip()))
    if len(found) < MIN_TEXTS:
        raise WrongCall(f"{path.name} must have at least {MIN_TEXTS} texts. Received: {len(found)}")
    if len(found) > count:
        found = random.Random(seed).sample(found, count)  # noqa: S311 - reproducible, not secret
    return found


def single_bodies(texts: Iterable[str], model: str) -> list[bytes]:
    """Make a request body for each text."""
    return [_encode({"text": text, "model": model}) for text in texts]


def groups(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Split items into groups of exactly `size`; a smaller rest is dropped."""
    return [items[start : start + size] for start in range(0, len(items) - size + 1, size)]


def many_bodies(texts: Sequence[str], size: int, model: str) -> list[bytes]:
    """Make a request body for each group of `size` texts."""
    return [_encode({"texts": list(group), "model": model}) for group in groups(texts, size)]


def _encode(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
