import csv
import io

import pytest

from app.scoring.files import encode_csv

CELLS = ["plain", "", "a, b", 'say "no"', '"', "two\nlines", "a\rb", "a\r\nb", "\t", " x ", "é 👍"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("cell", CELLS)
def test_csv_reads_back(cell: str, delimiter: str) -> None:
    """Whatever is in a cell, a reader of RFC 4180 gets the same cells in the same rows."""
    rows = [["1", cell], [cell, "2"], [cell, cell]]
    written = io.StringIO(encode_csv(rows, delimiter).decode(), newline="")
    assert list(csv.reader(written, delimiter=delimiter, strict=True)) == rows


def test_only_what_needs_quotes_gets_them() -> None:
    """A cell is quoted where it holds a delimiter, a quotation mark or the end of a line."""
    row = ["plain words", "a, b", 'say "no"', "two\nlines", "bare\rreturn", ""]
    assert encode_csv([row]) == (b'plain words,"a, b","say ""no""","two\nlines","bare\rreturn",\n')


def test_lone_surrogates_are_spelled() -> None:
    """A lone surrogate, which UTF-8 cannot hold, is written as its escape."""
    assert encode_csv([["a\ud800", "b"]]) == b"a\\ud800,b\n"
