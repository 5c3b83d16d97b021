"""Parse each file format into records.

The label of a record is the raw cell; `training.data.readers` detects the format, interprets
labels and builds a corpus.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from app.errors import DataError

SplitName = Literal["train", "test", "unlabelled"]
TSV_HEADER: Final = ["id", "sentiment", "review"]
TSV_HEADER_UNLABELLED: Final = ["id", "review"]
TSV_STEMS: Final[Mapping[SplitName, str]] = {
    "train": "train",
    "test": "test",
    "unlabelled": "unlabeled",
}
TEXT_COLUMNS: Final = ("text", "review")
"""Default text columns, in order of preference."""
LABEL_COLUMNS: Final = ("label", "sentiment")


csv.field_size_limit(2**24)  # long texts pass; an unterminated quote does not read the whole file


_GZIP_MAGIC: Final = b"\x1f\x8b"
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
        place: File and row, for error messages.
        text: The text.
        label: The raw label; empty for unlabelled texts.
        group: The film or the tweet that the text belongs to, where known.
    """

    place: str
    text: str
    label: str
    group: str | None = None


# From bytes to lines


def read_lines(path: Path) -> Generator[str, None, None]:
    """Yield the lines of a UTF-8 file, plain or gzip, split at line feeds only.

    Reviews contain U+0085 and other characters at which `str.splitlines` would split.
    """
    with _readable(path):
        with path.open("rb") as start:
            compressed = start.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if compressed else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decode(line, f"{path} line {number}", first=number == 1)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Translate errors of reading a file to `DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file or folder") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is damaged or cut short") from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}") from error


def _decode(raw: bytes, place: str, *, first: bool = False) -> str:
    """Decode UTF-8; the first line may begin with a byte order mark."""
    try:
        return raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: the text must be UTF-8. Received: byte 0x{raw[error.start]:02X} in position "
            f"{error.start + 1}. A Windows file is converted by iconv -f WINDOWS-1252 -t UTF-8"
        ) from error


# The formats


def read_tsv(
    path: Path, split: SplitName, split_cells: Callable[[str, str], list[str]]
) -> Iterator[Record]:
    """Yield rows of `id, sentiment, review`, or of `id, review` for unlabelled texts."""
    films: Mapping[str, Sequence[str] | None] = {}
    if path.is_dir():
        stem = TSV_STEMS[split]
        folder, name = path, f"{stem}.tsv"
        path = find_file(folder, name) or folder / name
        films = {
            code: _read_films(folder, f"{stem}_urls_{label}.txt")
            for code, label in (("0", "neg"), ("1", "pos"))
        }
    with closing(read_lines(path)) as lines:
        header = next(lines, "")
        end = "\r\n" if header.endswith("\r\n") else "\n"
        names = header.removesuffix(end).split("\t")
        accepted = [TSV_HEADER, TSV_HEADER_UNLABELLED] if split == "unlabelled" else [TSV_HEADER]
        if header and names not in accepted:
            raise DataError(
                f"{path} row 1: the columns must be {', '.join(accepted[0])}, separated by tabs. "
                f"Received: {shorten(names)}"
            )
        for number, line in enumerate(lines, start=2):
            place = f"{path} row {number}"
            if line == end:
                continue
            cells = split_cells(line.removesuffix(end), place)
            if len(cells) != len(names):
                raise DataError(
                    f"{place}: a row must have {len(names)} cells ({', '.join(names)}) separated "
                    f"by tabs. Received: {len(cells)}"
                )
            label = cells[1] if len(cells) == len(TSV_HEADER) else ""
            group = _film_of(cells[0], films.get(label), place)
            yield Record(place, text=cells[-1], label=label, group=group)


def plain_cells(line: str, place: str) -> list[str]:
    """Split without quoting: a leading quotation mark belongs to the review."""
    return line.split("\t")


def kaggle_cells(line: str, place: str) -> list[str]:
    r"""Split quoted cells of id and review; `\"` is an escaped quotation mark."""
    cells = line.split("\t")
    for column in (0, -1):
        match = _KAGGLE_CELL.fullmatch(cells[column])
        if match is None:
            raise DataError(
                f"{place}: a cell must begin and end with a quotation mark, and one inside it "
                f"must follow a backslash. Received: a cell of {len(cells[column])} characters "
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
        for path in sorted(folder.glob("*.txt"), key=_by_number):
            group = _film_of(path.stem, films, str(path))
            with _readable(path):
                raw = path.read_bytes()
            yield Record(str(path), _decode(raw, str(path)), label, group)


def _by_number(path: Path) -> tuple[int, str]:
    match = _REVIEW_ID.fullmatch(path.stem)
    return (int(match[1]) if match else 0, path.name)


def read_csv(
    path: Path,
    split: SplitName,
    text_column: str | None,
    label_column: str | None,
    group_column: str | None,
    delimiter: str | None,
) -> Iterator[Record]:
    """Yield rows with named columns. Cells may span lines, so rows and lines differ."""
    with closing(read_rows(path, delimiter)) as rows:
        names = [name.strip() for name in next(rows, ("", []))[1]]
        if not names:
            return
        text = _column(path, names, text_column, TEXT_COLUMNS, "text")
        label = group = None
        if split != "unlabelled":
            label = _column(path, names, label_column, LABEL_COLUMNS, "label")
        if group_column is not None:
            group = _column(path, names, group_column, (), "group")
        for place, cells in rows:
            if len(cells) != len(names):
                raise DataError(
                    f"{place}: a row must have as many cells as the header, {len(names)}. "
                    f"Received: {len(cells)}; is a quotation mark or a delimiter missing?"
                )
            yield Record(
                place,
                text=cells[text],
                label="" if label is None else cells[label],
                group=None if group is None else cells[group].strip() or None,
            )


def read_rows(path: Path, delimiter: str | None) -> Generator[tuple[str, list[str]], None, None]:
    """Yield the place (for error messages) and the cells of each row, skipping blank lines."""
    delimiter = delimiter or delimiter_of(path)
    if delimiter is None or len(delimiter) != 1:
        raise DataError(
            f"{path}: the delimiter must be one character; it is implied by the suffixes .csv and "
            f".tsv and must be named otherwise. Received: {delimiter!r}"
        )
    with closing(read_lines(path)) as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        number = 1
        while True:
            line = reader.line_num + 1
            place = f"{path} row {number}" + (f" (line {line})" if line != number else "")
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{place}: {_csv_fault(str(error))}") from error
            if cells:
                yield place, cells
                number += 1


def _csv_fault(message: str) -> str:
    if "unexpected end of data" in message:
        return (
            "a cell that begins with a quotation mark must end with one. Received: none up to "
            "the end of the file (an unterminated quote)"
        )
    if "new-line character" in message:
        return "a line must end with a line feed. Received: a bare carriage return"
    if "expected after" in message:
        return 'a quotation mark inside a quoted cell must be doubled (""). Received: a single one'
    if "field larger" in message:
        return (
            f"a cell must have at most {csv.field_size_limit():,} characters. Received: more; is "
            "a quotation mark unterminated?"
        )
    return f"the row must be CSV as in RFC 4180. Received: {message}"


def delimiter_of(path: Path) -> str | None:
    """Return the delimiter implied by the suffix (ignoring `.gz`), or None."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    return {".csv": ",", ".tsv": "\t", ".tab": "\t"}.get(suffix)


def _column(
    path: Path, names: Sequence[str], wanted: str | None, usual: Sequence[str], kind: str
) -> int:
    """Return the position of the requested column, or of the first default one."""
    for name in usual if wanted is None else [wanted]:
        if name in names:
            return names.index(name)
    rule = f"the {kind} column must be named " + (
        repr(wanted) if wanted else f"{' or '.join(usual)}, or be given by an option"
    )
    raise DataError(f"{path} row 1: {rule}. Received the columns: {shorten(names)}")


# Groups


def _read_films(folder: Path, name: str) -> Sequence[str] | None:
    """Read the film of each review, one per line; None if the file is missing."""
    path = find_file(folder, name)
    if path is None:
        return None
    films = []
    for line in read_lines(path):
        match = _FILM.search(line)
        films.append(match[1] if match else line.strip())
    return films


def _film_of(review_id: str, films: Sequence[str] | None, place: str) -> str | None:
    """Return the film of review `N_RATING`: line N, counting from 0."""
    if films is None:
        return None
    match = _REVIEW_ID.fullmatch(review_id)
    if match is None or int(match[1]) >= len(films):
        raise DataError(
            f"{place}: the id must be N_RATING with N below {len(films)}, the number of lines in "
            f"the film list. Received: {shorten([review_id])}"
        )
    return films[int(match[1])]


def with_retweet_groups(records: Iterable[Record]) -> Iterator[Record]:
    """Group each tweet with its retweets, by the beginning of their common words.

    Text before `RT @name:`, links, case and punctuation are ignored. Only the beginning counts,
    because a retweet is cut off at 140 characters.
    """
    for record in records:
        bare = _ENTITY.sub(" ", _LINK.sub(" ", record.text.casefold()))
        repeated = _WORD.findall(_RETWEET.sub(" ", bare)) or _WORD.findall(bare)
        group = " ".join(repeated)[:_BEGINNING].rstrip()
        yield Record(record.place, record.text, record.label, group or None)


# Files and messages


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of this name, plain or with `.gz`, if it exists."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def shorten(values: Sequence[str], *, items: int = 24, characters: int = 40) -> str:
    """Quote values for an error message; a long value, possibly a text, shows its length only."""
    shown = [
        repr(value) if len(value) <= characters else f"a value of {len(value)} characters"
        for value in values[:items]
    ]
    if len(values) > items:
        shown.append(f"and {len(values) - items} more")
    return ", ".join(shown)
