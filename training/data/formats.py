"""The known formats: what each adds to a table of `app.tables`.

The label of a record is the raw cell; `training.data.readers` detects the format, interprets
labels and builds a corpus.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from app.errors import DataError
from app.tables.containers import open_table_bytes
from app.tables.rows import BadRow, Row
from app.tables.table import TEXT_COLUMNS, Refuse, Table, TableOptions, open_table

SplitName = Literal["train", "test", "unlabelled"]
TSV_HEADER: Final = ("id", "sentiment", "review")
TSV_HEADER_UNLABELLED: Final = ("id", "review")
TSV_STEMS: Final[Mapping[SplitName, str]] = {
    "train": "train",
    "test": "test",
    "unlabelled": "unlabeled",
}
LABEL_COLUMNS: Final = ("label", "sentiment")

_REVIEW_ID: Final = re.compile(r"(\d+)_\d+")  # N_RATING
_FILM: Final = re.compile(r"/title/(tt\d+)")
_KAGGLE_CELL: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"')
_LINK: Final = re.compile(r"http\S*")
_RETWEET: Final = re.compile(r".*\brt\s*@\w+", re.DOTALL)  # up to the last one
_ENTITY: Final = re.compile(r"&\w+;")
_WORD: Final = re.compile(r"\w+")
_BEGINNING: Final = 40  # characters of a tweet that its retweets always keep


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        row: The row, for error messages.
        text: The text.
        label: The raw label; empty for unlabelled texts.
        group: The film or the tweet that the text belongs to, where known.
    """

    row: Row
    text: str
    label: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table hold what; each by name, or by number from 1.

    Attributes:
        text: Default: one of `TEXT_COLUMNS`.
        label: Default: one of `LABEL_COLUMNS`.
        group: Rows with equal values stay on one side of a split; None for no such column.
    """

    text: str | None = None
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class KnownFormat:
    """A file that many people have.

    Attributes:
        columns: Where texts and labels are.
        options: How its table is read.
        labels: Names of its labels; None for the usual ones.
        tweets: Whether copies of a tweet are grouped.
    """

    columns: Columns
    options: TableOptions
    labels: Mapping[str, str] | None = None
    tweets: bool = True


KNOWN_FORMATS: Final[Mapping[str, KnownFormat]] = {
    # Sentiment.csv, the tweets of the first GOP debate
    "gop": KnownFormat(Columns("text", "sentiment"), TableOptions("csv")),
    # Tweets.csv, the tweets about airlines
    "airline": KnownFormat(Columns("text", "airline_sentiment"), TableOptions("csv")),
    # training.1600000.processed.noemoticon.csv: six columns, no header, Latin-1
    "sentiment140": KnownFormat(
        Columns(text="6", label="1"),
        TableOptions(format="csv", encoding="latin-1", delimiter=",", header=False),
        {"0": "negative", "2": "neutral", "4": "positive"},
    ),
}
_SENTIMENT140: Final = re.compile(rb'"?[024]"?,"?\d+"?,"?\w{3} \w{3} \d\d [\d:]{8} \w{3} \d{4}"?,')
_HEADERS: Final = (
    ("gop", {"text", "sentiment", "tweet_id"}),
    ("airline", {"text", "airline_sentiment", "tweet_id"}),
)


def detect_known_format(start: bytes, columns: Iterable[str]) -> str | None:
    """Return the name in `KNOWN_FORMATS` of a table that begins with `start`, if it is one."""
    if _SENTIMENT140.match(start):
        return "sentiment140"
    found = {name.casefold() for name in columns}
    return next((name for name, header in _HEADERS if header <= found), None)


# Tables


def read_table(
    table: Table, split: SplitName, columns: Columns, refuse: Refuse, *, tweets: bool = False
) -> Iterator[Record]:
    """Yield the rows of a table.

    Args:
        table: The table.
        split: Labels of `unlabelled` texts are not looked for.
        columns: Where texts, labels and groups are.
        refuse: Called with each bad row.
        tweets: Whether copies of a tweet are grouped.

    Raises:
        DataError: A column is missing, or its name occurs twice.
    """
    text = table.find_column(columns.text, TEXT_COLUMNS, "text")
    label = group = None
    if split != "unlabelled":
        label = table.find_column(columns.label, LABEL_COLUMNS, "label")
    if columns.group is not None:
        group = table.find_column(columns.group, (), "group")
    needed = {column for column in (text, label, group) if column is not None}
    for row in table.rows(refuse, needed):
        cells = row.cells
        record = Record(
            row,
            text=cells[text],
            label="" if label is None else cells[label],
            group=None if group is None else cells[group].strip() or None,
        )
        yield with_retweet_group(record) if tweets and group is None else record


# The TSV of reviews, and Kaggle's file of them


def open_reviews(path: Path, split: SplitName, *, kaggle: bool) -> Table:
    """Open a table of `id, sentiment, review`, or of `id, review` for unlabelled texts.

    Raises:
        DataError: The file is missing, or has other columns.
    """
    if path.is_dir():
        name = f"{TSV_STEMS[split]}.tsv"
        path = find_file(path, name) or path / name
    split_cells = split_kaggle_cells if kaggle else None
    options = TableOptions("csv", "utf-8", "\t", quoting=False, split_cells=split_cells)
    table = open_table(path, options)
    accepted = [TSV_HEADER, TSV_HEADER_UNLABELLED] if split == "unlabelled" else [TSV_HEADER]
    if table.columns not in accepted:
        raise DataError(
            f"{path} row 1: the columns must be {', '.join(accepted[0])}, separated by tabs. "
            f"Received {table.show_columns()}"
        )
    return table


def read_reviews(folder: Path, table: Table, refuse: Refuse) -> Iterator[Record]:
    """Yield the rows of a table of reviews, with their films where the folder lists them."""
    films: dict[str, Sequence[str] | None] = {}
    if folder.is_dir():
        stem = table.path.name.partition(".")[0]
        for code, kind in (("0", "neg"), ("1", "pos")):
            films[code] = _read_films(folder, f"{stem}_urls_{kind}.txt")
    for row in table.rows(refuse):
        label = row.cells[1] if len(row.cells) == len(TSV_HEADER) else ""
        try:
            group = _film_of(row.cells[0], films.get(label))
        except ValueError as error:
            refuse(BadRow(row.number, row.line, str(error), row.raw))
            continue
        yield Record(row, text=row.cells[-1], label=label, group=group)


def split_kaggle_cells(line: str) -> list[str]:
    r"""Split quoted cells of id and review; `\"` is an escaped quotation mark.

    Raises:
        ValueError: A cell is not quoted so; the message is the rule.
    """
    cells = line.split("\t")
    if cells == list(TSV_HEADER):
        return cells
    for column in (0, -1):
        match = _KAGGLE_CELL.fullmatch(cells[column])
        if match is None:
            raise ValueError(
                "a cell must begin and end with a quotation mark, and one inside it must follow a "
                f"backslash. Received: a cell of {len(cells[column])} characters "
                + _quote_fault(cells[column])
            )
        cells[column] = match[1].replace('\\"', '"')
    return cells


def _quote_fault(cell: str) -> str:
    if not cell.startswith('"'):
        return "without the first one"
    if not cell.endswith('"') or cell.endswith('\\"') or len(cell) == 1:
        return "without the last one (an unterminated quote; is the file cut short?)"
    return 'with a bare " inside'


# The aclImdb tree


def tree_folders(split: SplitName) -> list[tuple[str, str]]:
    """Return the folders of a split, with the label of their files."""
    if split == "unlabelled":
        return [("train/unsup", "")]
    return [(f"{split}/neg", "negative"), (f"{split}/pos", "positive")]


def read_tree(root: Path, split: SplitName) -> Iterator[Record]:
    """Yield one review per file `N_RATING.txt`, ordered by N, negative ones first."""
    for name, label in tree_folders(split):
        folder = root / name
        if not folder.is_dir():
            raise DataError(f"{folder}: the folder is missing from the aclImdb tree")
        films = _read_films(folder.parent, f"urls_{folder.name}.txt")
        for number, path in enumerate(sorted(folder.glob("*.txt"), key=_by_number), start=1):
            try:
                group = _film_of(path.stem, films)
                text = _read_text(path)
            except (ValueError, OSError) as error:
                raise DataError(f"{path}: {error}") from error
            yield Record(Row(number, number, (text,)), text, label, group)


def _by_number(path: Path) -> tuple[int, str]:
    match = _REVIEW_ID.fullmatch(path.stem)
    return (int(match[1]) if match else 0, path.name)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the text must be UTF-8. Received: byte 0x{error.object[error.start]:02X} in position "
            f"{error.start + 1}"
        ) from error


# Groups


def _read_films(folder: Path, name: str) -> Sequence[str] | None:
    """Read the film of each review, one per line; None if the file is missing."""
    path = find_file(folder, name)
    if path is None:
        return None
    films = []
    with open_table_bytes(path) as opened:
        for line in opened.file:
            match = _FILM.search(line.decode("utf-8", "replace"))
            films.append(match[1] if match else line.decode("utf-8", "replace").strip())
    return films


def _film_of(review_id: str, films: Sequence[str] | None) -> str | None:
    """Return the film of review `N_RATING`: line N, counting from 0.

    Raises:
        ValueError: The id is no such id; the message is the rule.
    """
    if films is None:
        return None
    match = _REVIEW_ID.fullmatch(review_id)
    if match is None or int(match[1]) >= len(films):
        raise ValueError(
            f"the id must be N_RATING with N below {len(films)}, the number of lines in the film "
            "list. Received: another id"
        )
    return films[int(match[1])]


def with_retweet_group(record: Record) -> Record:
    """Group a tweet with its retweets, by the beginning of their common words.

    Text before `RT @name:`, links, case and punctuation are ignored. Only the beginning counts,
    because a retweet is cut off at 140 characters.
    """
    bare = _ENTITY.sub(" ", _LINK.sub(" ", record.text.casefold()))
    retweet = _RETWEET.match(bare)  # at the beginning or nowhere: `sub` would try every place
    repeated = _WORD.findall(bare, retweet.end() if retweet else 0) or _WORD.findall(bare)
    group = " ".join(repeated)[:_BEGINNING].rstrip()
    return Record(record.row, record.text, record.label, group or None)


# Files


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of this name, plain or with `.gz`, if it exists."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)
