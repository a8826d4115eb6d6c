"""JSON documents, and the records inside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import InputError
from chatfmt.sources import ParseOptions, resolve
from chatfmt.sources.discovery.sniff import HEAD, format_of_content

from ...conftest import run_cli
from ..reading import read_all, written


@pytest.mark.parametrize(
    ("text", "format"),
    [(b'{"a": [', "json"), (b'{"a": "b', "jsonl"), (b'{"a": [' + b" " * HEAD, "jsonl"), (b'{"a":\n1}', "json")],
)
def test_a_first_line_that_is_no_object_begins_a_document_unless_it_is_longer_than_what_is_looked_at(
    text: bytes, format: str
) -> None:
    assert format_of_content(text, "x", ParseOptions()) == format


FIELDS: dict[str, tuple[Any, list[Any]]] = {
    "data": ({"v": 1, "data": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
    "data[].p[].q[]": (
        {"data": [{"p": [{"q": [{"a": 1}]}, {"q": []}]}, {"p": [{"q": [{"a": 2}]}]}]},
        [{"a": 1}, {"a": 2}],
    ),
    "values(.)": ({"x": {"a": 1}, "y": {"a": 2}}, [{"a": 1}, {"a": 2}]),
    "values(d.e)": ({"d": {"e": {"x": {"a": 1}}}}, [{"a": 1}]),
    "one": ({"one": {"a": 1}}, [{"a": 1}]),
    "columns(.)": ({"a": [1, 2], "b": [3, 4]}, [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
    "columns(d)": ({"d": {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}}}, [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("indent", [None, 2])
def test_fields_of_a_document(field: str, indent: int | None, tmp_path: Path) -> None:
    document, rows = FIELDS[field]
    path = written(tmp_path, json.dumps(document, indent=indent).encode(), "x.json")
    assert read_all(path, ParseOptions(field=field)) == rows
    with pytest.raises(InputError) as caught:
        read_all(path, ParseOptions(field="no.such"))
    assert caught.value.message == "`--field no.such`: no `no` there"


@pytest.mark.parametrize("document", [{"a": [1]}, {"a": [1], "b": []}, {"a": {"x": 1}}, {"a": {"x": 1}, "b": {"y": 1}}])
def test_columns_of_different_lengths_are_no_rows(document: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no columns of one length there"):
        read_all(written(tmp_path, json.dumps(document).encode(), "x.json"), ParseOptions(field="columns(.)"))


def test_a_document_without_a_field_suggests_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve(written(tmp_path, json.dumps({"v": "1", "data": [{"a": 1}]}, indent=1).encode(), "x.json"))
    assert (caught.value.code, caught.value.hint) == (
        "json.document",
        "`--field data`, or `--field .` for one record",
    )


def test_concatenated_values_suggest_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{\n "a": 1\n}\n{\n "a": 2\n}\n')
    run = run_cli("inspect", "in.json", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (
        3,
        [
            "error: in.json: extra data after the value, and no comma before it (line 4, byte 12)",
            "hint: write one value per line: jq -c . in.json > lines.jsonl",
        ],
    )
