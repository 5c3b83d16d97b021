import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from app.errors import DataError
from tests.corpus import make_corpus, real_data
from tests.deferred import deferred
from training.data.corpus import Corpus, Example
from training.data.formats import SplitName

with deferred():
    from training.data.labels import order_labels
    from training.data.readers import read
    from training.data.split import (
        Dropped,
        deduplicate,
        exclude,
        fingerprint,
        group_digests,
        hold_out,
        split,
        split_by_group,
        split_rows,
    )


@cache
def real(name: str, split: SplitName = "train") -> Corpus:
    """A split of a real data set, read once."""
    return read(real_data(name), split=split)


def corpus_of(examples: Iterable[Example | tuple[str, str]]) -> Corpus:
    rows = tuple(row if isinstance(row, Example) else Example(*row) for row in examples)
    return Corpus("made up", rows, order_labels(row.label for row in rows))


def grouped(size: int, *, group_size: int, seed: int = 0) -> Corpus:
    """Texts in groups of unequal mixtures of both labels."""
    generator = random.Random(seed)
    return corpus_of(
        Example(f"text {n}", generator.choice(("negative", "positive")), f"film {n // group_size}")
        for n in range(size)
    )


def groups(corpus: Corpus) -> set[str | None]:
    return {example.group for example in corpus.examples}


@pytest.mark.parametrize(
    ("found", "ordered"),
    [
        (["positive", "negative", "positive"], ("negative", "positive")),
        (["positive", "neutral", "negative"], ("negative", "neutral", "positive")),
        (["mixed", "positive", "angry"], ("positive", "angry", "mixed")),
    ],
)
def test_label_order(found: Sequence[str], ordered: Sequence[str]) -> None:
    """Negative, neutral and positive come first, in this order, then other labels by name."""
    assert order_labels(found) == ordered


def test_targets_are_indices_of_labels() -> None:
    """The target of an example is the index of its label in the output order."""
    corpus = corpus_of([("a", "positive"), ("b", "negative"), ("c", "neutral")])
    assert corpus.targets() == [2, 0, 1]
    assert corpus.texts() == ["a", "b", "c"]


def test_deduplicate_keeps_the_first_copy() -> None:
    """Texts that differ only in white space are copies; the first copy is kept."""
    corpus = corpus_of(
        [("good  film", "positive"), (" good\tfilm\n", "positive"), ("bad", "negative")]
    )
    unique, dropped = deduplicate(corpus)
    assert unique.texts() == ["good  film", "bad"]
    assert dropped == Dropped(duplicates=1, conflicts=0)


def test_deduplicate_by_majority() -> None:
    """A text keeps the majority label of its copies; without a majority it is removed."""
    corpus = corpus_of(
        [
            ("so so", "positive"),
            ("fine", "negative"),
            ("fine", "positive"),
            ("so  so", "negative"),
            (" fine", "positive"),
        ]
    )
    unique, dropped = deduplicate(corpus)
    assert tuple(unique.examples) == (Example("fine", "positive"),)
    assert dropped == Dropped(duplicates=1, conflicts=3)


def test_hold_out_keeps_groups_together() -> None:
    """About the share of the groups is held out; other rows do not change which ones."""
    corpus = grouped(600, group_size=3)
    rest, test = hold_out(corpus, share=0.2)
    assert groups(rest).isdisjoint(groups(test))
    assert groups(rest) | groups(test) == groups(corpus)
    assert 0.1 < len(test) / len(corpus) < 0.3
    half = corpus.where(np.arange(len(corpus)) < 300)
    assert set(hold_out(half, share=0.2)[1].texts()) == set(test.texts()) & set(half.texts())


def test_held_out_texts_are_unique() -> None:
    """A repeated text is in the test set once; of the remaining rows none is removed."""
    corpus = corpus_of(Example(f"text {n % 50}", "positive") for n in range(100))
    rest, test = hold_out(corpus, share=0.5)
    assert len(test) == len(set(test.texts()))
    assert len(rest) == 2 * len(set(rest.texts()))
    assert len(rest) / 2 + len(test) == 50


@pytest.mark.parametrize("share", [0.0, 1.0, 1e-9])
def test_hold_out_refuses_an_empty_side(share: float) -> None:
    """A share that leaves a side empty is refused."""
    with pytest.raises(DataError, match="the test share must"):
        hold_out(grouped(10, group_size=1), share=share)


def test_deduplicate_minds_case_and_markup() -> None:
    """Texts that differ in anything but white space are different texts."""
    corpus = corpus_of([("Good", "positive"), ("good", "positive"), ("good<br />", "positive")])
    assert len(deduplicate(corpus)[0]) == 3


