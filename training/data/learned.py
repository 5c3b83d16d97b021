"""The texts that a version has learned from, as digests in its folder.

A file `learned.bin` has a line of JSON with the number of texts of each split, then for each split
in that order the first 8 bytes of the digest of every text, sorted. The digest is that of
`training.data.corpus.text_key`, so texts that differ in white space only are equal. Two different
texts share 8 bytes with a probability of 1 in 10^14 for a version of 100,000 texts.

A text cannot be read out of its digest, but somebody who guesses a text can test the guess.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.artifact import LEARNED, Manifest
from app.errors import DataError
from training.config import Config
from training.data.accounting import CALIBRATED, LEARNED_FROM, LEARNED_UNLABELLED
from training.data.corpus import Corpus, Example, short_digests
from training.data.dataset import Dataset, Source, load_dataset
from training.data.split import fingerprint, share_that_leaves
from training.support.arrays import BoolArray

_HEADER_BYTES: Final = 1000  # more than a header has


@dataclass(frozen=True, slots=True)
class Learned:
    """The texts of a training.

    Attributes:
        texts: For each use of a text, by reason (see `training.data.accounting`), the first 8
            bytes of the digests, uint64 (texts,), ascending.
    """

    texts: Mapping[str, NDArray[np.uint64]]

    @classmethod
    def of(cls, dataset: Dataset, further: Iterable[str] = ()) -> Self:
        """The texts of a data set, without its test texts, and further training texts."""
        corpora = {
            LEARNED_FROM: dataset.train,
            CALIBRATED: dataset.validation,
            LEARNED_UNLABELLED: dataset.unlabelled,
        }
        texts = {use: short_digests(corpus) for use, corpus in corpora.items()}
        others = tuple(Example(text, "") for text in further)
        more = short_digests(Corpus("further", others, ()))
        texts[LEARNED_FROM] = np.concatenate([texts[LEARNED_FROM], more])
        return cls({use: np.sort(digests) for use, digests in texts.items()})

    def find(self, corpus: Corpus) -> dict[str, BoolArray]:
        """For each use, whether a text was used so, bool (rows,)."""
        digests = short_digests(corpus)
        return {use: np.isin(digests, known) for use, known in self.texts.items()}

    def write(self, path: Path) -> None:
        """Write the file."""
        header = json.dumps({use: len(known) for use, known in self.texts.items()})
        digests = [known.astype(">u8").tobytes() for known in self.texts.values()]
        path.write_bytes(b"".join([header.encode("ascii"), b"\n", *digests]))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            DataError: It is not such a file.
        """
        header, _, digests = path.read_bytes().partition(b"\n")
        try:
            counts = json.loads(header[:_HEADER_BYTES])
            known = np.frombuffer(digests, ">u8").astype(np.uint64)
            ends = np.cumsum(list(counts.values())).tolist()
            total = ends[-1]
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            raise DataError(f"{path}: not the digests of texts: {error}") from error
        if total != len(known):
            raise DataError(f"{path}: must have {total} digests. Received: {len(known)}")
        return cls(dict(zip(counts, np.split(known, ends[:-1]), strict=True)))


def find_learned(folder: Path, manifest: Manifest, source: Source) -> Learned | None:
    """The texts that a version has learned from; None if that cannot be known.

    A version without `learned.bin` is of an older release. Its manifest has fingerprints only; so
    if `source` is its data, the data is split again.

    Args:
        folder: `models/<name>/<version>`.
        manifest: Its manifest.
        source: What is to be evaluated.

    Raises:
        DataError: `learned.bin` is invalid, or the data is.
    """
    if (folder / LEARNED).is_file():
        return Learned.read(folder / LEARNED)
    config = Config.from_mapping(manifest.hyperparameters)
    share, seed = config.loop.validation_share, config.seed
    with suppress(DataError):  # what cannot be split was not trained on
        likely = _with_its_test_share(source, manifest.data.counts.get("rows", 0))
        training, _ = likely.read_parts(test=False)
        if fingerprint(training) == manifest.data.fingerprint:
            dataset = load_dataset(likely, validation_share=share, seed=seed)
            if dataset.card.splits == manifest.data.splits:
                return Learned.of(dataset)
    return None


def _with_its_test_share(source: Source, rows: int) -> Source:
    """A single file with the test share that leaves so many rows; any other source as it is."""
    if source.test_path is not None or not Path(source.path).is_file():
        return source
    whole = replace(source, test_share=0.0)
    share = share_that_leaves(whole.read("train"), rows)
    return whole if share is None else replace(source, test_share=share)
