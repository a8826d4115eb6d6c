"""The one schema that all shards of a Parquet output share, merged from the types of every batch.

Text stays text. A JSON column whose values are all integers, all floating-point numbers or all booleans becomes a
column of that type; any other mixture, and every list or object, stays JSON text, so no value is changed to fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa

from ...json_columns import JSON, TEXT, is_turns
from ...schema import KEYS

Types = dict[str, pa.DataType]

_JSON_TYPES = {
    pa.bool_(): re.compile(r"true|false"),
    pa.int64(): re.compile(r"-?\d{1,18}"),
    pa.float64(): re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?"),
}
_INTEGER = re.compile(r"-?\d+")


def types_of(batch: pa.RecordBatch, *, typed: bool = False) -> Types:
    """Return the type of each column of an output batch; null for a column without values.

    Columns of a `typed` source (Parquet, Arrow) keep their types, whatever values they hold.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return {name: column.type if typed else type_of(column) for name, column in columns.items() if name != KEYS}


def type_of(column: pa.Array) -> pa.DataType:
    """Return the narrowest type that holds every value of the column exactly."""
    if column.null_count == len(column):
        return pa.null()
    if column.type == JSON:
        return json_type(text for text in column.to_pylist() if text not in (None, "null"))
    if is_turns(column.type):
        fields = {field.name: field.type for field in column.type.value_type if field.name != KEYS}
        return pa.list_(pa.struct(list(fields.items())))
    return column.type


def json_type(texts: Iterable[str]) -> pa.DataType:
    """Return int64, double or bool if every JSON text is such a value, otherwise JSON; null without texts."""
    found: pa.DataType = pa.null()
    for text in texts:
        data_type = next((data_type for data_type, pattern in _JSON_TYPES.items() if pattern.fullmatch(text)), JSON)
        if data_type == pa.float64() and _INTEGER.fullmatch(text):  # an integer that int64 may not hold
            data_type = JSON
        found = merge_type(found, data_type)
        if found == JSON:
            return found
    return found


def merge_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the narrowest type that holds the values of both types."""
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if is_turns(first) and is_turns(second):
        fields = merge_types(
            *({field.name: field.type for field in data_type.value_type} for data_type in (first, second))
        )
        return pa.list_(pa.struct(list(fields.items())))
    return JSON


def merge_types(first: Mapping[str, pa.DataType], second: Mapping[str, pa.DataType]) -> Types:
    """Return the columns of both with their merged types, in order of first appearance."""
    names = dict.fromkeys((*first, *second))
    return {name: merge_type(first.get(name, pa.null()), second.get(name, pa.null())) for name in names}


def schema_of(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema of the output; columns and fields without any value become text."""
    return pa.schema([(name, _null_to_text(data_type)) for name, data_type in types.items()])


def _null_to_text(data_type: pa.DataType) -> pa.DataType:
    if is_turns(data_type):
        return pa.list_(pa.struct([(field.name, _null_to_text(field.type)) for field in data_type.value_type]))
    return TEXT if pa.types.is_null(data_type) else data_type


def cast_to_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with its JSON columns parsed as the numbers and booleans that the schema asks for."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        data_type = schema.field(name).type if name in schema.names else column.type
        columns.append(_parse_column(column, data_type) if column.type == JSON and data_type != JSON else column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _parse_column(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    texts = [None if text == "null" else text for text in column.to_pylist()]
    return pa.array(texts, TEXT).cast(data_type)
