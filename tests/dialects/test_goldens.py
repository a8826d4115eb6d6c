"""Golden files: the rows of a dataset, and after `---` the conversations they become.

The first line has the expected dialect, the dataset type and the options. Every dialect has at least one file;
`NAME-variant` is another format of it, `NAME+option` the same rows with an option.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chatfmt.dialects import DIALECTS, Columns, detect

from .batches import conversations, convert, to_batch, to_native, without_nulls

GOLDENS = sorted((Path(__file__).parent.parent / "goldens" / "dialects").glob("*.golden"))
Golden = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]


def read_golden(path: Path) -> Golden:
    head, *lines = path.read_text().splitlines()
    cut = lines.index("---")
    return (
        json.loads(head[1:]),
        [json.loads(line) for line in lines[:cut]],
        [json.loads(line) for line in lines[cut + 1 :]],
    )


def test_every_dialect_has_a_golden_file() -> None:
    named = {read_golden(path)[0]["dialect"] for path in GOLDENS}
    assert named == set(DIALECTS)
    assert len(GOLDENS) >= 80


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    head, rows, expected = read_golden(path)
    columns = Columns(options=head.get("options", {}))
    opt_in = DIALECTS[head["dialect"]].opt_in and head["dialect"] != "mixed"
    found = detect([to_batch(rows)], columns, head["dialect"] if opt_in or head.get("named") else "auto")
    assert (found.dialect, found.type) == (head["dialect"], head["type"])
    assert (found.rows_seen, found.rows_fit) == (len(rows), head.get("fit", len(rows)))
    made = DIALECTS[found.dialect].convert(to_batch(rows), found.columns)
    assert made.schema.names[0] == "row"
    assert made.schema.field("row").type == pa.int64()
    made.validate(full=True)
    assert conversations(made) == expected


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_golden_from_native_arrow_types(path: Path) -> None:
    """The same rows as in Parquet; keys that are null, or that Arrow filled with null, are absent."""
    head, rows, expected = read_golden(path)
    try:
        batch = to_native(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pytest.skip("Arrow cannot hold these rows")
    columns = Columns(options=head.get("options", {}))
    found = detect([batch], columns, head["dialect"])
    made = conversations(DIALECTS[found.dialect].convert(batch, found.columns))
    assert without_nulls(made) == without_nulls(expected)


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_row_numbers_and_slices(path: Path) -> None:
    """Rows keep the row numbers of the source, and slices of a batch give the same rows as the batch."""
    head, rows, expected = read_golden(path)
    rows = rows * 3 if not DIALECTS[head["dialect"]].whole_file else rows
    batch = to_batch(rows, start=100)
    columns = detect([batch], Columns(options=head.get("options", {})), head["dialect"]).columns
    whole = conversations(DIALECTS[head["dialect"]].convert(batch, columns))
    assert {row["row"] for row in whole} <= set(range(100, 100 + len(rows)))
    assert [row["row"] for row in whole] == sorted(row["row"] for row in whole)
    if DIALECTS[head["dialect"]].whole_file:
        return
    for size in (1, 2):
        pieces = [batch.slice(start, size) for start in range(0, len(batch), size)]
        made = [row for piece in pieces for row in conversations(DIALECTS[head["dialect"]].convert(piece, columns))]
        assert made == whole


def test_a_batch_without_rows() -> None:
    checked = 0
    for path in GOLDENS:
        head, rows, _ = read_golden(path)
        batch = to_batch(rows)
        columns = detect([batch], Columns(options=head.get("options", {})), head["dialect"]).columns
        assert DIALECTS[head["dialect"]].convert(batch.slice(0, 0), columns).num_rows == 0
        checked += 1
    assert checked == len(GOLDENS)


def test_named_dialect_reads_what_auto_found() -> None:
    rows = [{"question": "q", "answer": "a"}]
    assert convert(rows, dialect="prompt-completion")[0] == convert(rows)[0]
