r"""Read data sets in common file formats as a `Corpus`.

| format         | file                                                                        |
|----------------|-----------------------------------------------------------------------------|
| `tsv`          | a folder with `train.tsv`, `test.tsv`, `unlabeled.tsv` (or one such file): a |
|                | header `id, sentiment, review`, no quoting, one record per line, 0 or 1      |
| `tree`         | the aclImdb folder: `train/pos/*.txt`, `train/neg`, `train/unsup`, `test/...` |
| `kaggle`       | `labeledTrainData.tsv`: the same header, cells in quotes with `\"` inside     |
| `gop`          | `Sentiment.csv`, the tweets of the first GOP debate                          |
| `airline`      | `Tweets.csv`, tweets about airlines                                          |
| `sentiment140` | tweets in six columns without a header, in Latin-1, labelled 0 and 4         |
| `csv`          | any CSV or TSV; the columns can be named                                     |
| `jsonl`, `fasttext`, `parquet`, `excel` | see `app.tables.table`                              |

Every file may be packed with gzip or zip. Reviews of one film (`urls_pos.txt` and similar files)
and copies of one tweet form a group, which a split keeps together. Errors name the row (the header
is row 1) and the rule, and never repeat a text or a label.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from app.errors import DataError
from app.tables.containers import STANDARD_INPUT, open_table_bytes
from app.tables.rows import BadRow, BadRows
from app.tables.table import Refuse, TableFormat, TableOptions, open_table
from training.data.accounting import BAD_ROWS, UNWANTED_LABELS
from training.data.corpus import Corpus, Example, LazySequence
from training.data.formats import (
    KNOWN_FORMATS,
    TSV_HEADER,
    TSV_HEADER_UNLABELLED,
    TSV_STEMS,
    Columns,
    KnownFormat,
    Record,
    SplitName,
    detect_known_format,
    find_file,
    open_reviews,
    read_reviews,
    read_table,
    read_tree,
    tree_folders,
)
from training.data.labels import BINARY_CODES, Found, LabelRules, order_labels, plain_label

Format = Literal[
    "auto",
    "tsv",
    "tree",
    "kaggle",
    "csv",
    "jsonl",
    "fasttext",
    "parquet",
    "excel",
    "gop",
    "airline",
    "sentiment140",
]
_TABLE_FORMATS: Final[Mapping[str, TableFormat]] = {
    "csv": "csv",
    "jsonl": "json-lines",
    "fasttext": "fasttext",
    "parquet": "parquet",
    "excel": "excel",
}
_MOST_NAMES: Final = 24


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How labelled texts are read from a file.

    Attributes:
        format: One of the table above; `auto` detects it.
        text_column: For tables, the column of texts, by name or by number from 1. Default: `text`,
            `review` or `sentence`.
        label_column: The column of labels. Default: `label` or `sentiment`.
        group_column: A column; rows with equal values stay on one side of a split.
        delimiter: For `csv`; see `app.tables.table.TableOptions`.
        encoding: See there.
        quoting: See there.
        header: See there.
        labels: Names of the file's labels by value, or by range of numbers, such as
            `{"1-2": "negative", "4-5": "positive"}`. Default: 0/1 for `tsv` and `kaggle`; otherwise
            negative, neutral, positive in any case, or 0/1, -1/1, -1/0/1. If no label is such a
            name, labels are used as they are, in lower case.
        drop_labels: Values and ranges whose rows are left out.
        skip_bad_rows: Whether rows that break a rule are left out; otherwise they are an error.
        bad_rows_file: Where such rows are written.
    """

    format: Format = "auto"
    text_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quoting: bool | None = None
    header: bool = True
    labels: Mapping[str, str] | None = None
    drop_labels: Sequence[str] = ()
    skip_bad_rows: bool = False
    bad_rows_file: Path | None = None

    @property
    def names_columns(self) -> bool:
        """Whether an option is given that only tables have."""
        given = self.text_column, self.label_column, self.group_column, self.delimiter
        return any(option is not None for option in given) or not self.header

    def columns(self) -> Columns:
        """Return the columns that were named."""
        return Columns(self.text_column, self.label_column, self.group_column)


Records = Callable[[Refuse], Iterable[Record]]
"""Starts a pass over the rows of a file; bad rows go to the function it is given."""


def read(path: Path, *, split: SplitName = "train", options: ReadOptions | None = None) -> Corpus:
    """Read one split of a data set.

    The files are validated now and read again by every pass over the examples.

    Args:
        path: A folder (`tsv`, `tree`) or a file; `-` is standard input.
        split: The split of a folder. A file has one split, read as `train`, or as `unlabelled`
            to ignore its labels; `test` is an error, so that nobody tests on training texts.
        options: How it is read.

    Raises:
        DataError: The path is missing, the format is unknown or a row is invalid; on a later pass,
            the rows have changed.
        InvalidInput: An option is invalid.
    """
    options = options or ReadOptions()
    path = _step_in(path)
    if path != STANDARD_INPUT and not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if not path.is_dir() and split == "test":
        raise DataError(
            f"{path}: a single file has no test part; give the file of test texts its own path"
        )
    format_name = _detect(path, options) if options.format == "auto" else options.format
    labels, source = options.labels, path
    records: Records
    match format_name:
        case "tsv" | "kaggle":
            table = open_reviews(path, split, kaggle=format_name == "kaggle")
            source = table.path
            labels = labels or BINARY_CODES
            records = lambda refuse: read_reviews(path, table, refuse)  # noqa: E731
        case "tree":
            records = lambda refuse: read_tree(path, split)  # noqa: E731
        case _:
            known = _as_known(path, format_name, options)
            labels = labels or known.labels
            opened = open_table(path, known.options)
            records = lambda refuse: read_table(  # noqa: E731
                opened, split, known.columns, refuse, tweets=known.tweets
            )
    rules = LabelRules(labels, options.drop_labels)
    name = f"{_bare_name(path)} {split}"
    return _collect(name, source, records, split, rules, options)


