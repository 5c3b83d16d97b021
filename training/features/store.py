"""Knowledge: what all texts tell without a label, each kind learned once and kept.

Labelled texts are few. Which words stand near each other, and which n-grams in the same texts, is
told by the unlabelled ones too, as is what stands around a region of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.config import NGRAM_EMBEDDING_BUCKETS
from training.data.corpus import LazySequence
from training.features.ngram_vectors import NgramVectors, keep_frequent, know_ngrams
from training.features.region_vectors import RegionVectors, know_regions
from training.features.word_vectors import learn_vectors
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.progress import console, track

_WHOLE: Final = "whole_texts.npz"


_WORD_VECTORS: Final = "word_vectors_{}.npz"


@dataclass(frozen=True, slots=True)
class Known:
    """What a convolution knows before any label.

    Attributes:
        ngrams: Vectors of n-grams, which stay as they are.
        regions: Vectors of regions, which stay as they are.
        words: Vectors of words, float32 (vocabulary, width), which every fit starts from.
    """

    ngrams: NgramVectors
    regions: RegionVectors
    words: Float32Array


class Knowledge:
    """Of the texts of one training.

    Attributes:
        encoder: Of the training.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        texts: Sequence[str],
        unlabelled: Sequence[str],
        *,
        seed: int,
        cache: DiskCache,
    ) -> None:
        """Learn nothing yet.

        Args:
            encoder: Of the training.
            texts: Those that are labelled.
            unlabelled: Those that are not.
            seed: Of all that is drawn.
            cache: Where all is kept.
        """
        self.encoder = encoder
        self._texts, self._unlabelled, self._seed, self._cache = texts, unlabelled, seed, cache

    def word_vectors(self, width: int) -> Float32Array:
        """Vectors of words by the company they keep: (vocabulary, width)."""

        def learn() -> dict[str, NDArray[Any]]:
            rows = self._whole_rows()
            with console.status("Learning word vectors"):
                vectors = learn_vectors(rows, vocabulary=self._ids, width=width, seed=self._seed)
            return {"vectors": vectors}

        vectors: Float32Array = self._cache.arrays(_WORD_VECTORS.format(width), learn)["vectors"]
        return vectors

    def ngram_vectors(self) -> NgramVectors:
        """Vectors of n-grams by the texts they stand in."""
        return know_ngrams(
            self._whole_rows, vocabulary=self._ids, seed=self._seed, cache=self._cache
        )

    def know_places(self) -> Known:
        """What the convolution of a teacher starts from, the same whomever it teaches."""
        regions = know_regions(
            self._whole_rows, vocabulary=self._ids, seed=self._seed, cache=self._cache
        )
        return Known(self.ngram_vectors(), regions, self.word_vectors(WORD_WIDTH))

    def frequent_ngrams(self, most: int) -> NgramVectors:
        """The vectors of the most frequent n-grams alone, in the buckets that a model has."""
        return keep_frequent(
            self.ngram_vectors(),
            self._whole_rows(),
            vocabulary=self._ids,
            most=most,
            buckets=NGRAM_EMBEDDING_BUCKETS,
        )

    def labelled_rows(self) -> list[Int32Array]:
        """The ids of each labelled text, not cut."""
        return self._whole_rows()[: len(self._texts)]

    @property
    def _ids(self) -> int:
        return len(self.encoder.vocabulary)

    def _whole_rows(self) -> list[Int32Array]:
        """The ids of each text, not cut, labelled ones first."""

        def read() -> dict[str, NDArray[Any]]:
            both = (self._texts, self._unlabelled)
            texts = LazySequence(lambda: chain(*both), sum(map(len, both)))
            longest = max(map(len, texts)) + 2  # a token has at least one character
            config = replace(self.encoder.config, max_length=longest, head=0)
            whole = TextEncoder(config, self.encoder.vocabulary)
            rows = [whole.encode(text).ids for text in track(texts, "Reading whole texts")]
            return {"ids": np.concatenate(rows), "ends": np.cumsum([len(row) for row in rows])}

        kept = self._cache.arrays(_WHOLE, read)
        return np.split(kept["ids"], kept["ends"][:-1])


WORD_WIDTH: Final = 128
