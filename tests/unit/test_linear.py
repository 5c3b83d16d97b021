"""The trigram model."""

import numpy as np
import pytest

from app.text.encoder import TextConfig, TextEncoder
from app.text.padding import Int32Array
from app.text.vocabulary import Vocabulary
from tests.corpus import make_corpus
from tests.deferred import deferred

with deferred():
    from training.evaluation.trigrams import find_presence, fit_trigrams

WORDS = ["good", "bad", "not", "so", "film"]
ENCODER = TextEncoder(TextConfig(max_length=20, head=10), Vocabulary(WORDS))


def ids(*texts: str) -> list[Int32Array]:
    return [ENCODER.encode(text).ids for text in texts]


def test_ngrams_count_once() -> None:
    """A text has its words, pairs and triples, the begin of the text among them, each once."""
    presence = find_presence(ids("good film", "good film good film"))
    assert set(presence.data) == {1.0}
    # Two words, two pairs and a triple; then a pair and two triples more.
    assert np.asarray(presence.sum(axis=1)).ravel().tolist() == [5, 8]


@pytest.mark.parametrize("nb_weighting", [True, False])
def test_pairs_of_words_are_learned(nb_weighting: bool) -> None:
    """What single words cannot tell, because both classes have the same ones, pairs can."""
    texts = ["not good so bad", "not bad so good"] * 10
    model = fit_trigrams(ids(*texts), [0, 1] * 10, 2, nb_weighting=nb_weighting)
    answers = model.score(ids("film not good", "film not bad", "film"))
    assert answers[:2].argmax(axis=1).tolist() == [0, 1]
    assert answers[2] == pytest.approx([0.5, 0.5], abs=1e-3)
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def test_it_beats_the_most_frequent_class() -> None:
    """On texts with words that give the label away, most of three classes are told."""
    samples = make_corpus(300, seed=3, labels=("negative", "neutral", "positive"))
    words = sorted({word for sample in samples for word in sample.text.lower().split()})
    encoder = TextEncoder(TextConfig(max_length=200, head=50), Vocabulary(words))
    rows = [encoder.encode(sample.text).ids for sample in samples]
    targets = [index % 3 for index in range(300)]
    model = fit_trigrams(rows[:240], targets[:240], 3)
    right = model.score(rows[240:]).argmax(axis=1) == targets[240:]
    assert right.mean() > 0.6
