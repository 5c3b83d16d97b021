import csv
import gzip
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.errors import DataError
from tests.corpus import make_corpus, real_data, write, write_csv, write_tsv_folder
from tests.deferred import deferred
from training.data.corpus import Corpus, Example
from training.data.formats import SplitName

with deferred():
    from training.data import readers
    from training.data.readers import ReadOptions, list_splits
    from training.data.split import deduplicate, exclude

HEADER = "id\tsentiment\treview\n"
TWEETS = "id,sentiment,text,tweet_id\n"


def read(path: Path, *, split: SplitName = "train", **options: Any) -> Corpus:
    """What a data set is read as, with the options by name."""
    return readers.read(path, split=split, options=ReadOptions(**options))


@cache
def real(name: str, split: SplitName = "train") -> Corpus:
    """A split of a real data set, read once."""
    return read(real_data(name), split=split)


def tsv(folder: Path, *rows: str, name: str = "train.tsv") -> Path:
    """A TSV in the layout of the reviews; gives its folder."""
    write(folder / name, HEADER + "".join(f"{row}\n" for row in rows))
    return folder


def fault(path: Path, **options: Any) -> str:
    """What `read` has to say against a file, without the folder it lies in."""
    with pytest.raises(DataError) as caught:
        read(path, **options)
    return str(caught.value).replace(f"{path.parent}/", "")


def pairs(corpus: Corpus) -> list[tuple[str, str]]:
    return [(example.text, example.label) for example in corpus.examples]


# The TSV of reviews


def test_tsv_folder_gives_every_row(tmp_path: Path) -> None:
    """A folder's splits are read with their labels, in the order of their rows."""
    write_tsv_folder(tmp_path, train=40, test=10, seed=3)
    train, test = read(tmp_path), read(tmp_path, split="test")
    assert sorted(pairs(train) + pairs(test)) == sorted(make_corpus(50, seed=3))
    assert train.counts() == {"negative": 20, "positive": 20}
    assert train.labels == ("negative", "positive")


def test_tsv_may_be_compressed(tmp_path: Path) -> None:
    """`train.tsv.gz` is read like `train.tsv`."""
    plain = read(tsv(tmp_path / "plain", "0_1\t0\tbad", "0_9\t1\tgood"))
    (tmp_path / "gz").mkdir()
    packed = tmp_path / "gz" / "train.tsv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "plain" / "train.tsv").read_bytes()))
    assert pairs(read(tmp_path / "gz")) == pairs(read(packed)) == pairs(plain)


def test_tsv_ends_rows_at_line_feeds_alone(tmp_path: Path) -> None:
    """U+0085, U+2028, vertical tabs and form feeds are part of a review."""
    odd = "one\x85two\u2028three\x0bfour\x0cfive"
    assert read(tsv(tmp_path, f"0_1\t0\t{odd}", "0_9\t1\tgood")).texts() == [odd, "good"]


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    """A review that begins with a quotation mark keeps it, and ends at its line."""
    corpus = read(tsv(tmp_path, "1_9\t1\tgood", '0_1\t0\t"Unclosed, said she', '2_1\t0\t""'))
    assert corpus.texts() == ["good", '"Unclosed, said she', '""']


def test_tsv_may_have_windows_line_ends(tmp_path: Path) -> None:
    """Carriage returns before the line feeds are no part of the reviews."""
    path = write(tmp_path / "x.tsv", (HEADER + "0_1\t0\tbad\n0_9\t1\tgood\n").replace("\n", "\r\n"))
    assert read(path).texts() == ["bad", "good"]


def test_tsv_films_are_groups(tmp_path: Path) -> None:
    """Review N_RATING is about the film on line N, from 0, of the file for its label."""
    tsv(tmp_path, "1_9\t1\tgood", "0_10\t1\tgreat", "1_2\t0\tbad")
    write(tmp_path / "train_urls_pos.txt", "http://x/title/tt7/usercomments\nhttp://x/title/tt8/\n")
    write(tmp_path / "train_urls_neg.txt", "elsewhere/1\nhttp://x/title/tt7/\n")
    assert [item.group for item in read(tmp_path).examples] == ["tt8", "tt7", "tt7"]


