"""Describe the columns of a sample: name, type in words, number of values, first value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...json_columns import JSON, decode_objects, to_display
from ...schema import KEYS, ROW


def describe_columns(sample: Sequence[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Return name, type in words, number of rows with a value, and first value of each column."""
    found: dict[str, list[pa.Array]] = {}
    for batch in sample:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            found.setdefault(name, []).append(column)
    described = []
    for name, columns in found.items():
        if name in (ROW, KEYS):
            continue
        filled = sum(len(column) - column.null_count for column in columns)
        words = dict.fromkeys(
            word for column in columns if column.null_count < len(column) for word in column_types(column)
        )
        described.append(
            {"name": name, "type": " or ".join(words) or "null", "filled": filled, "example": first_value(columns)}
        )
    return described


def column_types(column: pa.Array) -> list[str]:
    """Return the type of a column in words; the types of the values, except nulls, for a JSON column."""
    if column.type != JSON:
        return [type_in_words(column.type)]
    starts = [
        start for start in pc.unique(pc.utf8_slice_codeunits(column, 0, 1)).to_pylist() if start not in (None, "n")
    ]
    return list(dict.fromkeys(_STARTS.get(start, "number") for start in starts)) or ["null"]


_STARTS = {"{": "object", "[": "list", '"': "text", "t": "true/false", "f": "true/false"}
"""The type of JSON text by its first character; anything else is a number."""


def type_in_words(data_type: pa.DataType) -> str:
    """Return an Arrow type in words: the keys of an object, but not the types of their values."""
    if pa.types.is_struct(data_type):
        return "{" + ", ".join(item.name for item in data_type if item.name != KEYS) + "}"
    if pa.types.is_list(data_type):
        return f"list of {type_in_words(data_type.value_type)}"
    return {pa.string(): "text", JSON: "JSON", pa.bool_(): "true/false"}.get(data_type, str(data_type))


def first_value(columns: Sequence[pa.Array]) -> Any:
    """Return the first value that is not null, as plain data."""
    for column in columns:
        valid = column.drop_null() if not pa.types.is_null(column.type) else column.slice(0, 0)
        if len(valid):
            return to_display(decode_objects({"value": valid.slice(0, 1)})[0].get("value"))
    return None