def test_exclude_removes_what_the_other_has() -> None:
    """No text of the other corpus remains, whatever its label; removed rows are counted."""
    corpus = corpus_of([("a b", "positive"), ("c", "negative"), ("a  b", "positive")])
    kept, removed = exclude(corpus, corpus_of([("a b", "negative")]))
    assert (kept.texts(), removed) == (["c"], 2)


def test_fingerprint_ignores_the_order_of_rows() -> None:
    """The order of the rows does not change the fingerprint."""
    corpus = corpus_of(make_corpus(20, seed=1))
    turned = replace(corpus, examples=corpus.examples[::-1], name="another name")
    assert fingerprint(turned) == fingerprint(corpus)


@pytest.mark.parametrize(
    "other",
    [
        [("a", "positive"), ("b", "positive")],
        [("a", "negative"), ("b", "positive"), ("b", "positive")],
        [("a ", "negative"), ("b", "positive")],
    ],
    ids=["another label", "a row twice", "another text"],
)
def test_fingerprint_sees_every_change(other: Sequence[tuple[str, str]]) -> None:
    """A changed label, an added row and an added character each change the fingerprint."""
    corpus = corpus_of([("a", "negative"), ("b", "positive")])
    assert fingerprint(corpus_of(other)) != fingerprint(corpus)


def test_fingerprint_is_the_same_on_every_machine() -> None:
    """The fingerprint never changes between versions: manifests store it."""
    corpus = corpus_of([("Škoda!", "negative"), ("b", "positive")])
    assert fingerprint(corpus) == "ba88519206f5b07865039c52248196c75535bf2e3027ebb51f7690e24d53d230"


def test_split_keeps_every_unique_text_once() -> None:
    """Each text is on one side, and removed rows are counted."""
    corpus = corpus_of([*make_corpus(50, seed=1), ("x", "negative"), ("x", "positive")])
    sides = split(corpus, validation_share=0.2, seed=1)
    together = sides.train.texts() + sides.validation.texts()
    assert sorted(together) == sorted(corpus.texts()[:50])
    assert sides.counts() == {
        "train": 40,
        "validation": 10,
        "dropped_duplicates": 0,
        "dropped_conflicting_labels": 2,
    }


def test_split_gives_each_label_its_share() -> None:
    """A rare label has the same share in validation as a frequent one."""
    rows = [(f"n {n}", "negative") for n in range(300)] + [
        (f"p {n}", "positive") for n in range(30)
    ]
    sides = split(corpus_of(rows), validation_share=0.1, seed=5)
    assert sides.validation.counts() == {"negative": 30, "positive": 3}


