"""Sentences that people rated: tweets, sentences about products, and sentences of editorials.

Each was rated by twenty people or more, from -4 (extremely negative) to 4. They come with release
0.5 of the package `vaderSentiment` (MIT licence), in an archive that no later release has. So they
know what ordinary sentences mean, and which mean nothing at all; film reviews know neither.

The archive has snippets of film reviews, too. They are left out: the Stanford Sentiment Treebank,
on which others measure, consists of the same snippets.

Source:
    Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
    Media Text" (2014).
"""

import html
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import DataError

_SOURCES: Final = ("tweets", "amazonReviewSnippets", "nytEditorialSnippets")
_TEXTS, _RATINGS = "{}_GroundTruth.txt", "{}_anonDataRatings.txt"


@dataclass(frozen=True, slots=True)
class RatedText:
    """A text with what people found in it.

    Attributes:
        text: As they read it.
        positive: The probability that it is positive, if it must be one of both: those who found no
            opinion are divided evenly.
        opinion: The share of those who found any opinion.
    """

    text: str
    positive: float
    opinion: float


def read_rated_texts(path: Path, without: Iterable[str] = ()) -> list[RatedText]:
    """Read the rated texts of the source archive of `vaderSentiment` 0.5.

    Args:
        path: The `.zip` file as the package index has it.
        without: Texts that measure a model, left out; compared by their words.

    Raises:
        DataError: The file is another one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inner = [name for name in archive.namelist() if name.endswith("ICWSM_2014.tar.gz")]
            content = archive.read(inner[0])
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            found = [each for source in _SOURCES for each in _read_source(tar, source)]
    except (zipfile.BadZipFile, tarfile.TarError, LookupError, ValueError) as error:
        raise DataError(
            f"{path}: rated texts are read from the source archive of vaderSentiment 0.5. "
            f"Received: another file ({type(error).__name__})"
        ) from error
    measured = {_words(text) for text in without}
    unique = {_words(each.text): each for each in found}
    return [each for words, each in unique.items() if words not in measured]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower())) or text


def _read_source(tar: tarfile.TarFile, source: str) -> Iterator[RatedText]:
    texts = dict(_rows(tar, _TEXTS.format(source)))
    for key, rest in _rows(tar, _RATINGS.format(source)):
        ratings = json.loads(rest[rest.index("[") :])
        above, below = (sum(sign * each > 0 for each in ratings) for sign in (1, -1))
        yield RatedText(
            text=html.unescape(texts[key].split("\t", 1)[1]).strip(),
            positive=0.5 + (above - below) / (2 * len(ratings)),
            opinion=(above + below) / len(ratings),
        )


def _rows(tar: tarfile.TarFile, name: str) -> Iterator[tuple[str, str]]:
    """Yield the key of each line and the rest of it."""
    member = next(each for each in tar.getmembers() if each.name.endswith(name))
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(name)
    for line in file.read().decode("utf-8-sig").split("\n"):
        if line.strip():
            key, rest = line.rstrip("\r").split("\t", 1)
            yield key, rest