def test_tsv_without_films_has_no_groups(tmp_path: Path) -> None:
    """Where the files of films are absent, groups are unknown."""
    corpus = read(tsv(tmp_path, "1_9\t1\tgood", "1_2\t0\tbad"))
    assert {item.group for item in corpus.examples} == {None}


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("7_9\t2\tgood", "row 3: the label must be one of '0', '1'. Received: '2'"),
        ("7_9\t1", "row 3: a row must have as many cells as the header, 3. Received: 2"),
        ("7_9\t1\tgood\tx", "row 3: a row must have as many cells as the header, 3. Received: 4"),
        ("7_9\t1\t \x85", "row 3: the text must not be empty"),
    ],
)  # fmt: skip
def test_tsv_names_the_wrong_row_and_the_rule(tmp_path: Path, row: str, rule: str) -> None:
    """A message has the file, the row counted from the header's 1, the rule, what was received."""
    folder = tsv(tmp_path / "d", "0_1\t0\tbad", row, "0_9\t1\tgood")
    assert fault(folder / "train.tsv").startswith(f"train.tsv {rule}")


def test_tsv_with_other_columns_is_refused(tmp_path: Path) -> None:
    """Asked to read a TSV of reviews, the reader names the columns that it must have."""
    path = write(tmp_path / "x.tsv", "id\tstars\treview\n1\t5\tgood\n")
    assert fault(path, format="tsv") == (
        "x.tsv row 1: the columns must be id, sentiment, review, separated by tabs. "
        "Received the columns: 'id', 'stars', 'review'"
    )


def test_tsv_id_without_a_film_is_refused(tmp_path: Path) -> None:
    """Where films are known, every review must have one."""
    folder = tsv(tmp_path / "d", "0_1\t0\tbad", "1_9\t1\tgood")
    write(folder / "train_urls_pos.txt", "http://x/title/tt7/\n")
    assert "train.tsv row 3: the id must be N_RATING with N below 1" in fault(folder)


def test_unlabelled_reviews_have_no_labels(tmp_path: Path) -> None:
    """The unlabelled split needs no column of labels."""
    write(tmp_path / "unlabeled.tsv", "id\treview\n0_0\tso so\n")
    corpus = read(tmp_path, split="unlabelled")
    assert (tuple(corpus.examples), corpus.labels) == ((Example("so so", ""),), ())


def test_missing_split_is_named(tmp_path: Path) -> None:
    """A folder without the split that was asked for gets the name of the file that is missing."""
    folder = tsv(tmp_path / "d", "0_1\t0\tbad", "1_9\t1\tgood")
    assert fault(folder, split="test") == "d/test.tsv: there is no such file or folder"


# The aclImdb tree


def tree(root: Path) -> Path:
    for name, text in {
        "train/pos/10_9.txt": "tenth",
        "train/pos/2_10.txt": "second",
        "train/neg/0_1.txt": "dreadful\x85film",
        "train/unsup/0_0.txt": "so so",
        "train/urls_pos.txt": "".join(f"http://x/title/tt{n}/\n" for n in range(11)),
        "test/neg/0_2.txt": "poor",
        "test/pos/0_7.txt": "nice",
    }.items():
        write(root / name, text)
    return root


def test_tree_is_read_in_the_order_of_numbers(tmp_path: Path) -> None:
    """One file is one review; negative ones come first, each kind by its number."""
    assert pairs(read(tree(tmp_path))) == [
        ("dreadful\x85film", "negative"),
        ("second", "positive"),
        ("tenth", "positive"),
    ]


