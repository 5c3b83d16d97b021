"""A corpus: texts with their labels, and digests by which they are compared.

A corpus may be larger than memory: each pass over a `LazySequence` reads the texts from their files
again, and de-duplication and splits compare digests, 68 bytes per row (`Index`).
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress, islice
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from training.support.arrays import BoolArray

T = TypeVar("T")
Digests = NDArray[np.bytes_]
"""Sha256 digests, (rows,) of 32 bytes."""


class LazySequence(Sequence[T]):
    """A sequence that is read again by every pass over it; one item at a time is in memory.

    An index reads every item before the requested one; a slice is a tuple.

    Args:
        read: Starts a pass.
        size: The number of items.
    """

    def __init__(self, read: Callable[[], Iterable[T]], size: int) -> None:
        self._read, self._size = read, size

    def __iter__(self) -> Iterator[T]:
        return iter(self._read())

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all items as a tuple: another process may not be able to read them."""
        return tuple, (tuple(self),)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        position = range(self._size)[index]
        return next(islice(self, position, None))


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set.

    Attributes:
        text: As in the file; the encoder handles markup and case.
        label: A lower-case name; empty if the data has no labels.
        group: What the text is about or derived from (a film, the original of a retweet). Texts of
            one group resemble each other, so a split keeps them together. None if unknown.
        row: Its row in the file, counted from 1 with the header; 0 if unknown.
    """

    text: str
    label: str
    group: str | None = None
    row: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """The digests and labels of a corpus: all that de-duplication needs, in 68 bytes per row.

    Attributes:
        keys: Digest of each `text_key`: equal texts have equal keys.
        pairs: Digest of each label and text.
        labels: Positions in `Corpus.labels`, int32 (rows,); -1 for a text without a label.
    """

    keys: Digests
    pairs: Digests
    labels: NDArray[np.int32]

    def where(self, kept: BoolArray) -> "Index":
        """Return the rows where `kept` is true."""
        if kept.all():
            return self  # no copy of 68 bytes per row
        return Index(self.keys[kept], self.pairs[kept], self.labels[kept])


@dataclass(frozen=True)
class Corpus:
    """The texts of one source.

    Attributes:
        name: For messages: the file or folder, and the split.
        examples: In the order of the source; a tuple, or a `LazySequence` over files.
        labels: The classes in the order of a model's outputs; empty for unlabelled texts.
        left_out: Rows of the source that are not among the examples, by reason (see
            `training.data.accounting`). A selection (`where`) has none: its maker counts them.
    """

    name: str
    examples: Sequence[Example]
    labels: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def texts(self) -> list[str]:
        """Return the texts in order, all in memory."""
        return [example.text for example in self.examples]

    def stream_texts(self) -> LazySequence[str]:
        """Return the texts in order, read again by every pass."""
        return LazySequence(lambda: (example.text for example in self.examples), len(self))

    def targets(self) -> list[int]:
        """Return the index in `labels` of every example, in order."""
        targets: list[int] = self.index.labels.tolist()
        return targets

    def counts(self) -> dict[str, int]:
        """Return the number of examples per label, in the order of `labels`."""
        return {
            label: int((self.index.labels == position).sum())
            for position, label in enumerate(self.labels)
        }

    @cached_property
    def index(self) -> Index:
        """The digests of the corpus, computed in one pass."""
        positions = {label: position for position, label in enumerate(self.labels)}
        keys, pairs, labels = bytearray(), bytearray(), array("i")
        for example in self.examples:
            keys += digest(text_key(example.text))
            pairs += digest(example.label, example.text)
            labels.append(positions.get(example.label, -1))
        return Index(join_digests(keys), join_digests(pairs), np.array(labels, np.int32))

    def where(self, kept: BoolArray) -> "Corpus":
        """Return the rows where `kept`, bool (rows,), is true, in the same order."""
        examples = self.examples
        chosen: Sequence[Example] = (
            tuple(compress(examples, kept))
            if isinstance(examples, tuple)
            else LazySequence(lambda: compress(examples, kept), int(kept.sum()))
        )
        corpus = replace(self, examples=chosen, left_out={})
        vars(corpus)["index"] = self.index.where(kept)  # no second pass over the texts
        return corpus

    def with_labels(self, labels: tuple[str, ...]) -> "Corpus":
        """Return the same rows for a model that has these labels, all of the corpus among them."""
        corpus = replace(self, labels=labels)
        if "index" in vars(self):
            positions = [labels.index(label) for label in self.labels]
            moved = np.array([*positions, -1], np.int32)[self.index.labels]
            vars(corpus)["index"] = replace(self.index, labels=moved)
        return corpus

    def described(
        self,
        *,
        name: str | None = None,
        left_out: Mapping[str, int] | None = None,
        examples: Sequence[Example] | None = None,
    ) -> "Corpus":
        """Return the same rows, digests included, described or read in another way."""
        corpus = replace(
            self,
            name=self.name if name is None else name,
            left_out=self.left_out if left_out is None else left_out,
            examples=self.examples if examples is None else examples,
        )
        if "index" in vars(self):
            vars(corpus)["index"] = self.index
        return corpus


def text_key(text: str) -> str:
    """Normalize a text for comparison: each run of white space becomes one space."""
    return " ".join(text.split())


def digest(*parts: str | int) -> bytes:
    """Return the sha256 of the parts as JSON, in which ("a", "bc") and ("ab", "c") differ."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).digest()


def hash_texts(texts: Iterable[str]) -> str:
    """Return the sha256 of texts in their order; one of them at a time is in memory."""
    found = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        found.update(len(encoded).to_bytes(8, "big") + encoded)
    return found.hexdigest()


def join_digests(concatenated: bytearray) -> Digests:
    """Return concatenated digests as an array, which sorts as bytes do."""
    return np.frombuffer(concatenated, "S32")


def short_digests(corpus: Corpus) -> NDArray[np.uint64]:
    """Return the first 8 bytes of the digest of each text, uint64 (rows,).

    Enough to compare two corpora: 1 in 10^6 corpora of six million texts has two texts that share
    them.
    """
    if not len(corpus):
        return np.empty(0, np.uint64)
    keys = np.ascontiguousarray(corpus.index.keys).view(">u8").reshape(len(corpus), -1)
    return keys[:, 0].astype(np.uint64)
