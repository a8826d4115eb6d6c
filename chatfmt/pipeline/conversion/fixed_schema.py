"""Give every output batch the columns and types of the first, for engines that know a schema before the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from ...errors import Location, UsageError, located
from ...json_columns import JSON, TEXT, is_turns, json_array
from ...schema import KEYS
from ...turn_columns import IntArray, fields_of, rows_of_turns, struct_of, with_turns
from .output_schema import Types


def types_of_all(batches: Iterable[pa.RecordBatch]) -> Types:
    """Return the columns of all batches with types that hold the values of each, in order of first appearance."""
    types = Types()
    for batch in batches:
        for field in batch.schema:
            types[field.name] = _merged(types.get(field.name, pa.null()), field.type)
    return types


def _merged(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the type that holds values of both, and the first one where there is none."""
    if pa.types.is_null(first):
        return _without_keys(second)
    if is_turns(first) and is_turns(second):
        one, other = ({field.name: field.type for field in type.value_type} for type in (first, second))
        names = [name for name in dict.fromkeys((*one, *other)) if name != KEYS]
        fields = [(name, _merged(one.get(name, pa.null()), other.get(name, pa.null()))) for name in names]
        return pa.list_(pa.struct(fields))
    return JSON if {first, second} == {JSON, TEXT} else first


def _without_keys(type: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([field for field in type.value_type if field.name != KEYS])) if is_turns(type) else type


def empty_batch(types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return a batch with these columns and no rows."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, type) for type in types.values()], names=list(types))


def with_types(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return the batch with exactly these columns; raises UsageError for columns and values without a place."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in columns.keys() - types.keys():
        raise _no_place(name, columns[name])
    arrays = [_with_type(columns[name], type, name) if name in columns else pa.nulls(len(batch), type)
              for name, type in types.items()]  # fmt: skip
    return pa.RecordBatch.from_arrays(arrays, names=list(types))


def _with_type(column: pa.Array, type: pa.DataType, name: str) -> pa.Array:
    """Return a column with a type of `types_of_all`."""
    if column.type == type:
        return column
    if is_turns(column.type) and is_turns(type):
        return _turns_with_type(column, type, name)
    if column.type == TEXT and type == JSON:
        return json_array(column.to_pylist(), column.is_valid().to_pylist())
    if column.null_count == len(column):
        return pa.nulls(len(column), type)
    if {column.type, type} & {JSON}:  # JSON text would be taken for text
        raise _no_place(name, column)
    try:
        return column.cast(type)
    except pa.ArrowException:
        raise _no_place(name, column) from None


def _turns_with_type(column: pa.ListArray, type: pa.ListType, name: str) -> pa.ListArray:
    turns = column.flatten()
    found = {key: values for key, values in fields_of(turns).items() if key != KEYS}
    wanted = {field.name: field.type for field in type.value_type}
    for key in found.keys() - wanted.keys():
        if found[key].null_count < len(turns):
            raise _no_place(f"{name}[].{key}", found[key], rows_of_turns(column))
    with located(rows=rows_of_turns(column)):
        fields = {
            key: _with_type(found[key], each, f"{name}[].{key}") if key in found else pa.nulls(len(turns), each)
            for key, each in wanted.items()
        }
    return with_turns(column, struct_of(fields, turns.is_null()))


def _no_place(name: str, column: pa.Array, rows: Sequence[int] | IntArray | None = None) -> UsageError:
    """Return the error for the first value of a column; `rows` are the rows of its values, by default their places."""
    first = column.is_valid().index(True).as_py()
    return UsageError(
        f"`{name}` has no place in the schema that the sample decided",
        hint="give `Converter` a sample that has such rows",
        at=Location(row=max(0, first if rows is None else int(rows[first]))),
        code="converter.schema",
    )
