"""What each architecture reads, and what it must not."""

from dataclasses import replace

import numpy as np
import pytest

from app.errors import InvalidInput
from app.text.vocabulary import BEGIN, FIRST_WORD, PAD, UNKNOWN
from training.config import Config
from training.model import WordPresence, build_model

LSTM = Config(name="m", architecture="lstm", embedding=4, units=5, hidden=(6,))
BOW = replace(LSTM, architecture="bow")
IDS = np.array([[BEGIN, 5, 6, 5], [BEGIN, 7, PAD, PAD]], np.int32)


@pytest.mark.parametrize("config", [LSTM, BOW], ids=["lstm", "bow"])
@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities(config: Config, classes: int) -> None:
    """Any number of classes gets probabilities that sum to 1."""
    answer = build_model(config, vocabulary=9, classes=classes).predict(IDS, verbose=0)
    assert answer.shape == (2, classes)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("config", [LSTM, BOW], ids=["lstm", "bow"])
def test_padding_changes_nothing(config: Config) -> None:
    """A text scores the same however wide the batch is."""
    model = build_model(config, vocabulary=9, classes=2)
    wide = np.pad(IDS, ((0, 0), (0, 40)), constant_values=PAD)
    expected = model.predict(IDS, verbose=0)
    np.testing.assert_allclose(model.predict(wide, verbose=0), expected, atol=1e-6)


def test_order_matters_to_the_lstm_alone() -> None:
    """The LSTM reads words in order; a bag has none."""
    turned = IDS.copy()
    turned[0, 1:3] = IDS[0, 2:0:-1]
    lstm, bow = (build_model(c, vocabulary=9, classes=2) for c in (LSTM, BOW))
    assert not np.allclose(lstm.predict(turned, verbose=0)[0], lstm.predict(IDS, verbose=0)[0])
    np.testing.assert_array_equal(bow.predict(turned, verbose=0), bow.predict(IDS, verbose=0))


def test_word_presence() -> None:
    """A word counts once however often it stands; special ids never do."""
    ids = np.array([[BEGIN, 5, 5, UNKNOWN, 8, PAD]], np.int32)
    presence = np.asarray(WordPresence(9)(ids))
    assert presence.tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 1]]
    assert FIRST_WORD < 5


def test_the_seed_decides_the_weights() -> None:
    """One seed gives one set of initial weights."""
    first, second = (build_model(LSTM, vocabulary=9, classes=2).get_weights() for _ in range(2))
    other = build_model(replace(LSTM, seed=8), vocabulary=9, classes=2).get_weights()
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


def test_unknown_architecture() -> None:
    """An architecture that is not there is answered with those that are."""
    with pytest.raises(InvalidInput, match=r"bow, lstm\. Received: gru"):
        build_model(replace(LSTM, architecture="gru"), vocabulary=9, classes=2)
