"""Source batches as the readers make them, and conversations as Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from chatfmt import json_columns, schema
from chatfmt.dialects import DIALECTS, Columns, Detection, detect


def to_batch(rows: Sequence[Mapping[str, Any]], start: int = 0) -> pa.RecordBatch:
    """Return the source batch that a JSON reader makes of `rows`, numbered from `start`."""
    fields = {schema.ROW: pa.array(range(start, start + len(rows)), pa.int64()), **json_columns.encode_objects(rows)}
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))


def to_native(rows: Sequence[Mapping[str, Any]], start: int = 0) -> pa.RecordBatch:
    """Return the source batch that a Parquet reader makes of `rows`: nested Arrow types, keys filled with null."""
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    numbers = pa.array(range(start, start + len(rows)), pa.int64())
    arrays = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays([numbers, *arrays], names=[schema.ROW, *table.column_names])


def conversations(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a CONVERSATIONS batch as Python values, without nulls."""
    columns = zip(batch.schema.names, batch.columns, strict=True)
    found = json_columns.decode_objects({name: column for name, column in columns if name != schema.KEYS})
    return [{key: value for key, value in row.items() if value is not None} for row in found]


def convert(rows: Sequence[Mapping[str, Any]] | pa.RecordBatch, columns: Columns = Columns(), dialect: str = "auto",
            ) -> tuple[list[dict[str, Any]], Detection]:  # fmt: skip
    """Detect the dialect of rows and convert them; return the conversations without `row`, and the detection."""
    batch = rows if isinstance(rows, pa.RecordBatch) else to_batch(rows)
    detection = detect([batch], columns, dialect)
    made = conversations(DIALECTS[detection.dialect].convert(batch, detection.columns))
    return [{key: value for key, value in row.items() if key != "row"} for row in made], detection


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: all rows of a column have the keys of each."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
