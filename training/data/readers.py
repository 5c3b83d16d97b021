r"""Read data sets in common file formats as a `Corpus`.

| format   | file                                                                             |
|----------|----------------------------------------------------------------------------------|
| `tsv`    | a folder with `train.tsv`, `test.tsv`, `unlabeled.tsv` (or one such file): a      |
|          | header `id, sentiment, review`, no quoting, one record per line feed, 0 or 1      |
| `tree`   | the aclImdb folder: `train/pos/*.txt`, `train/neg`, `train/unsup`, `test/...`     |
| `kaggle` | `labeledTrainData.tsv`: the same header, cells in quotes with `\"` inside         |
| `csv`    | any CSV or TSV with a header, quoted as in RFC 4180; the columns can be named     |
| `gop`    | `Sentiment.csv`, the tweets of the first GOP debate                               |

Every file may be compressed with gzip. Reviews of one film (`urls_pos.txt` and similar files) and
copies of one tweet form a group, which a split keeps together. Errors name the row (the header is
row 1) and the rule, and never repeat a text.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

from app.errors import DataError
from training.data.corpus import Corpus, Example, LazySequence
from training.data.formats import (
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
from training.data.split import order_labels

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

    The files are validated now and read again by every pass over the examples.

    Args:
        path: A folder (`tsv`, `tree`) or a file.
        split: The split of a folder. A file has one split, read as `train`, or as `unlabelled`
            to ignore its labels; `test` is an error, so that nobody tests on training texts.
        format: One of the table above; `auto` detects it.
        text_column: For `csv`, the column of texts. Default: `text` or `review`.
        label_column: For `csv`, the column of labels. Default: `label` or `sentiment`.
        group_column: For `csv`, a column; rows with equal values stay on one side of a split.
        delimiter: For `csv`, the character between cells. Default: from the suffix.
        labels: Names of the file's labels, such as `{"0": "negative", "4": "positive"}`.
            Default: 0/1 for `tsv` and `kaggle`; otherwise negative, neutral, positive in any case,
            or 0/1, -1/1, -1/0/1. If no label is such a name, labels are used as they are, in lower
            case.

    Raises:
        DataError: The path is missing, the format is unknown or a row is invalid; on a later pass,
            the rows have changed.
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

    if format in ("tsv", "kaggle"):
        labels = labels or _TSV_CODES

    def records() -> Iterable[Record]:
        match format:
            case "tsv" | "kaggle":
                return read_tsv(path, split, plain_cells if format == "tsv" else kaggle_cells)
            case "tree":
                return read_tree(path, split)
            case "gop":
                tweets = read_csv(path, split, "text", "sentiment", None, delimiter)
                return with_retweet_groups(tweets)
            case _:
                return read_csv(path, split, text_column, label_column, group_column, delimiter)

    return _collect(f"{_bare_name(path)} {split}", path, records, split, labels)


def list_splits(path: Path) -> tuple[SplitName, ...]:
    """Return the splits available at `path` without reading them; none for an unknown folder."""
    path = _step_in(path)
    if path.is_file():
        return ("train",)
    splits: tuple[SplitName, ...] = ("train", "test", "unlabelled")
    if _is_tree(path):
        return tuple(split for split in splits if (path / tree_folders(split)[0][0]).is_dir())
    return tuple(split for split in splits if find_file(path, f"{TSV_STEMS[split]}.tsv"))


# Format detection


def _detect(path: Path) -> Format:
    """Detect the format from the names in a folder or the first two lines of a file."""
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
    with closing(read_lines(path)) as lines:
        header, first = next(lines, ""), next(lines, "")
    if not header:
        raise DataError(f"{path}: the file is empty")
    if header.rstrip("\r\n").split("\t") in (TSV_HEADER, TSV_HEADER_UNLABELLED):
        return "kaggle" if first.startswith('"') else "tsv"
    if delimiter_of(path) is None:
        raise DataError(
            f"{path}: the format cannot be detected; the name must end in .csv or .tsv, or the "
            "first line must be the columns id, sentiment, review separated by tabs. Otherwise "
            "name the format and the delimiter"
        )
    with closing(read_rows(path, None)) as rows:
        _, names = next(rows, ("", []))
    return "gop" if _GOP_COLUMNS.issubset(names) else "csv"


def _step_in(path: Path) -> Path:
    """Return the `aclImdb` folder inside the folder it was unpacked into, if there is one."""
    tree = path / "aclImdb"
    return tree if tree.is_dir() else path


def _is_tree(path: Path) -> bool:
    return any((path / split / "pos").is_dir() for split in ("train", "test"))


def _bare_name(path: Path) -> str:
    name = path.resolve().name.removesuffix(".gz")
    return name if path.is_dir() else Path(name).stem


# From records to a corpus


def _collect(
    name: str,
    path: Path,
    records: Callable[[], Iterable[Record]],
    split: SplitName,
    labels: Mapping[str, str] | None,
) -> Corpus:
    """Validate every row and return a corpus that reads its examples on demand."""
    size, most = 0, max(_MOST_LABELS, len(labels or ()))
    firsts: dict[str, Record] = {}  # bounded: a wrong column may have millions of values
    for record in records():
        size += 1
        if not record.text.strip():
            raise DataError(f"{record.place}: the text must not be empty")
        if len(firsts) <= most:
            firsts.setdefault(_plain(record.label), record)
    if not size:
        raise DataError(f"{path}: there are no rows to read")
    names = {} if split == "unlabelled" else _label_names(firsts, labels)

    def read_examples() -> Iterator[Example]:
        count = 0
        for count, row in enumerate(records(), start=1):
            label = names.get(_plain(row.label)) if names else ""
            if count > size or label is None:
                break
            yield Example(row.text, label, row.group)
        else:
            if count == size:
                return
        raise DataError(f"{path}: the data must not change while it is in use; its rows changed")

    found = order_labels(names[label] for label in firsts) if names else ()
    return Corpus(name, LazySequence(read_examples, size), found)


def _label_names(
    firsts: Mapping[str, Record], labels: Mapping[str, str] | None
) -> Mapping[str, str]:
    """Return the mapping of labels to names that covers all labels of the file."""
    known: list[Mapping[str, str]] = [_LABEL_NAMES, *_LABEL_CODES]
    rule = (
        "negative, neutral or positive, or one of the codes 0 and 1, -1 and 1, or -1, 0 and 1, "
        "used consistently; name other labels with --label"
    )
    if labels is not None:
        known = [{_plain(value): _shown(name) for value, name in labels.items()}]
        rule = f"one of {shorten(sorted(labels))}"
    for vocabulary in known:
        if firsts.keys() <= vocabulary.keys():
            return vocabulary
    if labels is None and not firsts.keys() & _LABEL_NAMES.keys():
        return _as_they_are(firsts)
    nearest = max(known, key=lambda vocabulary: len(firsts.keys() & vocabulary.keys()))
    stranger = next(row for label, row in firsts.items() if label not in nearest)
    raise DataError(
        f"{stranger.place}: the label must be {rule}. Received: {shorten([stranger.label])}"
    )


def _as_they_are(firsts: Mapping[str, Record]) -> Mapping[str, str]:
    """Use custom labels unchanged, unless the column does not look like labels."""
    too_many = len(firsts) > _MOST_LABELS
    if too_many or "" in firsts:
        odd = next(iter(firsts.values())) if too_many else firsts[""]
        found = f"more than {_MOST_LABELS}" if too_many else str(len(firsts))
        raise DataError(
            f"{odd.place}: labels must not be empty, and there may be at most {_MOST_LABELS} "
            f"different ones. Received: {found} different ones; is this the right column?"
        )
    return {label: _shown(row.label) for label, row in firsts.items()}


def _plain(label: str) -> str:
    """Normalize a label for comparison."""
    return unicodedata.normalize("NFC", label).strip().casefold()


def _shown(label: str) -> str:
    """Return a label as predictions show it; unlike casefold, lower keeps groß and καλός."""
    return unicodedata.normalize("NFC", label).strip().lower()
