import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra teacher")

from tests.pretrained import tiny_teacher
from training.distillation.questions import Question
from training.distillation.views import SHORT_VIEW, join_examples, make_examples, own_answers

TEXTS = ["a b c. D e f! " * 60, "G h."]
TARGETS = np.array([1, 0], np.float32)


def test_each_review_gives_a_view_and_a_piece() -> None:
    """A review is seen once per copy, and once more as a piece with half the weight."""
    _, pieces = tiny_teacher()
    made = make_examples(TEXTS, TARGETS, pieces, copies=3, pieces_too=True, seed=1)
    assert made.targets.tolist() == [1, 1, 0, 0] * 3
    assert made.weights.tolist() == [1, 0.5] * 6
    np.testing.assert_array_equal(made.opinions, [1, np.nan] * 6)
    lengths = np.diff(made.ends, prepend=0)
    assert lengths.max() <= 256
    assert SHORT_VIEW in lengths
    views = make_examples(TEXTS, TARGETS, pieces, copies=1, pieces_too=False, seed=1)
    assert views.targets.tolist() == [1, 0]


def test_own_answers_are_learned_where_they_are_clear_or_even() -> None:
    """The clearest on either side are sharpened, the median is even, known ones are kept."""
    _, pieces = tiny_teacher()
    questions = [Question(0, "mistype", letter, "x") for letter in "abcdefg"]
    questions.append(Question(-1, "everyday", "k", "k", known=0.7, opinion=0.5))
    polarity = np.array([2, -0.5, -1.2, -3, -1, -0.8, -2, 1], np.float32)
    logits = np.stack([polarity, np.zeros(8, np.float32)], axis=1)
    made = own_answers(questions, logits, pieces)
    expected = 1 / (1 + np.exp(-np.array([6, 1, -4, 0, -2, 1])))
    np.testing.assert_allclose(made.targets, expected, rtol=1e-5)
    np.testing.assert_array_equal(made.opinions, [np.nan] * 5 + [0.5])
    assert made.weights.tolist() == [0.5] * 5 + [1]
    read = [row[1] for row in made.rows()]
    assert read == [pieces.encode([letter], 9)[0][1] for letter in "abdegk"]


def test_joined_examples_keep_their_rows() -> None:
    """Joined examples are those of the one, then those of the other."""
    _, pieces = tiny_teacher()
    one = make_examples(TEXTS, TARGETS, pieces, copies=1, pieces_too=False, seed=1)
    both = join_examples(one, one, one)
    expected = [row.tolist() for row in one.rows()] * 3
    assert [row.tolist() for row in both.rows()] == expected
    assert both.targets.tolist() == [1, 0, 1, 0, 1, 0]
