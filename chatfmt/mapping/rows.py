"""Rows of a source batch: as plain data for expressions, kept or left out by one, exploded into one row an element."""

from __future__ import annotations

import re
from collections import abc
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Location, RowError
from ..field_path import FieldPath
from ..json_columns import JSON, TEXT, decode_objects, dumps, encode_objects, loads, without_nulls
from ..schema import KEYS, ROW
from ..turn_columns import lengths_of
from .names import ROW_NAME

Row = abc.Mapping[str, Any]


def read_rows(batch: pa.RecordBatch, expression: str, *, nulls: bool = False) -> list[dict[str, Any]]:
    """The rows as plain data, with the columns whose names stand in `expression`.

    Where it says `row`, all columns, and the row itself under that name, unless a column is called so.

    A null is an absent key, as it is in JSON; with `nulls` it is None, as it is in Parquet and CSV.
    """
    words = set(re.findall(r"\w+", expression))
    is_read = batch.schema.names if ROW_NAME in words else {*words, KEYS}
    wanted = [name for name in batch.schema.names if name != ROW and name in is_read]
    if wanted in ([], [KEYS]):
        return [{} for _ in range(len(batch))]
    rows = _own_rows({name: batch.column(name) for name in wanted})
    if nulls:
        rows = [{name: row.get(name) for name in wanted if name != KEYS} for row in rows]
    return [{ROW_NAME: row, **row} for row in rows] if ROW_NAME in words else rows


def _own_rows(columns: dict[str, pa.Array]) -> list[dict[str, Any]]:
    """As `decode_objects`, where `#keys` may name columns that were not asked for."""
    keys = columns.pop(KEYS, None)
    rows = decode_objects(columns)
    for row, own in zip(rows, keys.to_pylist() if keys is not None else (), strict=False):
        if own is not None:
            row.update((name, None) for name in loads(own) if name in columns and name not in row)
    return rows


def printable(rows: abc.Sequence[Row]) -> list[dict[str, Any]]:
    """The rows without their nulls, so that a template prints nothing for them and never `None`."""
    return [without_nulls(dict(row)) for row in rows]


def where_mask(rows: abc.Sequence[Row], keeps: abc.Callable[[Row], Any]) -> pa.Array:
    """Which rows the expression is true for; raises RowError with the row's index where it fails."""
    return pa.array([bool(_call(keeps, row, index)) for index, row in enumerate(rows)], pa.bool_())


def render_rows(rows: abc.Sequence[Row], render: abc.Callable[[Row], str]) -> pa.StringArray:
    """The text that a template makes of each row; raises RowError with the row's index where it fails."""
    return pa.array([_call(render, row, index) for index, row in enumerate(rows)], TEXT)


def _call(function: abc.Callable[[Row], Any], row: Row, index: int) -> Any:
    try:
        return function(row)
    except RowError as error:
        if error.at.row is None:
            error.at = Location(row=index)
        raise


def explode(batch: pa.RecordBatch, path: FieldPath) -> tuple[pa.RecordBatch, np.ndarray[Any, Any]]:
    """One row for each element of the list that `path` leads to, and the index of the row each came from.

        #row  topic  faqs                                   #row  topic  q    a
        0     tea    [{"q": "q1", "a": "a1"}, {"q": …}]  →  0     tea    q1   a1
        1     milk   []                                     0     tea    …    …

    The keys of an element stand beside the row's own, and win over one of the same name; the exploded column itself
    goes. Elements that are not objects take its place. A row without elements gives no row.
    """
    column = path.column(batch)
    lengths, elements = _elements(column)
    parents = np.repeat(np.arange(len(batch)), lengths)
    own = {name: batch.column(name).take(pa.array(parents)) for name in batch.schema.names if name != path.text}
    if not pa.types.is_struct(elements.type):
        return _batch({**own, path.text: elements}), parents
    inner = dict(zip([field.name for field in elements.type], elements.flatten(), strict=True))
    keys = _joined_keys(own, inner)
    return _batch({**own, **inner, **({KEYS: keys} if keys is not None else {})}), parents


def _elements(column: pa.Array) -> tuple[np.ndarray[Any, Any], pa.Array]:
    if pa.types.is_list(column.type):
        return lengths_of(column), column.flatten()
    values = [row.get("") for row in decode_objects({"": column})] if column.type == JSON else [None] * len(column)
    lists = [value if isinstance(value, list) else [] for value in values]
    lengths = np.array([len(items) for items in lists], np.int64)
    items = [item for items in lists for item in items]
    fields = encode_objects(items) if items and all(isinstance(item, dict) for item in items) else {}
    if fields:
        return lengths, pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    plain = encode_objects([{"": item} for item in items]).get("")
    return lengths, pa.nulls(0, TEXT) if plain is None else plain


def _joined_keys(own: abc.Mapping[str, pa.Array], inner: abc.Mapping[str, pa.Array]) -> pa.Array | None:
    """The `#keys` of exploded rows: the row's own keys, then those of its element; None where neither has them."""
    if KEYS not in own and KEYS not in inner:
        return None
    sides = [_keys_of(columns) for columns in (own, inner)]
    joined = [list(dict.fromkeys([*first, *second])) for first, second in zip(*sides, strict=True)]
    return pa.array([dumps(keys) for keys in joined], TEXT)


def _keys_of(columns: abc.Mapping[str, pa.Array]) -> list[list[str]]:
    named = {name: column for name, column in columns.items() if name not in (ROW, KEYS)}
    present = {name: column.is_valid().to_pylist() for name, column in named.items()}
    length = len(next(iter(columns.values())))
    implied = [[name for name in named if present[name][place]] for place in range(length)]
    own = columns[KEYS].to_pylist() if KEYS in columns else [None] * length
    return [[name for name in loads(keys) if name in named] if keys else implied[i] for i, keys in enumerate(own)]


def _batch(columns: abc.Mapping[str, pa.Array]) -> pa.RecordBatch:
    ordered = {name: column for name, column in columns.items() if name != KEYS}
    if KEYS in columns:
        ordered[KEYS] = columns[KEYS]
    return pa.RecordBatch.from_arrays(list(ordered.values()), names=list(ordered))


def with_columns(batch: pa.RecordBatch, made: abc.Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with the columns that were made, in place of any of the same name; `#keys` names them too."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    if KEYS in columns:
        own = [None if keys is None else [*loads(keys), *made] for keys in columns[KEYS].to_pylist()]
        columns[KEYS] = pa.array([None if keys is None else dumps(list(dict.fromkeys(keys))) for keys in own], TEXT)
    return _batch({**columns, **made})
