"""Kernels over messages columns: lists of turns taken apart and put together without a Python object a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, schema
from ...errors import Location


def lengths_of(lists: pa.ListArray) -> pa.Array:
    """How many turns each row has; null where the row has no list."""
    return lists.value_lengths()


def offsets_of(lengths: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Where each row's turns start in the flattened turns, and the end of the last (rows + 1 numbers)."""
    counts = lengths.fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def place(lengths: pa.Array, turn: int) -> Location:
    """The row, and the message in it, of a turn that is numbered over the whole batch."""
    offsets = offsets_of(lengths)
    row = int(np.searchsorted(offsets, turn, side="right")) - 1
    return Location(row=row, message=turn - int(offsets[row]))


def to_lists(lengths: pa.Array, turns: pa.StructArray) -> pa.ListArray:
    """A messages column of flattened `turns`; rows whose length is null stay null."""
    offsets = json_columns.integers(offsets_of(lengths))
    return pa.ListArray.from_arrays(offsets, turns, mask=lengths.is_null() if lengths.null_count else None)


def struct(fields: Mapping[str, pa.Array]) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def fields_of(turns: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of flattened turns by name."""
    return dict(zip([field.name for field in turns.type], turns.flatten(), strict=True))


def numbers_in_row(lengths: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """For each flattened turn its number in its own conversation."""
    offsets = offsets_of(lengths)
    counts = np.diff(offsets)
    numbers: np.ndarray[tuple[int], np.dtype[np.int32]] = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    return numbers


def stack(turns: Sequence[tuple[str, pa.StringArray]]) -> pa.ListArray:
    """A messages column with one turn for each (role, content) in order; a null content leaves the turn out."""
    rows = len(turns[0][1])
    there = np.stack([content.is_valid().to_numpy(zero_copy_only=False) for _, content in turns], axis=1)
    row, kind = np.nonzero(there)
    contents = pa.concat_arrays([content for _, content in turns]).take(pa.array(kind * rows + row))
    roles = pa.array([role for role, _ in turns], json_columns.TEXT).take(pa.array(kind))
    return to_lists(pa.array(there.sum(axis=1), pa.int32()), struct({"role": roles, "content": contents}))


def prepend(first: pa.StringArray, role: str, lists: pa.ListArray) -> pa.ListArray:
    """The messages column with a turn of `role` put before each row's turns where `first` is not null."""
    extra = pc.if_else(lists.is_valid(), first, pa.scalar(None, json_columns.TEXT)).drop_null()
    if not len(extra):
        return lists
    own = fields_of(lists.flatten())
    wanted = {"role": pa.array([role] * len(extra), json_columns.TEXT), "content": extra}
    fields = {
        name: pa.concat_arrays([values, _like(wanted.get(name), values.type, len(extra))])
        for name, values in own.items()
    }
    return _with_first(lists, first, struct(fields))


def _like(values: pa.Array | None, type: pa.DataType, count: int) -> pa.Array:
    """Text as values of a field: as JSON where the field is JSON, nulls where the turn lacks the field."""
    if values is None:
        return pa.nulls(count, type)
    return json_columns.json_array(values.to_pylist()) if type == json_columns.JSON else values


def _with_first(lists: pa.ListArray, first: pa.Array, turns: pa.StructArray) -> pa.ListArray:
    """Lists of `turns`, which are the flattened turns of `lists` and then one for each row that gets a `first`."""
    lengths = lengths_of(lists)
    gets = first.is_valid().to_numpy(zero_copy_only=False) & lists.is_valid().to_numpy(zero_copy_only=False)
    starts = offsets_of(lengths)
    old = np.arange(starts[-1])
    order = np.insert(old, starts[:-1][gets], starts[-1] + np.arange(gets.sum()))
    longer = pc.add(lengths, pa.array(gets.astype(np.int32)))
    return to_lists(longer, turns.take(pa.array(order)))


def concat(first: pa.ListArray, second: pa.ListArray) -> pa.ListArray:
    """Each row's turns of `first` and then of `second`; a null list counts as empty, null where both are."""
    left, right = aligned(first.flatten(), second.flatten())
    a, b = offsets_of(lengths_of(first)), offsets_of(lengths_of(second))
    n, m = np.diff(a), np.diff(b)
    order = np.empty(a[-1] + b[-1], np.int64)
    start = (a + b)[:-1]
    order[np.repeat(start - a[:-1], n) + np.arange(a[-1])] = np.arange(a[-1])
    order[np.repeat(start + n - b[:-1], m) + np.arange(b[-1])] = a[-1] + np.arange(b[-1])
    there = pc.or_(first.is_valid(), second.is_valid())
    lengths = pc.if_else(there, pa.array(n + m, pa.int32()), pa.scalar(None, pa.int32()))
    return to_lists(lengths, pa.concat_arrays([left, right]).take(pa.array(order)))


def aligned(left: pa.StructArray, right: pa.StructArray) -> tuple[pa.StructArray, pa.StructArray]:
    """Both sets of turns with the same fields: text becomes JSON text where the other side has JSON."""
    a, b = fields_of(left), fields_of(right)
    names = [name for name in dict.fromkeys((*a, *b)) if name != schema.KEYS]
    names += [schema.KEYS] if schema.KEYS in a or schema.KEYS in b else []
    types = {name: _joint([side[name].type for side in (a, b) if name in side]) for name in names}
    return _as(a, types, len(left)), _as(b, types, len(right))


def _joint(types: list[pa.DataType]) -> pa.DataType:
    return json_columns.JSON if json_columns.JSON in types else types[0]


def _as(fields: Mapping[str, pa.Array], types: Mapping[str, pa.DataType], count: int) -> pa.StructArray:
    if not types:
        return pa.nulls(count, pa.struct([("role", json_columns.TEXT), ("content", json_columns.TEXT)]))
    return struct({name: _to_type(fields.get(name), type, count) for name, type in types.items()})


def _to_type(values: pa.Array | None, type: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, type)
    if values.type == type:
        return values
    texts = values.to_pylist()
    return json_columns.json_array(texts, [text is not None for text in texts])