def test_tree_has_films_and_other_splits(tmp_path: Path) -> None:
    """Films come from urls_pos.txt and its like; test and unlabelled reviews are found."""
    tree(tmp_path)
    assert [item.group for item in read(tmp_path).examples] == [None, "tt2", "tt10"]
    assert read(tmp_path, split="test").texts() == ["poor", "nice"]
    assert read(tmp_path, split="unlabelled").texts() == ["so so"]


def test_tree_names_the_wrong_file(tmp_path: Path) -> None:
    """A review that is not UTF-8 is named by its file."""
    (tree(tmp_path / "d") / "test" / "pos" / "0_7.txt").write_bytes(b"caf\xe9")
    assert fault(tmp_path / "d", split="test").startswith(
        "d/test/pos/0_7.txt: the text must be UTF-8. Received: byte 0xE9 in position 4"
    )


def test_tree_without_a_class_is_refused(tmp_path: Path) -> None:
    """A folder that is missing from the tree is named."""
    write(tmp_path / "d" / "train" / "pos" / "0_9.txt", "nice")
    assert fault(tmp_path / "d") == "d/train/neg: the folder is missing from the aclImdb tree"


# Kaggle


def test_kaggle_quotes_and_escapes(tmp_path: Path) -> None:
    r"""Cells lose their quotation marks, `\"` is one, and other backslashes stay."""
    path = write(
        tmp_path / "labeledTrainData.tsv",
        HEADER + '"1_9"\t1\t"\\"Good\\" 9\\10"\n"2_1"\t0\t"bad \\"un\\""\n',
    )
    assert pairs(read(path)) == [('"Good" 9\\10', "positive"), ('bad "un"', "negative")]


@pytest.mark.parametrize(
    ("row", "received"),
    [
        ('"7_9"\t1\t"cut short', "10 characters without the last one (an unterminated quote"),
        ('"7_9"\t1\t"cut after \\"', "13 characters without the last one (an unterminated quote"),
        ('"7_9"\t1\tbare"', "5 characters without the first one"),
        ('"7_9"\t1\t"a "word" bare"', '15 characters with a bare " inside'),
    ],
)
def test_kaggle_names_the_wrong_quote(tmp_path: Path, row: str, received: str) -> None:
    """A cell that breaks the quoting is described, never repeated."""
    path = write(tmp_path / "k.tsv", f'{HEADER}"1_1"\t0\t"bad"\n{row}\n')
    message = fault(path)
    assert message.startswith(
        "k.tsv row 3: a cell must begin and end with a quotation mark, and one inside it must "
        f"follow a backslash. Received: a cell of {received}"
    )


# CSV


def test_csv_columns_are_named_by_options(tmp_path: Path) -> None:
    """Texts, labels and groups come from the columns that were asked for."""
    path = write(tmp_path / "x.csv", "who,stars,said\nann,pos,good\nbob,neg,bad\n")
    corpus = read(path, text_column="said", label_column="stars", group_column="who")
    assert tuple(corpus.examples) == (
        Example("good", "positive", "ann"),
        Example("bad", "negative", "bob"),
    )


@pytest.mark.parametrize(
    "header", ["text,label", "label,text", " text , sentiment ", "review,label"]
)
def test_csv_columns_have_usual_names(tmp_path: Path, header: str) -> None:
    """Without options, `text` or `review` and `label` or `sentiment` are looked for."""
    cells = ("bad", "negative"), ("good", "positive")
    rows = [row if not header.startswith("label") else row[::-1] for row in cells]
    path = write(tmp_path / "x.csv", "\n".join([header, *(",".join(row) for row in rows)]))
    assert pairs(read(path)) == list(cells)


def test_csv_reads_what_the_csv_module_writes(tmp_path: Path) -> None:
    """Quotes, delimiters and line breaks inside cells survive."""
    path = tmp_path / "x.csv"
    rows = [('a "b", c\nd\r\ne', "positive"), (" f\x85g ", "negative")]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    assert pairs(read(path)) == rows


