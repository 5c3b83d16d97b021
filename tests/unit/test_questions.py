import time
from pathlib import Path

import pytest

from app.errors import InvalidInput
from training.distillation.alterations import CHANGING, KEEPING
from training.distillation.questions import (
    Question,
    QuestionShares,
    make_questions,
    rated_questions,
    read_questions,
    turned_questions,
    write_questions,
)
from training.distillation.rated import RatedText

TEXTS = [
    f"The film number {n} is good. I was not bored!<br /><br />See it twice. It has {n} ends."
    for n in range(40)
]
ALL = QuestionShares(1.0, 1.0, 1.0, 0.3, 1.0, 1.0)


def test_questions_of_every_kind() -> None:
    """Reviews give rise to pieces and alterations of every kind, and no text twice."""
    questions = list(make_questions(TEXTS, ALL, seed=1))
    kinds = {each.kind for each in questions}
    assert kinds == {"paragraph", "sentence", "fragment", "contrast", *CHANGING, *KEEPING}
    assert len({each.text for each in questions}) == len(questions)


def test_what_keeps_the_answer_is_asked_in_its_original_form() -> None:
    """The teacher is asked about the original of a typing error, and about all else as it is."""
    for each in make_questions(TEXTS, ALL, seed=1):
        assert (each.asked != each.text) == (each.kind in KEEPING)


def test_questions_about_a_review_do_not_depend_on_others() -> None:
    """The same seed gives the same questions, also for a part of the reviews."""
    whole = [each for each in make_questions(TEXTS[:3], ALL, seed=1) if each.review == 0]
    assert whole == list(make_questions(TEXTS[:1], ALL, seed=1))
    assert whole != list(make_questions(TEXTS[:1], ALL, seed=2))


def test_fewer_questions() -> None:
    """Half of the questions are about half as many, and a share of nothing is refused."""
    whole = len(list(make_questions(TEXTS, QuestionShares(), seed=1)))
    half = len(list(make_questions(TEXTS, QuestionShares().scaled(0.5), seed=1)))
    assert 0.3 * whole < half < 0.7 * whole
    with pytest.raises(InvalidInput, match="Received: 0"):
        QuestionShares().scaled(0)


def test_reviews_are_turned() -> None:
    """A review is asked about with its opinions turned; one without opinions is not asked about."""
    texts = ["A good start. A weak end. It ran for an hour.", "It ran for an hour. It had ads."]
    found = list(turned_questions(texts * 5, 1.0, seed=1))
    assert {each.review % 2 for each in found} == {0}
    assert {each.kind for each in found} == {"turned"}
    assert "A bad start. A strong end. It ran for an hour." in {each.text for each in found}
    assert list(turned_questions(texts, 0.0, seed=1)) == []


def test_a_long_review_is_cut_and_turned() -> None:
    """Of a long review a passage of neighbouring sentences is asked about, then turned."""
    text = " ".join(f"Part {n} was good and bad in many ways." for n in range(60))
    found = list(turned_questions([text] * 20, 1.0, seed=1))
    assert [each.kind for each in found] == ["passage", "turned"] * 20
    for passage, turned in zip(found[::2], found[1::2], strict=True):
        assert 211 < len(passage.text.split()) <= 220
        assert passage.text in text
        assert turned.text.split()[:2] == passage.text.split()[:2]
        assert turned.text != passage.text


def test_rated_texts_come_first_with_their_answers() -> None:
    """A rated text is a question with both answers; its pieces and alterations have none."""
    text = "The food was not good, but the staff helped us at once!"
    found = list(rated_questions([RatedText(text, 1.0, 0.9)], ALL, seed=1))
    assert [(each.text, each.known, each.opinion) for each in found[:1]] == [(text, 0.98, 0.9)]
    assert found[1:]
    assert all(each.known is None and each.text != text for each in found[1:])
    assert len(list(rated_questions([RatedText(text, 1.0, 0.9)], None, seed=1))) == 1


def test_files_of_questions(tmp_path: Path) -> None:
    """Questions survive a file, with any character but tab and line feed."""
    questions = [
        Question(0, "sentence", "a\u0085b 👍", "a\u0085b 👍"),
        Question(7, "mistype", "x", "y"),
        Question(-1, "everyday", "z", "z", 0.25, 0.5),
    ]
    path = tmp_path / "questions.tsv.gz"
    write_questions(path, iter(questions))
    assert list(read_questions(path)) == questions


def test_the_same_questions_give_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file does not say when it was written: a student takes equal files for the same answers."""
    written = []
    for second in (1_000_000_000, 2_000_000_000):
        monkeypatch.setattr(time, "time", lambda now=second: now)
        path = tmp_path / f"{second}.tsv.gz"
        write_questions(path, make_questions(TEXTS, ALL, seed=1))
        written.append(path.read_bytes())
    assert written[0] == written[1]
