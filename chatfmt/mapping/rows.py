"""Rows of a source batch as Python data for templates and expressions; filter and explode rows."""

from __future__ import annotations

import re
from collections import abc
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RowError, map_rows
from ..field_path import FieldPath
from ..json_columns import (
    JSON,
    TEXT,
    decode_objects,
    decode_or_none,
    dumps,
    edit_keys,
    encode_column,
    encode_objects,
    loads,
    text_of_binary,
    text_of_bytes,
)
from ..schema import KEYS, ROW, SourceRow
from ..turn_columns import IntArray, fields_of, lengths_of, struct_of, with_same_type
from .names import ROW_NAME


def read_rows(batch: pa.RecordBatch, expression: str, *, nulls: bool = False) -> list[dict[str, Any]]:
    """Return the rows as Python data, with only the columns that `expression` names.

    If it names `row`, the rows have all columns, and the row itself under that name unless it is a column.
    A null is an absent key, as in JSON; with `nulls` it is None, as in Parquet and CSV.
    """
    words = set(re.findall(r"\w+", expression))
    is_read = batch.schema.names if ROW_NAME in words else {*words, KEYS}
    wanted = [name for name in batch.schema.names if name != ROW and name in is_read]
    if wanted in ([], [KEYS]):
        return [{} for _ in range(len(batch))]
    rows = _decode_rows({name: text_of_binary(batch.column(name)) for name in wanted})
    if nulls:
        rows = [{name: row.get(name) for name in wanted if name != KEYS} for row in rows]
    return [{ROW_NAME: row, **row} for row in rows] if ROW_NAME in words else rows


def _decode_rows(columns: dict[str, pa.Array]) -> list[dict[str, Any]]:
    """Decode objects whose `#keys` may name columns that are not in `columns`."""
    keys = columns.pop(KEYS, None)
    rows = decode_objects(columns)
    for row, own in zip(rows, keys.to_pylist() if keys is not None else (), strict=False):
        if own is not None:
            row.update((name, None) for name in loads(own) if name in columns and name not in row)
    return rows


def printable(rows: abc.Sequence[SourceRow]) -> list[dict[str, Any]]:
    """The rows without nulls, for which a template then prints nothing, and with bytes as the text that they are."""
    return [_printable(row) for row in rows]