def test_csv_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """A file saved by a spreadsheet has a mark before the first column's name."""
    path = write(tmp_path / "x.csv", "\ufefftext,label\r\ngood,Positive\r\nbad,Negative\r\n")
    assert pairs(read(path)) == [("good", "positive"), ("bad", "negative")]


def test_csv_delimiter_comes_from_suffix_or_option(tmp_path: Path) -> None:
    """A .tsv has tabs; any other character can be named."""
    rows = "text{0}label\ngood{0}positive\nbad{0}negative\n"
    tabs = write(tmp_path / "x.tsv", rows.format("\t"))
    semicolons = write(tmp_path / "x.txt", rows.format(";"))
    assert pairs(read(tabs)) == pairs(read(semicolons, delimiter=";"))


@pytest.mark.parametrize(
    ("codes", "labels"),
    [
        ("0 1", ("negative", "positive")),
        ("-1 1", ("negative", "positive")),
        ("-1 0 1", ("negative", "neutral", "positive")),
        ("NEG Neu pos", ("negative", "neutral", "positive")),
    ],
)
def test_csv_labels_may_be_codes(tmp_path: Path, codes: str, labels: tuple[str, ...]) -> None:
    """The usual codes are understood by which of them occur."""
    rows = "".join(f"{code},text {n}\n" for n, code in enumerate(codes.split()))
    assert (
        tuple(label for _, label in pairs(read(write(tmp_path / "x.csv", "label,text\n" + rows))))
        == labels
    )


def test_csv_labels_can_be_given_names(tmp_path: Path) -> None:
    """A code of one's own is named by an option."""
    path = write(tmp_path / "x.csv", "label,text\n4,good\n0,bad\n2,hm\n")
    corpus = read(path, labels={"0": "negative", "2": "mixed", "4": "Positive"})
    assert corpus.targets() == [1, 0, 2]
    assert corpus.labels == ("negative", "positive", "mixed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ngood,positive\nbad,awful\n", "x.csv row 3: the label must be negative, "
         "neutral or positive, or one of the codes 0 and 1, -1 and 1, or -1, 0 and 1, used "
         "consistently. Received: another value of 5 characters; name other labels with --label"),
        ('text,label\n"a\nb",positive\nbad,1\n', "x.csv row 3 (line 4): the label must be"),
        ("text,label\ngood,positive\nbad\n", "x.csv row 3: a row must have as many cells as the "
         "header, 2. Received: 1; is a quotation mark or a delimiter missing?"),
        ('text,label\ngood,positive\n\n"bad,negative\nmore\n', "x.csv row 3 (line 4): a cell that "
         "begins with a quotation mark must end with one. Received: none up to the end of the file "
         "(an unterminated quote)"),
        ('text,label\n"good" one,positive\n', 'x.csv row 2: a quotation mark inside a quoted cell '
         'must be doubled (""). Received: a single one'),
        ("text,label\rgood,positive\r", "x.csv row 1: a line must end with a line feed. Received: "
         "a bare carriage return"),
        ("text,label\n,positive\nbad,negative\n", "x.csv row 2: the text must not be empty"),
        ("text,label\ngood,a\nfine,\n", "x.csv row 3: labels must not be empty. Received: an "
         "empty one; --drop-label= leaves such rows out"),
        ("text,stars\ngood,5\n", "x.csv row 1: the label column must be named label or sentiment, "
         "or be given by an option. Received the columns: 'text', 'stars'"),
        ("text,label\n", "x.csv: there are no rows to read"),
        ("", "x.csv: the file is empty"),
    ],
)  # fmt: skip
def test_csv_names_the_wrong_row_and_the_rule(tmp_path: Path, content: str, message: str) -> None:
    """Every fault of a CSV has its own sentence with the row and, where it differs, the line."""
    assert fault(write(tmp_path / "x.csv", content)).startswith(message)


