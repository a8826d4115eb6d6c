"""Records that are bare lists of turns are read as `messages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import RowError
from chatfmt.sources import ParseOptions

from ..conftest import to_lines
from .reading import bad_rows, read_all, written

TALKS = [[{"role": "user", "content": f"q{n}\u2028"}, {"role": "assistant", "content": ["a", {"b": None}]}]
         for n in range(5)]  # fmt: skip
WANT = [{"messages": turns} for turns in TALKS]
LINES = to_lines(TALKS)
FILES: dict[str, tuple[str, str]] = {
    "lines": (LINES, "x.jsonl"),
    "lines under another name": (LINES, "x.json"),
    "lines and no name": (LINES, "x"),
    "lines after a mark, with blank ones": ("\ufeff\n" + LINES.replace("\n", "\r\n \n"), "x.jsonl"),
    "an array": (json.dumps(TALKS), "x.json"),
    "an array over lines": (json.dumps(TALKS, indent=1), "x.jsonl"),
}


@pytest.mark.parametrize("name", FILES)
def test_each_list_is_a_record(name: str, tmp_path: Path) -> None:
    text, file = FILES[name]
    path = written(tmp_path, text.encode(), file)
    assert [_plain(row) for row in read_all(path)] == WANT
    assert [_plain(row) for row in read_all(path, rows_per_shard=2)] == WANT


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "#row"}


def test_lists_inside_a_document(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({"data": TALKS}).encode(), "x.json")
    assert [_plain(row) for row in read_all(path, ParseOptions(field="data"))] == WANT


@pytest.mark.parametrize("file", ["x.json", "x.jsonl"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_one_list_is_an_array_of_records(file: str, end: str, tmp_path: Path) -> None:
    path = written(tmp_path, (json.dumps(TALKS[0]) + end).encode(), file)
    assert [_plain(row) for row in read_all(path)] == TALKS[0]


@pytest.mark.parametrize(
    ("line", "kind"), [("[]", "an empty list"), ("[1]", "a list"), ('["a"]', "a list"), ('[{"a":1},2]', "a list")]
)
def test_other_lists_are_rejected(line: str, kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, (LINES + line + "\n").encode())
    rows, bad = bad_rows(path)
    assert [_plain(row) for row in rows] == WANT
    assert [(code, raw) for code, _, raw in bad] == [("json.not_object", line.encode())]
    with pytest.raises(RowError) as caught:
        read_all(path)
    assert (caught.value.message, caught.value.at.row) == (f"the record is {kind}, not an object", 5)
