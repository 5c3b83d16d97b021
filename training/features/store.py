"""Vectors learned from the texts of one training, each kind once.

Labelled texts are few. Unlabelled texts tell as well which words co-occur, which n-grams appear in
the same texts, and what surrounds a region of a text.
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
from training.features.bigrams import BigramVectors, keep_telling
from training.features.ngram_vectors import NgramVectors, build_ngram_vectors, keep_frequent
from training.features.region_vectors import RegionVectors, build_region_vectors
from training.features.word_vectors import learn_word_vectors
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.progress import console, track

_TEXTS: Final = "whole_texts.npz"
_WORD_VECTORS: Final = "word_vectors_{}.npz"

_CONVOLUTION_WORD_DIM: Final = 128
"""Size of the word vectors that a teacher's convolution starts from."""


@dataclass(frozen=True, slots=True)
class ConvolutionVectors:
    """What a teacher's convolution starts from.

    Attributes:
        ngrams: Fixed vectors of n-grams.
        regions: Fixed vectors of regions.
        words: Initial vectors of words, float32 (vocabulary, dim).
    """

    ngrams: NgramVectors
    regions: RegionVectors
    words: Float32Array


class VectorStore:
    """Learns vectors when they are first asked for, and keeps them in a cache.

    Attributes:
        encoder: The encoder of the training.
        cache: Where the vectors are kept.
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
            encoder: The encoder of the training.
            texts: Labelled training texts.
            unlabelled: Unlabelled training texts.
            seed: Of every random draw.
            cache: Where the vectors are kept.
        """
        self.encoder = encoder
        self._texts, self._unlabelled, self._seed, self.cache = texts, unlabelled, seed, cache

    def word_vectors(self, dim: int) -> Float32Array:
        """Vectors of words: float32 (vocabulary, dim)."""

        def learn() -> dict[str, NDArray[Any]]:
            texts = self._encoded_texts()
            with console.status("Learning word vectors"):
                vectors = learn_word_vectors(
                    texts, vocabulary=self._vocabulary, dim=dim, seed=self._seed
                )
            return {"vectors": vectors}

        vectors: Float32Array = self.cache.arrays(_WORD_VECTORS.format(dim), learn)["vectors"]
        return vectors

    def ngram_vectors(self) -> NgramVectors:
        """Vectors of all n-grams that are frequent enough."""
        return build_ngram_vectors(
            self._encoded_texts, vocabulary=self._vocabulary, seed=self._seed, cache=self.cache
        )

    def frequent_ngram_vectors(self, ngram_embeddings: int) -> NgramVectors:
        """Vectors of only the most frequent n-grams, in the buckets of `NgramEmbeddings`."""
        return keep_frequent(
            self.ngram_vectors(),
            self._encoded_texts(),
            vocabulary=self._vocabulary,
            ngram_embeddings=ngram_embeddings,
            buckets=NGRAM_EMBEDDING_BUCKETS,
        )

    def telling_bigram_vectors(self, rows: int, logits: Float32Array | None) -> BigramVectors:
        """Vectors of the pairs of words that say most by `logits`, in the rows of `BigramTable`."""
        return keep_telling(
            self.ngram_vectors(),
            self._encoded_texts(),
            logits,
            vocabulary=self._vocabulary,
            rows=rows,
        )

    def convolution_vectors(self) -> ConvolutionVectors:
        """What a teacher's convolution starts from."""
        regions = build_region_vectors(
            self._encoded_texts, vocabulary=self._vocabulary, seed=self._seed, cache=self.cache
        )
        words = self.word_vectors(_CONVOLUTION_WORD_DIM)
        return ConvolutionVectors(self.ngram_vectors(), regions, words)

    def labelled_rows(self) -> list[Int32Array]:
        """The ids of each labelled text, not truncated."""
        return self._encoded_texts()[: len(self._texts)]

    @property
    def _vocabulary(self) -> int:
        return len(self.encoder.vocabulary)

    def _encoded_texts(self) -> list[Int32Array]:
        """The ids of each text, not truncated, labelled texts first."""

        def encode() -> dict[str, NDArray[Any]]:
            both = (self._texts, self._unlabelled)
            texts = LazySequence(lambda: chain(*both), sum(map(len, both)))
            longest = max(map(len, texts)) + 2  # a token has at least one character
            config = replace(self.encoder.config, max_length=longest, head=0)
            encoder = TextEncoder(config, self.encoder.vocabulary)
            rows = [encoder.encode(text).ids for text in track(texts, "Encoding whole texts")]
            return {"ids": np.concatenate(rows), "ends": np.cumsum([len(row) for row in rows])}

        kept = self.cache.arrays(_TEXTS, encode)
        return np.split(kept["ids"], kept["ends"][:-1])
