"""What must hold for any file: it is read, row by row, or refused with a sentence."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from app.errors import ValenceError
from app.tables.rows import BadRow
from app.tables.table import TableOptions, open_table

_SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".txt", ".csv.gz", ".zip", ".parquet", ".xlsx")
_ENCODINGS: Final = (None, None, None, "utf-8", "latin-1", "gb18030", "utf-16", "shift_jis")
_LONGEST_RULE: Final = 300


def check_table(data: bytes) -> None:
    """Every row is yielded or refused, in order, and nothing between them is lost.

    The first two bytes choose suffix and options, the rest is the file. Any other exception than
    one of the project's own breaks the rule.
    """
    first, second, content = data[:1] or b"\0", data[1:2] or b"\0", data[2:]
    chosen, more = first[0], second[0]
    path = _folder() / f"table{_SUFFIXES[chosen % 8]}"
    path.write_bytes(content)
    options = TableOptions(
        encoding=_ENCODINGS[chosen // 8 % 8],
        quoting=(None, True, False)[more % 3],
        header=more // 4 % 4 != 0,
        delimiter=(None, None, ",", ";")[more // 16 % 4],
    )
    raws: list[str] = []
    numbers: list[int] = []

    def refuse(bad: BadRow) -> None:
        assert len(bad.rule) < _LONGEST_RULE
        numbers.append(bad.number)
        raws.append(bad.raw)

    try:
        table = open_table(path, options)
        for row in table.rows(refuse):
            assert len(row.cells) == len(table.columns)
            numbers.append(row.number)
            raws.append(row.raw)
    except ValenceError:
        return
    has_header = table.format in ("csv", "excel") and options.header
    assert numbers == list(range(1 + has_header, len(numbers) + 1 + has_header))
    if table.format in ("csv", "json-lines", "fasttext") and content[:2] not in (
        b"\x1f\x8b",
        b"PK",
    ):
        encoding = table.encoding
        text = content.decode(encoding, "surrogateescape").removeprefix("\ufeff")
        rows = "".join("".join(raws).split())
        assert "".join(text.split()).endswith(rows)
        assert has_header or "".join(text.split()) == rows


@cache
def _folder() -> Path:
    memory = Path("/dev/shm")  # noqa: S108 - a million files, faster than on a disk
    return Path(tempfile.mkdtemp(prefix="valence-tables-", dir=memory if memory.is_dir() else None))


SEEDS: Final = (
    b"\0\0text,label\ngood,1\nbad,0\n",
    b'\0\0text,label\n"a, b\nc",1\n"d ""e""",0\n\n',
    b'\1\0text\tlabel\n"one\t1\ntwo\t0\nthree"\t1\n',
    b'\0\0text,label\n"never closed,1\nbad,0\n',
    b"\0\4a,1\nb,0\n",
    b'\2\0{"text": "a", "label": 1}\n[1]\n{"text": null, "label": true}\n',
    b"\3\0__label__1 good\n__label__ bad\n__label__1 __label__2 x\n",
    b"\3\0a|b\r\nc|d\r\n",
    b"\0\0" + "text\tlabel\r\ngood\t1\r\n".encode("utf-16"),
    b"\0\0\xef\xbb\xbfa;b\nc;d\n",
    b"\0\0text,label\n\xc7\xd6,1\n",
    b"\x28\0\xc7\xd6,\xb1\xea\n\xc7\xd6,1\n",
    b"\4\0\x1f\x8b\x08\0\0\0\0\0",
    b"\5\0PK\x03\x04\0\0",
    b"\6\0PAR1\0\0PAR1",
    b"\0\0a\rb\n\0,\0\n",
    b'\0\2x,y\n"a,1\nb",2\n',
)
