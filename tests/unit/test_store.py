"""Each kind of vectors is learned once from all texts, labelled or not, and kept."""

from pathlib import Path

import numpy as np
import pytest

from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import FIRST_WORD, Vocabulary
from tests.deferred import deferred
from training.support.cache import DiskCache

with deferred():
    from training.features.store import VectorStore

WORDS = ("good", "bad", "film", "plot", "very")
TEXTS = ["very good film", "very bad plot"] * 20
UNLABELLED = ["good plot", "bad film very bad"] * 20


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of real size would take minutes to clear."""
    monkeypatch.setattr("training.features.ngram_vectors.MAX_BUCKETS", 2**14)
    monkeypatch.setattr("training.features.store.NGRAM_EMBEDDING_BUCKETS", 2**12)


def make_store(
    folder: Path, texts: list[str] = TEXTS, unlabelled: list[str] = UNLABELLED
) -> VectorStore:
    """A store with a vocabulary of five words, whose encoder truncates texts to three ids."""
    folder.mkdir(exist_ok=True)
    encoder = TextEncoder(TextConfig(max_length=3, head=1), Vocabulary(WORDS))
    return VectorStore(encoder, texts, unlabelled, seed=3, cache=DiskCache(folder))


def test_texts_are_read_whole(tmp_path: Path) -> None:
    """Labelled texts come back in order and not truncated, however short the model's rows are."""
    rows = make_store(tmp_path).labelled_rows()
    good, bad, film, plot, very = range(FIRST_WORD, FIRST_WORD + 5)
    assert len(rows) == len(TEXTS)
    assert rows[0][1:].tolist() == [very, good, film]
    assert rows[1][1:].tolist() == [very, bad, plot]
    alone = make_store(tmp_path / "alone", unlabelled=[]).labelled_rows()
    assert [row.tolist() for row in alone] == [row.tolist() for row in rows]


def test_each_kind_is_learned_once(tmp_path: Path) -> None:
    """The vectors that were kept are returned the next time, without looking at the texts."""
    first = make_store(tmp_path)
    narrow, wide = first.word_vectors(2), first.word_vectors(3)
    assert (narrow.shape, wide.shape) == ((FIRST_WORD + 5, 2), (FIRST_WORD + 5, 3))
    ngrams, convolution = first.ngram_vectors(), first.convolution_vectors()
    again = make_store(tmp_path, texts=[], unlabelled=[])
    np.testing.assert_array_equal(again.word_vectors(2), narrow)
    np.testing.assert_array_equal(again.word_vectors(3), wide)
    np.testing.assert_array_equal(again.ngram_vectors().vectors, ngrams.vectors)
    np.testing.assert_array_equal(
        again.convolution_vectors().regions.words, convolution.regions.words
    )


def test_unlabelled_texts_count(tmp_path: Path) -> None:
    """Bigrams that appear only in unlabelled texts have a vector."""
    more = make_store(tmp_path / "more").frequent_ngram_vectors(100)
    fewer = make_store(tmp_path / "fewer", unlabelled=[]).frequent_ngram_vectors(100)
    assert len(more.vectors) > len(fewer.vectors) > 5
    assert len(make_store(tmp_path / "more").frequent_ngram_vectors(4).vectors) == 4
