"""Rows of source batches: find, split and join them, and read them as records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...checks import Finding
from ...errors import ChatfmtError, Location, RowError
from ...field_path import FieldPath
from ...json_columns import JSON, TEXT, columns_of, decode_objects, dumps, encode_objects, integers, is_turns, to_plain
from ...schema import KEYS, ROW
from ...writers.json_lines import json_objects


def column_names(sample: Iterable[pa.RecordBatch]) -> list[str]:
    """Return the columns that source batches have, in order of first appearance."""
    return [*dict.fromkeys(name for batch in sample for name in batch.schema.names if name not in (ROW, KEYS))]


def row_number(batch: pa.RecordBatch, index: int) -> int:
    """Return the number, in its file, of the row at an index of a source batch."""
    return int(batch.column(ROW)[index].as_py())


def find_row(number: int, batch: pa.RecordBatch) -> int:
    """Return the index of the row with that number in a source batch, -1 if it is not there."""
    return int(pc.index(batch.column(ROW), pa.scalar(number, pa.int64())).as_py())


FoundErrors = dict[int, RowError]
"""The error of each bad row of a batch by its index there."""


def find_errors(error: RowError, batch: pa.RecordBatch) -> FoundErrors:
    """Return the first error of each bad row; raise an error that names none of the rows of the batch."""
    found: FoundErrors = {}
    indices = {number: index for index, number in enumerate(batch.column(ROW).to_pylist())}
    for each in (error, *error.others):
        for row in each.rows:
            if row not in indices:
                raise each
            found.setdefault(indices[row], each)
    return found


def error_by_row(error: ChatfmtError, batch: pa.RecordBatch) -> dict[int, ChatfmtError]:
    """Return an error under the index of its row in the batch; nothing if the row is not there."""
    row = -1 if error.at.row is None else find_row(error.at.row, batch)
    return {row: error} if row >= 0 else {}


def numbered(findings: Sequence[Finding], batch: pa.RecordBatch) -> list[tuple[Finding, int]]:
    """Return findings in a batch, each with the number of its row in the source."""
    rows = batch.column("row").to_pylist() if findings else []
    return [(each, rows[each.row]) for each in findings]


def column_for(path: str, source: pa.RecordBatch, conversations: pa.RecordBatch) -> pa.Array:
    """Return the value of a column of the source for each of the conversations that were read from it."""
    rows = np.searchsorted(source.column(ROW).to_numpy(), conversations.column("row").to_numpy())
    return FieldPath.parse(path).column(source).take(integers(rows))


def row_order(at: Location) -> int:
    """Return a sort key for locations in one file: those without a row first."""
    return -1 if at.row is None else at.row


def split_rows(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield each row of a batch as a batch."""
    return (batch.slice(row, 1) for row in range(len(batch)))


def merge_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield all rows of a file as one batch, for dialects whose conversations span several rows."""
    found = list(batches)
    if not found:
        return
    if all(batch.schema == found[0].schema for batch in found):
        yield (pa.Table.from_batches(found).combine_chunks().to_batches() or found)[0]  # a table without rows has none
    else:
        yield reencode_batches(found)


def reencode_batches(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Join batches of JSON objects whose columns differ by encoding the objects again."""
    rows = [row for batch in batches for row in decode_objects(columns_of(batch))]
    numbers = pa.array([row.pop(ROW) for row in rows], pa.int64())
    fields = {ROW: numbers, **encode_objects(rows)}
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))


def to_records(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the records in a source batch, as Python values."""
    fields = {name: rows.column(name) for name in rows.schema.names if name != ROW}
    return decode_objects(fields) if fields else [{} for _ in range(len(rows))]


def to_json(rows: pa.RecordBatch) -> list[bytes | None]:
    """Return the records in a source batch as JSON; None for one that JSON cannot hold (bytes, NaN)."""
    types = [field.type for field in rows.schema if field.name != ROW]
    if all(type in (TEXT, JSON) or (is_turns(type) and not _BEYOND_JSON.search(str(type))) for type in types):
        return [*json_objects(rows.drop_columns([ROW]))]
    return [_to_json(record) for record in map(to_plain, to_records(rows))]


_BEYOND_JSON = re.compile("binary|float|double")
"""The types of Arrow that have values which JSON lacks."""


def _to_json(record: dict[str, Any]) -> bytes | None:
    try:
        return dumps(record).encode()
    except (TypeError, ValueError):
        return None
