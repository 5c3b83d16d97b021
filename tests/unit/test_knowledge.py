"""Knowledge: each kind is learned once from all texts, labelled or not, and kept."""

from pathlib import Path

import numpy as np
import pytest

from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import FIRST_WORD, Vocabulary
from training.features.store import Knowledge
from training.support.cache import DiskCache

WORDS = ("good", "bad", "film", "plot", "very")
TEXTS = ["very good film", "very bad plot"] * 20
UNLABELLED = ["good plot", "bad film very bad"] * 20


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as large as those of a training would be cleared for minutes."""
    monkeypatch.setattr("training.features.ngram_vectors.KNOWN_BUCKETS", 2**14)
    monkeypatch.setattr("training.features.store.NGRAM_EMBEDDING_BUCKETS", 2**12)


def knowledge(
    folder: Path, texts: list[str] = TEXTS, unlabelled: list[str] = UNLABELLED
) -> Knowledge:
    """Of a vocabulary of five words; rows of a model are cut to three ids."""
    folder.mkdir(exist_ok=True)
    encoder = TextEncoder(TextConfig(max_length=3, head=1), Vocabulary(WORDS))
    return Knowledge(encoder, texts, unlabelled, seed=3, cache=DiskCache(folder))


def test_texts_are_read_whole(tmp_path: Path) -> None:
    """Labelled texts come back in order and whole, however short the rows of the model are."""
    rows = knowledge(tmp_path).labelled_rows()
    good, bad, film, plot, very = range(FIRST_WORD, FIRST_WORD + 5)
    assert len(rows) == len(TEXTS)
    assert rows[0][1:].tolist() == [very, good, film]
    assert rows[1][1:].tolist() == [very, bad, plot]
    alone = knowledge(tmp_path / "alone", unlabelled=[]).labelled_rows()
    assert [row.tolist() for row in alone] == [row.tolist() for row in rows]


def test_each_kind_is_learned_once(tmp_path: Path) -> None:
    """What is kept is what is given the next time, even where there are no texts any more."""
    first = knowledge(tmp_path)
    narrow, wide = first.word_vectors(2), first.word_vectors(3)
    assert (narrow.shape, wide.shape) == ((FIRST_WORD + 5, 2), (FIRST_WORD + 5, 3))
    ngrams, places = first.ngram_vectors(), first.know_places()
    again = knowledge(tmp_path, texts=[], unlabelled=[])
    np.testing.assert_array_equal(again.word_vectors(2), narrow)
    np.testing.assert_array_equal(again.word_vectors(3), wide)
    np.testing.assert_array_equal(again.ngram_vectors().vectors, ngrams.vectors)
    np.testing.assert_array_equal(again.know_places().regions.words, places.regions.words)


def test_unlabelled_texts_count(tmp_path: Path) -> None:
    """A pair that stands in unlabelled texts alone is known."""
    more = knowledge(tmp_path / "more").frequent_ngrams(100)
    fewer = knowledge(tmp_path / "fewer", unlabelled=[]).frequent_ngrams(100)
    assert len(more.vectors) > len(fewer.vectors) > 5
    assert len(knowledge(tmp_path / "more").frequent_ngrams(4).vectors) == 4
