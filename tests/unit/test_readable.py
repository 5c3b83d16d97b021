import pytest

pytest.importorskip("vaderSentiment", reason="needs the extra teacher")

from training.distillation.questions import emoji_questions
from training.distillation.readable import emoticon_valences, readable


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Great<br />day", "Great day"),
        ("so good 👍", "so good thumbs up"),
        ("❤️❤️", "red heart red heart"),
        ("fine :)", "fine happy face"),
        (":(", "sad face"),
        ("5/5, A+ (really)", "5/5, A+ (really)"),
        ("1) one", "1) one"),
    ],
)
def test_readable(text: str, words: str) -> None:
    """Emoji become their names and emoticons a happy or a sad face; other signs stay."""
    assert readable(text) == words


def test_questions_about_emoji() -> None:
    """Every emoji is asked about alone and three times, and emoticons alone, as the user types."""
    texts = [question.text for question in emoji_questions()]
    assert {"👍", "👍👍👍", ":)"} < set(texts)
    assert ":):):)" not in texts


def test_valences_have_both_signs() -> None:
    """The lexicon knows good and bad emoticons, and no words."""
    valences = emoticon_valences()
    assert valences[":)"] > 0 > valences[":("]
    assert not any(emoticon.isalnum() for emoticon in valences)