def test_split_gives_a_very_rare_label_one_text() -> None:
    """A label with two texts has one on each side, however small the share."""
    rows = [(f"n {n}", "negative") for n in range(100)] + [("p", "positive"), ("q", "positive")]
    sides = split(corpus_of(rows), validation_share=0.05, seed=5)
    assert sides.train.counts()["positive"] == sides.validation.counts()["positive"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_groups_together(seed: int) -> None:
    """All reviews of a film are on one side, and each label has about its share."""
    corpus = grouped(1000, group_size=7, seed=seed)
    sides = split(corpus, validation_share=0.1, seed=seed)
    assert groups(sides.train).isdisjoint(groups(sides.validation))
    for label, count in corpus.counts().items():
        assert sides.validation.counts()[label] == pytest.approx(count / 10, abs=7)


def test_split_is_the_same_for_the_same_seed() -> None:
    """The same seed selects the same texts, and another seed other ones."""
    corpus = corpus_of(make_corpus(200, seed=1))
    first = split(corpus, validation_share=0.2, seed=7).validation.texts()
    assert split(corpus, validation_share=0.2, seed=7).validation.texts() == first
    assert split(corpus, validation_share=0.2, seed=8).validation.texts() != first


def test_split_does_not_depend_on_the_order_of_rows() -> None:
    """Reordered rows are split into the same two sets."""
    corpus = corpus_of(make_corpus(200, seed=1))
    turned = replace(corpus, examples=corpus.examples[::-1])
    one = split(corpus, validation_share=0.2, seed=7)
    other = split(turned, validation_share=0.2, seed=7)
    assert set(one.validation.texts()) == set(other.validation.texts())


def test_split_is_the_same_on_every_machine() -> None:
    """The split never changes between versions: the metrics in manifests depend on it."""
    corpus = corpus_of((f"text {n}", ("negative", "positive")[n % 2]) for n in range(12))
    sides = split(corpus, validation_share=0.34, seed=3)
    assert sides.validation.texts() == ["text 2", "text 3", "text 4", "text 5"]


def test_split_keeps_the_order_of_rows() -> None:
    """Both sides keep the order of the source."""
    corpus = corpus_of((f"{n:03}", ("negative", "positive")[n % 2]) for n in range(100))
    sides = split(corpus, validation_share=0.3, seed=1)
    for side in (sides.train, sides.validation):
        assert side.texts() == sorted(side.texts())


def test_rows_of_one_group_have_one_digest() -> None:
    """Rows are grouped by their group, or else by their text; the seed changes every digest."""
    rows = [("a", "film"), ("b", "film"), ("c", None), (" c ", None), ("d", None)]
    corpus = corpus_of(Example(text, "positive", group) for text, group in rows)
    digests = group_digests(corpus).tolist()
    assert [digests.index(digest) for digest in digests] == [0, 0, 2, 2, 4]
    assert not set(digests) & set(group_digests(corpus, seed=1).tolist())


def test_no_group_is_in_two_folds() -> None:
    """Every row is in one fold, with all rows of its group; single rows are spread over folds."""
    groups_of_rows = ["film", 1, "play", "film", 4, "play", "film", 7]
    folds = [(set(rest), set(fold)) for rest, fold in split_by_group(groups_of_rows, 3)]
    assert sorted(row for _, fold in folds for row in fold) == list(range(8))
    for rest, fold in folds:
        assert rest | fold == set(range(8))
        assert not {groups_of_rows[row] for row in rest} & {groups_of_rows[row] for row in fold}
    assert len([fold for _, fold in folds if fold & {1, 4, 7}]) > 1


def test_a_split_by_rows_divides_groups() -> None:
    """A share of the rows is held out by the seed alone, and copies are on both sides."""
    corpus = corpus_of(Example(f"tweet {n // 4}", "negative", "one") for n in range(40))
    learned, held_out = split_rows(corpus, held_out=0.3, seed=1)
    assert (len(learned), len(held_out)) == (28, 12)
    assert sorted([*learned.texts(), *held_out.texts()]) == sorted(corpus.texts())
    assert set(learned.texts()) & set(held_out.texts())
    assert split_rows(corpus, held_out=0.3, seed=1) == (learned, held_out)
    assert split_rows(corpus, held_out=0.3, seed=2) != (learned, held_out)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_split_refuses_an_impossible_share(share: float) -> None:
    """The share must be above 0 and below 1; the error names the received one."""
    with pytest.raises(DataError, match=f"above 0 and below 1. Received: {share}"):
        split(corpus_of(make_corpus(10, seed=1)), validation_share=share, seed=1)


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "negative"), ("b", "negative"), ("c", "positive")],
        [Example(f"{n}", ("negative", "positive")[n % 2], f"{n % 4 // 2}") for n in range(40)],
    ],
    ids=["one text", "two large groups"],
)
def test_split_refuses_a_side_without_a_label(rows: Sequence[Example]) -> None:
    """The error names a label that cannot be on both sides, and its number of texts."""
    with pytest.raises(DataError, match=r"both have texts labelled '\w+'. Received: \d+"):
        split(corpus_of(rows), validation_share=0.2, seed=1)


@pytest.mark.data
def test_imdb_split_keeps_films_apart() -> None:
    """On IMDB no film is on both sides, neither has a test text, and labels are balanced."""
    train, test = real("imdb"), real("imdb", "test")
    train, leaked = exclude(train, test)
    sides = split(train, validation_share=0.1, seed=1)
    assert leaked == 123
    assert sides.dropped == Dropped(duplicates=96, conflicts=0)
    assert len(sides.train) + len(sides.validation) == 25_000 - 123 - 96
    assert groups(sides.train).isdisjoint(groups(sides.validation))
    assert list(sides.validation.counts().values()) == pytest.approx([1240, 1240], abs=10)
    assert len(groups(sides.validation)) > 200


@pytest.mark.data
def test_imdb_unlabelled_holds_test_reviews() -> None:
    """`exclude` removes the 270 unlabelled rows of IMDB that are test reviews."""
    test = real("imdb", "test")
    kept, removed = exclude(real("imdb", "unlabelled"), test)
    assert (len(kept), removed) == (50_000 - 270, 270)
    assert set(kept.texts()).isdisjoint(test.texts())


@pytest.mark.data
def test_imdb_test_has_its_known_duplicates() -> None:
    """199 rows of the IMDB test split are duplicates."""
    dropped = deduplicate(real("imdb", "test"))[1]
    assert dropped == Dropped(duplicates=199, conflicts=0)


@pytest.mark.data
def test_gop_split_keeps_retweets_with_their_original() -> None:
    """Tweets that differ only in `RT @name:` and links are on one side; 26 ties are removed."""
    sides = split(real("gop/Sentiment.csv.gz"), validation_share=0.2, seed=1)
    assert groups(sides.train).isdisjoint(groups(sides.validation))
    assert len(sides.train) + len(sides.validation) == 10_402 - 26
