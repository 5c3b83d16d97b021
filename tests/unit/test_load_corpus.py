import statistics
from itertools import islice

from load_tests.corpus import MAX_WORDS, MEAN_WORDS, MEDIAN_WORDS, texts, word_count


def test_same_seed_same_texts() -> None:
    """The seed determines the texts."""
    assert list(islice(texts(seed=7), 20)) == list(islice(texts(seed=7), 20))
    assert next(texts(seed=7)) != next(texts(seed=8))


def test_lengths_are_those_of_reviews() -> None:
    """Median, mean, 95th percentile and maximum of 5,000 texts are close to those of IMDB."""
    lengths = sorted(word_count(text) for text in islice(texts(seed=1), 5000))
    assert abs(statistics.median(lengths) / MEDIAN_WORDS - 1) < 0.05
    assert abs(statistics.fmean(lengths) / MEAN_WORDS - 1) < 0.05
    assert abs(lengths[4750] / 598 - 1) < 0.10
    assert lengths[-1] <= MAX_WORDS


def test_texts_do_not_repeat() -> None:
    """No text repeats, so a load test does not measure a cache."""
    sent = list(islice(texts(seed=3), 2000))
    assert len(set(sent)) == len(sent)


def test_no_text_is_empty() -> None:
    """Every text has words and does not end with markup."""
    for text in islice(texts(seed=5), 500):
        assert word_count(text) >= 4
        assert text.endswith(".")


def test_markup_appears() -> None:
    """Some texts contain the markup of real reviews, which the server has to remove."""
    assert any("<br />" in text for text in islice(texts(seed=2), 50))