def test_csv_without_the_named_column_lists_the_others(tmp_path: Path) -> None:
    """A column that is not there is answered with those that are."""
    path = write(tmp_path / "x.csv", "said,stars\ngood,5\n")
    assert fault(path, text_column="tweet") == (
        "x.csv row 1: the text column must be named 'tweet'. Received the columns: 'said', 'stars'"
    )


def test_csv_cell_without_end_is_named(tmp_path: Path) -> None:
    """A quotation mark that swallows the file is reported with the row where it opens."""
    path = write(tmp_path / "x.csv", 'text,label\n"bad,negative\n' + "good,positive\n" * 20_000)
    assert fault(path).startswith("x.csv row 2: a cell must have at most 10,000 lines")
    endless = write(tmp_path / "y.csv", f'text,label\n"{"bad " * 4_200_000}\ngood,positive\n')
    assert fault(endless).startswith("y.csv row 2: a cell must have at most 16,777,216 characters")


def test_csv_takes_long_texts(tmp_path: Path) -> None:
    """A cell of a quarter of a million characters is a text like any other."""
    path = write(tmp_path / "x.csv", f"text,label\n{'long ' * 50_000},positive\nshort,negative\n")
    assert len(read(path).examples[0].text) > 240_000


def test_csv_takes_labels_as_they_are(tmp_path: Path) -> None:
    """Labels of which none is a known name are classes of their own, in lower case, by name."""
    path = write(tmp_path / "x.csv", "body,verdict\na,Fresh\nb,rotten\nc,fresh\n")
    corpus = read(path, text_column="body", label_column="verdict")
    assert corpus.labels == ("fresh", "rotten")
    stars = write(tmp_path / "y.csv", "text,label\na,1\nb,2\nc,5\n")
    assert read(stars).labels == ("1", "2", "5")


def test_csv_labels_of_any_script_stay_as_they_are_written(tmp_path: Path) -> None:
    """Case and the way a letter is composed make no other label; lower case keeps ß and ς."""
    rows = "a,Θυμός\nb,ΘΥΜΌΣ\nc,groß\nd,café\ne,cafe\u0301\nf,恐い\ng,दुख\n"
    corpus = read(write(tmp_path / "x.csv", f"text,label\n{rows}"))
    assert corpus.labels == ("café", "groß", "θυμός", "दुख", "恐い")
    assert corpus.targets() == [2, 2, 1, 0, 0, 4, 3]


def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    """A corpus is read anew by each pass; rows that came, went or changed label are noticed."""
    path = write(tmp_path / "x.csv", "text,label\na,good\nb,bad\n")
    corpus = read(path)
    for content in ("a,good\n", "a,good\nb,bad\nc,bad\n", "a,good\nb,awful\n"):
        write(path, f"text,label\n{content}")
        with pytest.raises(DataError, match="must not change while it is in use"):
            corpus.texts()


def test_a_column_of_texts_is_no_column_of_labels(tmp_path: Path) -> None:
    """Hundreds of different labels are another column, named by mistake."""
    rows = "".join(f"text {n},label {n}\n" for n in range(101))
    message = fault(write(tmp_path / "x.csv", f"text,label\n{rows}"))
    assert "more than 100 different ones; is this the right column?" in message


# Tweets


def test_gop_is_recognised_by_its_header(tmp_path: Path) -> None:
    """The columns text, sentiment, tweet_id make a file of tweets; retweets share a group."""
    path = write(
        tmp_path / "Sentiment.csv",
        TWEETS
        + "1,Positive,RT @ann: So good https://t.co/x1,7\n2,Neutral,so  GOOD http://t.co/y,8\n"
        "3,Negative,bad,9\n",
    )
    corpus = read(path)
    assert corpus.counts() == {"negative": 1, "neutral": 1, "positive": 1}
    assert [item.group for item in corpus.examples] == ["so good", "so good", "bad"]
    assert corpus.texts()[0] == "RT @ann: So good https://t.co/x1"