def _as_known(path: Path, format_name: str, options: ReadOptions) -> KnownFormat:
    """Return a format with the options that were given."""
    known = KNOWN_FORMATS.get(format_name)
    if known is None:
        table_format = _TABLE_FORMATS.get(format_name, "auto")
        known = KnownFormat(Columns(), TableOptions(format=table_format), tweets=False)
    columns, table = known.columns, known.options
    return replace(
        known,
        columns=Columns(
            options.text_column or columns.text,
            options.label_column or columns.label,
            options.group_column,
        ),
        options=replace(
            table,
            encoding=options.encoding or (table.encoding and _utf8_or(path, table.encoding)),
            delimiter=options.delimiter or table.delimiter,
            quoting=table.quoting if options.quoting is None else options.quoting,
            header=table.header and options.header,
        ),
    )


def _utf8_or(path: Path, encoding: str) -> str:
    """UTF-8 if the beginning of a file is, else the encoding that its format usually has."""
    with open_table_bytes(path) as opened:
        try:
            opened.start.decode("utf-8")
        except UnicodeDecodeError as error:
            is_cut = error.end == len(opened.start)
            return "utf-8" if is_cut else encoding
    return "utf-8"


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


def _detect(path: Path, options: ReadOptions) -> str:
    """Detect the format from the names in a folder or the beginning of a file."""
    if path.is_dir():
        if _is_tree(path):
            return "tree"
        if any(find_file(path, f"{stem}.tsv") for stem in TSV_STEMS.values()):
            return "tsv"
        names = sorted(item.name for item in path.iterdir())
        shown = [repr(name) for name in names[:_MOST_NAMES]]
        if len(names) > _MOST_NAMES:
            shown.append(f"and {len(names) - _MOST_NAMES} more")
        raise DataError(
            f"{path}: a folder must hold train.tsv (or train.tsv.gz) with the columns id, "
            "sentiment, review, or the aclImdb tree with train/pos and train/neg. Received: "
            + (", ".join(shown) or "an empty folder")
        )
    if options.names_columns:
        return "table"
    with open_table_bytes(path) as opened:
        start = opened.start
    header, _, rest = start.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    cells = tuple(header.rstrip(b"\r").decode("utf-8", "replace").split("\t"))
    as_usual = options.encoding is None and options.quoting is None
    if cells in (TSV_HEADER, TSV_HEADER_UNLABELLED) and as_usual:
        return "kaggle" if rest.startswith(b'"') else "tsv"
    if known := detect_known_format(start, ()):
        return known
    table = open_table(path, TableOptions(encoding=options.encoding, quoting=options.quoting))
    return detect_known_format(start, table.columns) or "table"


def _step_in(path: Path) -> Path:
    """Return the `aclImdb` folder inside the folder it was unpacked into, if there is one."""
    tree = path / "aclImdb"
    return tree if tree.is_dir() else path


def _is_tree(path: Path) -> bool:
    return any((path / split / "pos").is_dir() for split in ("train", "test"))


def _bare_name(path: Path) -> str:
    if path == STANDARD_INPUT:
        return "standard input"
    name = path.resolve().name.removesuffix(".gz").removesuffix(".zip")
    return name if path.is_dir() else Path(name).stem


# From records to a corpus


def _collect(
    name: str,
    path: Path,
    records: Records,
    split: SplitName,
    rules: LabelRules,
    options: ReadOptions,
) -> Corpus:
    """Validate every row and return a corpus that reads its examples on demand."""
    size, dropped = 0, 0
    found: dict[str, Found] = {}  # bounded: a wrong column may have millions of values
    plain = _Plain()
    labelled = split != "unlabelled"
    with BadRows(str(path), skip=options.skip_bad_rows, aside=options.bad_rows_file) as bad:
        for record in records(bad.add):
            row = record.row
            if not record.text.strip():
                bad.add(BadRow(row.number, row.line, "the text must not be empty", row.raw))
                continue
            label = plain[record.label]
            if labelled and rules.drops(label):
                dropped += 1
                continue
            size += 1
            if label not in found and len(found) <= rules.most:
                found[label] = Found(record.label, row.number, row.line)
    left_out = {BAD_ROWS: bad.count, UNWANTED_LABELS: dropped}
    if not size:
        counts = ", ".join(
            f"{count:,} {reason.replace('_', ' ')}" for reason, count in left_out.items() if count
        )
        raise DataError(
            f"{path}: there are no rows to read" + (f". Received: {counts}" if counts else "")
        )
    names = rules.name(path, found) if labelled else {}

    def read_examples() -> Iterator[Example]:
        count = 0
        for record in records(_ignore):
            label = plain[record.label]
            if not record.text.strip() or (labelled and rules.drops(label)):
                continue
            count += 1
            shown = names.get(label) if labelled else ""
            if count > size or shown is None:
                break
            yield Example(record.text, shown, record.group, record.row.number)
        else:
            if count == size:
                return
        raise DataError(f"{path}: the data must not change while it is in use; its rows changed")

    labels = order_labels(names[label] for label in found) if labelled else ()
    counted = {reason: count for reason, count in left_out.items() if count}
    return Corpus(name, LazySequence(read_examples, size), labels, counted)


class _Plain(dict[str, str]):
    """Normalized labels by cell; bounded, as a wrong column may have millions of values."""

    def __missing__(self, label: str) -> str:
        plain = plain_label(label)
        if len(self) < 1_000:
            self[label] = plain
        return plain


def _ignore(bad: BadRow) -> None:
    """Leave out a bad row that the first pass has counted."""