def _printable(value: Any) -> Any:
    if isinstance(value, abc.Mapping):
        return {key: _printable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    text = text_of_bytes(value) if isinstance(value, bytes) else None
    return value if text is None else text


def where_mask(rows: abc.Sequence[SourceRow], keeps: abc.Callable[[SourceRow], Any]) -> pa.Array:
    """Mark the rows for which the expression is true.

    Raises RowError with the index of a row where it fails, or gives a text such as `false`, which would count as true.
    """

    def is_kept(row: SourceRow) -> bool:
        value = keeps(row)
        if isinstance(value, str) and value.strip().lower() in _FALSE:
            raise RowError(
                f"the value of --where is the text `{value}`, which would count as true",
                hint="write no braces, and compare text with text: `correct == 'true'`",
                code="expr.error",
            )
        return bool(value)

    return pa.array(map_rows(is_kept, rows), pa.bool_())


_FALSE = frozenset({"false", "f", "no", "n", "none", "null", "off", "0", "0.0"})
"""Texts that look false, and of which Jinja says that they are true."""


def render_rows(rows: abc.Sequence[SourceRow], render: abc.Callable[[SourceRow], str]) -> pa.StringArray:
    """Render a template over each row; raises RowError with the index of a row where it fails."""
    return pa.array(map_rows(render, rows), TEXT)


def label_rows(
    rows: abc.Sequence[SourceRow], render: abc.Callable[[SourceRow], str], needed: abc.Collection[str]
) -> pa.Array:
    """Render the label of each row, or a list of them where the expression reads lists that it cannot compare.

    labels: [0.9, 0.2]   with `labels >= 0.5`   →   ["True", "False"]

    Raises RowError for a row without a value in one of the columns that are `needed`.
    """

    def labels_of(row: SourceRow) -> Any:
        for name in sorted(needed):
            if row.get(name) in (None, ""):
                hint = "--on-error skip leaves such rows out"
                raise RowError(f"the label reads `{name}`, which has no value", code="expr.error", hint=hint)
        try:
            return render(row)
        except RowError:
            lists = {name: value for name, value in row.items() if isinstance(value, list)}
            if len(set(map(len, lists.values()))) != 1:
                raise
            steps = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
            return [render({**row, **step}) for step in steps]

    return encode_column(map_rows(labels_of, rows))


def explode(batch: pa.RecordBatch, path: FieldPath) -> tuple[pa.RecordBatch, IntArray]:
    """Make one row of each element of the list at `path`; also return the index of the row each came from.

        #row  topic  faqs                                   #row  topic  q    a
        0     tea    [{"q": "q1", "a": "a1"}, {"q": …}]  →  0     tea    q1   a1
        1     milk   []                                     0     tea    …    …

    The keys of an element are added to those of the row, and its values replace those of the same name; the exploded
    column is dropped, or replaced by elements that are not objects. A row without elements is dropped.
    """
    column = path.column(batch)
    lengths, elements = _elements(column)
    parents = np.repeat(np.arange(len(batch)), lengths)
    own = {name: batch.column(name).take(pa.array(parents)) for name in batch.schema.names if name != path.text}
    if not pa.types.is_struct(elements.type):
        return _batch({**own, path.text: elements}), parents
    inner = fields_of(elements)
    keys = _joined_keys(own, inner)
    inner |= {name: pc.coalesce(*with_same_type(inner[name], own[name])) for name in own if name in inner}
    return _batch({**own, **inner, **({KEYS: keys} if keys is not None else {})}), parents


def replaced_columns(batch: pa.RecordBatch, path: FieldPath) -> list[str]:
    """Return the columns of a batch that have other values in the rows that `explode` makes."""
    rows, parents = explode(batch, path)
    names = [name for name in rows.schema.names if name in batch.schema.names and name not in (path.text, KEYS)]
    before = batch.take(pa.array(parents))
    return [name for name in names if decode_or_none(before[name]) != decode_or_none(rows[name])]


def _elements(column: pa.Array) -> tuple[IntArray, pa.Array]:
    if pa.types.is_list(column.type):
        return lengths_of(column), column.flatten()
    values = decode_or_none(column) if column.type == JSON else [None] * len(column)
    lists = [value if isinstance(value, list) else [] for value in values]
    lengths = np.array([len(items) for items in lists], np.int64)
    items = [item for items in lists for item in items]
    fields = encode_objects(items) if items and all(isinstance(item, dict) for item in items) else {}
    return lengths, struct_of(fields) if fields else encode_column(items)


def _joined_keys(own: abc.Mapping[str, pa.Array], inner: abc.Mapping[str, pa.Array]) -> pa.Array | None:
    """The `#keys` of exploded rows: the keys of the row, then those of its element; None if neither has `#keys`."""
    if KEYS not in own and KEYS not in inner:
        return None
    sides = [_keys_of(columns) for columns in (own, inner)]
    joined = [list(dict.fromkeys([*first, *second])) for first, second in zip(*sides, strict=True)]
    return pa.array([dumps(keys) for keys in joined], TEXT)


def _keys_of(columns: abc.Mapping[str, pa.Array]) -> list[list[str]]:
    named = {name: column for name, column in columns.items() if name not in (ROW, KEYS)}
    present = {name: column.is_valid().to_pylist() for name, column in named.items()}
    length = len(next(iter(columns.values())))
    implied = [[name for name in named if present[name][index]] for index in range(length)]
    own = columns[KEYS].to_pylist() if KEYS in columns else [None] * length
    return [[name for name in loads(keys) if name in named] if keys else implied[i] for i, keys in enumerate(own)]


def _batch(columns: abc.Mapping[str, pa.Array]) -> pa.RecordBatch:
    ordered = {name: column for name, column in columns.items() if name != KEYS}
    if KEYS in columns:
        ordered[KEYS] = columns[KEYS]
    return pa.RecordBatch.from_arrays(list(ordered.values()), names=list(ordered))


def with_columns(batch: pa.RecordBatch, made: abc.Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with the columns of `made` added or replaced, also in `#keys`."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    if KEYS in columns:
        columns[KEYS] = edit_keys(columns[KEYS], lambda keys: dict.fromkeys([*keys, *made]))
    return _batch({**columns, **made})