@pytest.mark.parametrize(
    "copy",
    [
        "RT @bob: RT @ann: A joy from start to finish, and the best debate of this year",
        "Ha! RT @ann: a JOY from start, to finish; and the best debate\u2026",
        "a joy from start to finish &amp; and the best http://t.co/x1",
    ],
)
def test_gop_copies_share_a_group(tmp_path: Path, copy: str) -> None:
    """Whoever retweets, comments, cuts off or adds a link still repeats the same tweet."""
    tweet = "A joy from start to finish and the best debate of this year"
    rows = f'1,Positive,{tweet},7\n2,Neutral,"{copy}",8\n'
    first, second = read(write(tmp_path / "Sentiment.csv", TWEETS + rows)).examples
    assert first.group == second.group


def test_gop_takes_long_texts(tmp_path: Path) -> None:
    """A text of any length, which is no tweet, is read in linear time."""
    path = write(tmp_path / "Sentiment.csv", f"{TWEETS}1,Positive,{'a' * 300_000},7\n")
    assert [item.group for item in read(path).examples] == ["a" * 40]


# Any file


def test_text_that_is_not_utf8_is_named_by_line(tmp_path: Path) -> None:
    """Another encoding is found out at its first wrong byte, with the option to pass."""
    path = tmp_path / "x.csv"
    path.write_bytes("text,label\ngood,positive\ncafé,negative\n".encode("latin-1"))
    assert fault(path).startswith(
        "x.csv row 3: the text must be UTF-8. Received: byte 0xE9 in position 4 of line 3; the "
        "bytes look like a European encoding"
    )


def test_cut_gzip_is_named(tmp_path: Path) -> None:
    """A download that broke off is recognised as such."""
    whole = gzip.compress(HEADER.encode() + b"0_1\t0\tbad\n" * 1000)
    (tmp_path / "train.tsv.gz").write_bytes(whole[:-20])
    message = fault(tmp_path / "train.tsv.gz")
    assert message == "train.tsv.gz: the compressed file is damaged or cut short"


def test_missing_path_is_named(tmp_path: Path) -> None:
    """A path that is not there is said not to be there."""
    assert fault(tmp_path / "nowhere") == "nowhere: there is no such file or folder"


def test_unknown_folder_says_what_it_must_hold(tmp_path: Path) -> None:
    """A folder in no known layout is answered with the layouts and what it holds instead."""
    write(tmp_path / "d" / "reviews.json", "[]")
    message = fault(tmp_path / "d")
    assert message.startswith("d: a folder must hold train.tsv (or train.tsv.gz)")
    assert message.endswith(
        "the aclImdb tree with train/pos and train/neg. Received: 'reviews.json'"
    )


def test_unknown_file_says_how_to_read_it(tmp_path: Path) -> None:
    """A file of no known kind is a table without the columns, and told how to name them."""
    message = fault(write(tmp_path / "x.dat", "good film\n"))
    assert message.startswith("x.dat row 1: the text column must be named text")
    assert message.endswith("pass --no-header and --text-column NUMBER")


def test_single_file_has_no_test_split(tmp_path: Path) -> None:
    """A file read for training is never handed out again as the test texts."""
    path = write_csv(tmp_path / "x.csv", make_corpus(4, seed=1))
    assert fault(path, split="test").startswith("x.csv: a single file has no test part")


def test_labels_of_a_file_can_be_left_aside(tmp_path: Path) -> None:
    """A file read as unlabelled needs texts only."""
    path = write(tmp_path / "x.csv", "text\ngood\nbad\n")
    assert read(path, split="unlabelled").texts() == ["good", "bad"]


@pytest.mark.parametrize("label", ["x" * 300, "Some whole review that slipped into the label " * 2])
def test_messages_never_repeat_a_text(tmp_path: Path, label: str) -> None:
    """A value too long for a label is described by its length, never repeated."""
    path = write(tmp_path / "x.csv", f"text,label\ngood,positive\nbad,{label}\n")
    message = fault(path)
    assert label[:30] not in message
    assert f"Received: another value of {len(label)} characters" in message


