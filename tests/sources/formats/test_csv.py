"""Delimited text: cells are unchanged text, and where bad records are; more in `hostile/csv_cases.py`."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import InputError
from chatfmt.sources import ParseOptions, read_stream
from chatfmt.sources.formats.csv import read_records
from chatfmt.sources.formats.jsonl import TextPosition

from ..reading import bad_rows, read_all, rows_of, written

BAD: dict[str, tuple[bytes, str, tuple[int, int, int], bytes]] = {
    "a field too many": (b"1,2,3\n", "csv.fields", (1, 3, 8), b"1,2,3"),
    "a lone CR": (b"1\r2,3\n", "csv.newline", (1, 3, 8), b"1\r2,3"),
    "too long": (b'"' + b"x" * 2000 + b'",2\n', "csv.too_large", (1, 3, 8), b'"' + b"x" * 2000 + b'",2'),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records(name: str, tmp_path: Path) -> None:
    raw, code, place, shown = BAD[name]
    good, bad = bad_rows(written(tmp_path, b"a,b\n0,0\n" + raw + b"9,9\n", "x.csv"), ParseOptions(max_row_bytes=1000))
    assert good == [{"a": "0", "b": "0"}, {"a": "9", "b": "9"}]
    assert bad == [(code, place, shown)]


def test_an_unclosed_quote(tmp_path: Path) -> None:
    good, bad = bad_rows(written(tmp_path, b'a,b\n0,0\n"1,2\n3,4\n', "x.csv"))
    assert (good, bad) == ([{"a": "0", "b": "0"}], [("csv.quote", (1, 3, 8), b'"1,2\n3,4')])


@pytest.mark.parametrize(
    ("raw", "header", "rows"),
    [
        (b"1,2\n3,4\n", False, [{"column1": "1", "column2": "2"}, {"column1": "3", "column2": "4"}]),
        (b",a\n0,x\n", True, [{"": "0", "a": "x"}]),
        (b"text\nx\n\ny\n", True, [{"text": "x"}, {"text": "y"}]),
    ],
    ids=["no header", "a name for the index", "one column"],
)
def test_good_files(raw: bytes, header: bool, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    assert read_all(written(tmp_path, raw, "x.csv"), ParseOptions(header=header)) == rows


def test_many_short_lines_in_a_record_take_little_memory(tmp_path: Path) -> None:
    text = b'v\n"' + b"ab\n" * 100_000
    chunks = (text[at : at + 10_000] for at in range(0, len(text), 10_000))
    records = read_records(chunks, TextPosition(-1), format="csv", options=ParseOptions(), on_bad=lambda *_: None)
    tracemalloc.start()
    assert [cells for cells, _ in records] == [["v"]]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20 * len(text)


def test_another_delimiter_is_suggested_where_the_header_has_one_column(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_all(written(tmp_path, b"a;b\n1;2\n", "x.csv"))
    assert caught.value.hint == "use `--delimiter ';'`, or `--delimiter ,` if this is intended"


cell = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


@given(rows=st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8), batch=st.integers(1, 4))
def test_any_cells_round_trip(rows: list[tuple[str, str, str]], batch: int) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([("x", "y", "z"), *rows])
    got = rows_of(read_stream(io.BytesIO(sink.getvalue().encode()), "x.csv", batch_rows=batch))
    assert [tuple(row.values()) for row in got] == rows
