"""Delimited text: cells are unchanged text, and bad records are reported with reason and position."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import InputError, UsageError
from chatfmt.sources import ParseOptions, read_stream
from chatfmt.sources.formats.csv import read_records
from chatfmt.sources.formats.jsonl import TextPosition

from ..reading import bad_rows, read_all, rows_of, written

BAD: dict[str, tuple[bytes, str, tuple[int, int, int], bytes]] = {
    "a field too many": (b"1,2,3\n", "csv.fields", (1, 3, 8), b"1,2,3"),
    "a field too few": (b"1\n", "csv.fields", (1, 3, 8), b"1"),
    "text behind a quote": (b'"1"x,2\n', "csv.quote", (1, 3, 8), b'"1"x,2'),
    "a backslash before a quote": (b'"a\\"b",2\n', "csv.quote", (1, 3, 8), b'"a\\"b",2'),
    "NUL": (b"1,\x00\n", "csv.nul", (1, 3, 8), b"1,\x00"),
    "latin-1": (b"caf\xe9,2\n", "csv.encoding", (1, 3, 8), b"caf\xe9,2"),
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


GOOD: dict[str, tuple[bytes, str, ParseOptions, list[dict[str, Any]]]] = {
    "nothing is a number": (
        b"id,a\n007,3.3\n1e5,TRUE\nNA,\n", "x.csv", ParseOptions(),
        [{"id": "007", "a": "3.3"}, {"id": "1e5", "a": "TRUE"}, {"id": "NA", "a": ""}],
    ),
    "lines in cells": (b'a,b\r\n"x\r\ny","""q"""\r\n', "x.csv", ParseOptions(), [{"a": "x\r\ny", "b": '"q"'}]),
    "spaces stay": (b"a,b\n x , y\t\n", "x.csv", ParseOptions(), [{"a": " x ", "b": " y\t"}]),
    "line ends of Unicode": (
        "a,b\nx\u2028\u0085\x0b,y\n".encode(), "x.csv", ParseOptions(),
        [{"a": "x\u2028\u0085\x0b", "b": "y"}],
    ),
    "no header": (
        b"1,2\n3,4\n", "x.csv", ParseOptions(header=False),
        [{"column1": "1", "column2": "2"}, {"column1": "3", "column2": "4"}],
    ),
    "no quotes": (b'a\tb\n"x\t"\n', "x.tsv", ParseOptions(quote=False), [{"a": '"x', "b": '"'}]),
    "another delimiter": (b"a;b\n1,5;2\n", "x.csv", ParseOptions(delimiter=";"), [{"a": "1,5", "b": "2"}]),
    "latin-1": (
        "a,b\ncafé,ß\n".encode("latin-1"), "x.csv", ParseOptions(encoding="latin-1"),
        [{"a": "café", "b": "ß"}],
    ),
    "UTF-16": ("a,b\né,日\n".encode("utf-16"), "x.csv", ParseOptions(encoding="utf-16"), [{"a": "é", "b": "日"}]),
    "a name for the index": (b",a\n0,x\n", "x.csv", ParseOptions(), [{"": "0", "a": "x"}]),
    "JSON in cells": (b'a,b\n"[1, 2]","{""k"": 1}"\n', "x.csv", ParseOptions(), [{"a": "[1, 2]", "b": '{"k": 1}'}]),
    "one column": (b"text\nx\n\ny\n", "x.csv", ParseOptions(), [{"text": "x"}, {"text": "y"}]),
    "blank lines": (b"a,b\n\n1,2\n\r\n", "x.csv", ParseOptions(), [{"a": "1", "b": "2"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_files(name: str, tmp_path: Path) -> None:
    raw, file, options, rows = GOOD[name]
    assert read_all(written(tmp_path, raw, file), options) == rows


def test_many_short_lines_in_a_record_take_little_memory(tmp_path: Path) -> None:
    text = b'v\n"' + b"ab\n" * 100_000
    chunks = (text[at : at + 10_000] for at in range(0, len(text), 10_000))
    records = read_records(chunks, TextPosition(-1), format="csv", options=ParseOptions(), on_bad=lambda *_: None)
    tracemalloc.start()
    assert [cells for cells, _ in records] == [["v"]]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20 * len(text)


def test_a_cell_of_any_size(tmp_path: Path) -> None:
    cell = "x" * 3_000_000
    assert read_all(written(tmp_path, f"a,b\n{cell},\n".encode(), "x.csv")) == [{"a": cell, "b": ""}]


def test_rejected_headers_and_options(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_all(written(tmp_path, b"a,b,a\n1,2,3\n", "x.csv"))
    assert (caught.value.code, caught.value.message) == ("csv.header", "two columns are named `a`")
    with pytest.raises(UsageError) as usage:
        read_all(written(tmp_path, b"a,b\n1,2\n", "x.csv"), ParseOptions(delimiter="ab"))
    assert usage.value.message == "`--delimiter ab` is not one character"
    with pytest.raises(UsageError) as unknown:
        read_all(written(tmp_path, b"a,b\n1,2\n", "x.csv"), ParseOptions(encoding="utf-99"))
    assert unknown.value.message == "unknown encoding `utf-99`"
    with pytest.raises(InputError) as one:
        read_all(written(tmp_path, b"a;b\n1;2\n", "x.csv"))
    assert (one.value.code, one.value.hint) == (
        "csv.delimiter",
        "use `--delimiter ';'`, or `--delimiter ,` if this is intended",
    )


cell = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


@given(rows=st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8), batch=st.integers(1, 4))
def test_any_cells_round_trip(rows: list[tuple[str, str, str]], batch: int) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([("x", "y", "z"), *rows])
    got = rows_of(read_stream(io.BytesIO(sink.getvalue().encode()), "x.csv", batch_rows=batch))
    assert [tuple(row.values()) for row in got] == rows