def test_list_splits_tells_what_is_there(tmp_path: Path) -> None:
    """The splits that a path offers are known without reading it."""
    file = write_csv(tmp_path / "x.csv", make_corpus(4, seed=1))
    assert list_splits(write_tsv_folder(tmp_path / "tsv")) == ("train", "test")
    assert list_splits(tree(tmp_path / "tree")) == ("train", "test", "unlabelled")
    assert list_splits(file) == ("train",)
    assert list_splits(tmp_path / "nowhere") == ()


def test_corpus_is_named_after_its_source(tmp_path: Path) -> None:
    """The name says which split of which folder or file, without its path."""
    folder = write_tsv_folder(tmp_path / "films")
    file = write_csv(tmp_path / "tweets.csv", make_corpus(4, seed=1))
    assert read(folder, split="test").name == "films test"
    assert read(file).name == "tweets train"


# The real files


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "test"])
def test_imdb_has_25000_reviews(split: SplitName) -> None:
    """Each labelled IMDB split has 12,500 reviews of either label, all with their film."""
    corpus = real("imdb", split)
    assert corpus.counts() == {"negative": 12_500, "positive": 12_500}
    assert None not in {item.group for item in corpus.examples}
    assert max(Counter(item.group for item in corpus.examples).values()) <= 30


@pytest.mark.data
def test_imdb_train_has_its_markup_and_duplicates() -> None:
    """`<br />` stands in 14,665 train reviews, and 96 rows repeat another one."""
    corpus = real("imdb")
    assert sum("<br />" in text for text in corpus.texts()) == 14_665
    assert deduplicate(corpus)[1].duplicates == 96


@pytest.mark.data
def test_imdb_splits_share_one_film_and_123_texts() -> None:
    """One film is in train and test, and 123 texts are."""
    train, test = real("imdb"), real("imdb", "test")
    films = {item.group for item in train.examples} & {item.group for item in test.examples}
    assert len(films) == 1
    assert exclude(test, train)[1] == exclude(train, test)[1] == 123


@pytest.mark.data
def test_imdb_has_50000_unlabelled_reviews() -> None:
    """The unlabelled split is read without labels."""
    corpus = real("imdb", "unlabelled")
    assert (len(corpus), corpus.labels) == (50_000, ())


@pytest.mark.data
def test_genuine_kaggle_file_is_whole_up_to_its_cut(tmp_path: Path) -> None:
    """The sample has 1,554 whole rows, the same reviews as in the TSV; the cut one is named."""
    path = real_data("imdb/labeledTrainData.first-2MiB.genuine-kaggle.tsv.gz")
    assert "row 1556: a cell must begin and end with a quotation mark" in fault(path)

    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    (tmp_path / "whole.tsv").write_bytes(b"\n".join(lines[:-1]))
    sample = read(tmp_path / "whole.tsv")
    assert len(sample) == 1554
    assert exclude(sample, real("imdb"))[1] == 1554


@pytest.mark.data
def test_gop_has_13871_tweets() -> None:
    """The tweets have their three labels, and 7,686 begin with RT."""
    corpus = real("gop/Sentiment.csv.gz")
    assert corpus.counts() == {"negative": 8493, "neutral": 3142, "positive": 2236}
    assert sum(text.startswith("RT @") for text in corpus.texts()) == 7686
    assert len({" ".join(text.split()) for text in corpus.texts()}) == 10_402


@pytest.mark.data
def test_gop_ties_are_26_texts() -> None:
    """131 tweets carry conflicting labels; for 26 of them no label has the most copies."""
    corpus = real("gop/Sentiment.csv.gz")
    assert len(deduplicate(corpus)[0]) == 10_402 - 26
