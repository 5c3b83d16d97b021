r"""Readers: the files that sentiment data comes in, each read as a `Corpus`.

| format   | what it is                                                                       |
|----------|----------------------------------------------------------------------------------|
| `tsv`    | a folder with `train.tsv`, `test.tsv`, `unlabeled.tsv` (or one such file): a      |
|          | header `id, sentiment, review`, no quoting, one record per line feed, 0 or 1      |
| `tree`   | the aclImdb folder: `train/pos/*.txt`, `train/neg`, `train/unsup`, `test/...`     |
| `kaggle` | `labeledTrainData.tsv`: the same header, cells in quotes with `\"` inside         |
| `csv`    | any CSV or TSV with a header, quoted as in RFC 4180; the columns can be named     |
| `gop`    | `Sentiment.csv`, the tweets of the first GOP debate                               |

Any of them may be compressed with gzip. Films (`urls_pos.txt` and its like) and retweets become
groups, which a split keeps together. A message about a wrong file names the row, the header being
row 1, and the rule; it never repeats a text.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from app.errors import DataError
from training.data import Corpus, Example, order_labels
from training.formats import (
    TSV_HEADER,
    TSV_HEADER_UNLABELLED,
    TSV_STEMS,
    Record,
    SplitName,
    delimiter_of,
    find_file,
    kaggle_cells,
    plain_cells,
    read_csv,
    read_lines,
    read_rows,
    read_tree,
    read_tsv,
    shorten,
    tree_folders,
    with_retweet_groups,
)

Format = Literal["auto", "tsv", "tree", "kaggle", "csv", "gop"]

_LABEL_NAMES: Final = {
    "negative": "negative",
    "neg": "negative",
    "neutral": "neutral",
    "neu": "neutral",
    "positive": "positive",
    "pos": "positive",
}
_TSV_CODES: Final = {"0": "negative", "1": "positive"}
_LABEL_CODES: Final = (
    _TSV_CODES,
    {"-1": "negative", "1": "positive"},
    {"-1": "negative", "0": "neutral", "1": "positive"},
)
_MOST_LABELS: Final = 100
_GOP_COLUMNS: Final = frozenset({"text", "sentiment", "tweet_id"})


def read(
    path: Path,
    *,
    split: SplitName = "train",
    format: Format = "auto",  # noqa: A002 - the word people use for it
    text_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    delimiter: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Corpus:
    """Read one split of a data set.

    Args:
        path: A folder (`tsv`, `tree`) or a file.
        split: Which part of a folder. A file has one part, read as `train`, or as `unlabelled`
            when its labels are not wanted; asking it for `test` is an error, so that nobody
            tests on what was trained.
        format: One of the table above; `auto` tells them apart by what is there.
        text_column: For `csv`: the column of texts. Default: `text` or `review`.
        label_column: For `csv`: the column of labels. Default: `label` or `sentiment`.
        group_column: For `csv`: a column whose equal values belong together in a split.
        delimiter: For `csv`: between cells. Default: by the suffix, `.csv` or `.tsv`.
        labels: What each label of the file is called, as in `{"0": "negative", "4": "positive"}`.
            Default: 0/1 for `tsv` and `kaggle`; else negative, neutral, positive in any case,
            or 0/1, -1/1, -1/0/1; labels of which none is such a name are taken as they are.

    Raises:
        DataError: The path is missing or none of these formats, or a row is wrong.
    """
    path = _step_in(path)
    if format == "auto":
        named = text_column or label_column or group_column or delimiter
        format = "csv" if named else _detect(path)  # noqa: A001
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if path.is_file() and split == "test":
        raise DataError(
            f"{path}: a single file has no test part; give the file of test texts its own path"
        )

    records: Iterable[Record]
    match format:
        case "tsv" | "kaggle":
            records = read_tsv(path, split, plain_cells if format == "tsv" else kaggle_cells)
            labels = labels or _TSV_CODES
        case "tree":
            records = read_tree(path, split)
        case "gop":
            records = with_retweet_groups(
                read_csv(path, split, "text", "sentiment", None, delimiter)
            )
        case _:
            records = read_csv(path, split, text_column, label_column, group_column, delimiter)
    return _collect(f"{_bare_name(path)} {split}", path, records, split, labels)


def list_splits(path: Path) -> tuple[SplitName, ...]:
    """Which splits `read` can find at `path`, without reading them; none in an unknown folder."""
    path = _step_in(path)
    if path.is_file():
        return ("train",)
    splits: tuple[SplitName, ...] = ("train", "test", "unlabelled")
    if _is_tree(path):
        return tuple(split for split in splits if (path / tree_folders(split)[0][0]).is_dir())
    return tuple(split for split in splits if find_file(path, f"{TSV_STEMS[split]}.tsv"))


# Which format is it?


def _detect(path: Path) -> Format:
    """Tell the format by the names in a folder, or by the first two lines of a file."""
    if path.is_dir():
        if _is_tree(path):
            return "tree"
        if any(find_file(path, f"{stem}.tsv") for stem in TSV_STEMS.values()):
            return "tsv"
        raise DataError(
            f"{path}: a folder must hold train.tsv (or train.tsv.gz) with the columns id, "
            "sentiment, review, or the aclImdb tree with train/pos and train/neg. Received: "
            + (shorten(sorted(item.name for item in path.iterdir())) or "an empty folder")
        )
    lines = read_lines(path)
    header, first = next(lines, ""), next(lines, "")
    if not header:
        raise DataError(f"{path}: the file is empty")
    if header.rstrip("\r\n").split("\t") in (TSV_HEADER, TSV_HEADER_UNLABELLED):
        return "kaggle" if first.startswith('"') else "tsv"
    if delimiter_of(path) is None:
        raise DataError(
            f"{path}: the format cannot be told from the name or the first line; it must be a "
            ".csv or .tsv file, or begin with the columns id, sentiment, review separated by tabs. "
            "Otherwise name the format and the delimiter"
        )
    names = next(read_rows(path, None), ("", []))[1]
    return "gop" if _GOP_COLUMNS.issubset(names) else "csv"


def _step_in(path: Path) -> Path:
    """The tree itself where the folder given is the one it was unpacked into."""
    tree = path / "aclImdb"
    return tree if tree.is_dir() else path


def _is_tree(path: Path) -> bool:
    return any((path / split / "pos").is_dir() for split in ("train", "test"))


def _bare_name(path: Path) -> str:
    name = path.resolve().name.removesuffix(".gz")
    return name if path.is_dir() else Path(name).stem


# Records to a corpus


def _collect(
    name: str,
    path: Path,
    records: Iterable[Record],
    split: SplitName,
    labels: Mapping[str, str] | None,
) -> Corpus:
    rows = list(records)
    if not rows:
        raise DataError(f"{path}: there are no rows to read")
    for row in rows:
        if not row.text.strip():
            raise DataError(f"{row.place}: the text must not be empty")
    if split == "unlabelled":
        return Corpus(name, tuple(Example(row.text, "", row.group) for row in rows), ())

    names = _label_names(rows, labels)
    examples = tuple(Example(row.text, names[_plain(row.label)], row.group) for row in rows)
    found = order_labels(example.label for example in examples)
    return Corpus(name, examples, found)


def _label_names(rows: Sequence[Record], labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """The one vocabulary that explains the labels of all rows."""
    found = {_plain(row.label) for row in rows}
    known: Sequence[Mapping[str, str]] = (_LABEL_NAMES, *_LABEL_CODES)
    rule = (
        "negative, neutral or positive, or one of the codes 0 and 1, -1 and 1, or -1, 0 and 1, "
        "the same way in every row; name others with labels (on the command line --label)"
    )
    if labels is not None:
        known = [{_plain(value): _plain(name) for value, name in labels.items()}]
        rule = f"one of {shorten(sorted(labels))}"
    for vocabulary in known:
        if found <= vocabulary.keys():
            return vocabulary
    if labels is None and not found & _LABEL_NAMES.keys():
        return _as_they_are(found, rows)
    nearest = max(known, key=lambda vocabulary: len(found & vocabulary.keys()))
    stranger = next(row for row in rows if _plain(row.label) not in nearest)
    raise DataError(
        f"{stranger.place}: the label must be {rule}. Received: {shorten([stranger.label])}"
    )


def _as_they_are(found: set[str], rows: Sequence[Record]) -> Mapping[str, str]:
    """Labels of somebody's own, unless they look like another column."""
    if len(found) > _MOST_LABELS or "" in found:
        odd = next(row for row in rows if not _plain(row.label) or len(found) > _MOST_LABELS)
        raise DataError(
            f"{odd.place}: labels must not be empty, and there may be {_MOST_LABELS} different "
            f"ones at most. Received: {len(found)} different ones; is it the right column?"
        )
    return {label: label for label in found}


def _plain(label: str) -> str:
    return label.strip().casefold()
