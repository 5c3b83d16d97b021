"""A corpus: labelled texts, read anew by every pass, with digests for comparing them."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress, islice
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


Digests = NDArray[np.bytes_]


Mask = NDArray[np.bool_]


class Stream(Sequence[T]):
    """A sequence that is read anew by every pass over it; one item is in memory at a time.

    An index reads up to the item; a slice is a tuple.
    """

    def __init__(self, read: Callable[[], Iterable[T]], size: int) -> None:
        self._read, self._size = read, size

    def __iter__(self) -> Iterator[T]:
        return iter(self._read())

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes what is read here: all items, as a tuple."""
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
    """One text and what is known of it.

    Attributes:
        text: As it stands in the file; markup and case are the encoder's business.
        label: A lower-case name; empty where the file has no labels.
        group: What the text is about or comes from (a film, the original of a retweet): texts of
            one group resemble each other, so a split keeps them together. None when unknown.
    """

    text: str
    label: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """A corpus by digests: all that de-duplication needs of it, in 68 bytes a row.

    Attributes:
        keys: Sha256 of what makes two texts the same, (rows,) of 32 bytes.
        pairs: Sha256 of label and text, (rows,) of 32 bytes.
        labels: Positions in `Corpus.labels`, int32 (rows,); -1 for a text without one.
    """

    keys: Digests
    pairs: Digests
    labels: NDArray[np.int32]

    def where(self, kept: Mask) -> "Index":
        """The rows that are kept."""
        return Index(self.keys[kept], self.pairs[kept], self.labels[kept])


@dataclass(frozen=True)
class Corpus:
    """Texts of one source.

    Attributes:
        name: For people: the file or folder, and the part of it.
        examples: In the order of the source; a tuple, or a `Stream` from files.
        labels: The classes in the order of a model's outputs; empty for unlabelled texts.
    """

    name: str
    examples: Sequence[Example]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.examples)

    def texts(self) -> list[str]:
        """The texts alone, in order, all in memory."""
        return [example.text for example in self.examples]

    def stream_texts(self) -> Stream[str]:
        """The texts alone, in order, read anew by every pass."""
        return Stream(lambda: (example.text for example in self.examples), len(self))

    def targets(self) -> list[int]:
        """The index in `labels` of every example, in order."""
        targets: list[int] = self.index.labels.tolist()
        return targets

    def counts(self) -> dict[str, int]:
        """How many examples each label has, in the order of `labels`."""
        return {
            label: int((self.index.labels == position).sum())
            for position, label in enumerate(self.labels)
        }

    @cached_property
    def index(self) -> Index:
        """The corpus by digests, from one pass over it."""
        positions = {label: position for position, label in enumerate(self.labels)}
        keys, pairs, labels = bytearray(), bytearray(), array("i")
        for example in self.examples:
            keys += digest(text_key(example.text))
            pairs += digest(example.label, example.text)
            labels.append(positions.get(example.label, -1))
        return Index(join_digests(keys), join_digests(pairs), np.array(labels, np.int32))

    def where(self, kept: Mask) -> "Corpus":
        """The rows that are kept, bool (rows,), in the same order."""
        examples = self.examples
        chosen: Sequence[Example] = (
            tuple(compress(examples, kept))
            if isinstance(examples, tuple)
            else Stream(lambda: compress(examples, kept), int(kept.sum()))
        )
        corpus = replace(self, examples=chosen)
        vars(corpus)["index"] = self.index.where(kept)  # no need to read it again
        return corpus


def text_key(text: str) -> str:
    """What makes two texts the same: the text with every run of white space as one space."""
    return " ".join(text.split())


def digest(*parts: str | int) -> bytes:
    """Sha256 of the parts as JSON, which keeps ("a", "bc") and ("ab", "c") apart."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).digest()


def join_digests(together: bytearray) -> Digests:
    """Digests written one after another as an array; it sorts as bytes do."""
    return np.frombuffer(together, "S32")
