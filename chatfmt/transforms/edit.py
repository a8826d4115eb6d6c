"""How a transform touches a messages column: only the rows and fields it concerns, everything else as it lies.

Columnar where a kernel can say it (`with_field`, `pick_turns`), in Python for the rows that need it (`edit_rows`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, decode_conversations, encode_objects, is_turns, json_array, loads, to_json
from ..schema import CONVERSATION_COLUMNS, KEYS

Changed = tuple[pa.RecordBatch, Counter[str]]
Conversation = list[dict[str, Any]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

HEADS = ("messages", "prompt", "chosen", "rejected")
"""Columns in which a conversation may begin; `chosen` and `rejected` only where the row has no prompt."""
TAILS = ("messages", "completion", "chosen", "rejected")
"""Columns with which a conversation may end."""


def message_columns(batch: pa.RecordBatch, names: Sequence[str] = CONVERSATION_COLUMNS) -> Iterator[str]:
    """The names of those messages columns that the batch has."""
    for name in names:
        if name in batch.schema.names and is_turns(batch.schema.field(name).type):
            yield name


def heads(batch: pa.RecordBatch) -> Iterator[tuple[str, Mask]]:
    """The columns in which conversations begin, each with the rows that begin there."""
    prompted = np.zeros(len(batch), np.bool_)
    if "prompt" in batch.schema.names:
        prompted = flags(batch.column("prompt").is_valid())
    for name in message_columns(batch, HEADS):
        present = flags(batch.column(name).is_valid())
        yield name, present & ~prompted if name in ("chosen", "rejected") else present


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """The batch with this column in place of the one of its name, or as the last one."""
    place = batch.schema.get_field_index(name)
    if place < 0:
        return batch.append_column(name, column)
    return batch.set_column(place, name, column)


def flags(array: pa.Array) -> Mask:
    """A boolean array as numpy; null is False."""
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), np.bool_)


def lengths_of(column: pa.ListArray) -> Numbers:
    """The number of turns of each row; 0 where the row has none or is null."""
    return np.asarray(pc.fill_null(column.value_lengths(), 0).to_numpy(zero_copy_only=False), np.int64)


def rows_of_turns(column: pa.ListArray) -> Numbers:
    """The row of each turn of `column.flatten()`."""
    return np.repeat(np.arange(len(column)), lengths_of(column))


def field(turns: pa.StructArray, name: str) -> pa.Array:
    """One field of flattened turns; nulls where no turn has it."""
    return pc.struct_field(turns, name) if turns.type.get_field_index(name) >= 0 else pa.nulls(len(turns), TEXT)


def role_is(turns: pa.StructArray, *roles: str) -> Mask:
    """Which turns have one of these roles."""
    role = field(turns, "role")
    if role.type == JSON:
        role = role.cast(TEXT)
        roles = tuple(f'"{name}"' for name in roles)
    if role.type != TEXT:
        return np.zeros(len(turns), np.bool_)
    return flags(pc.is_in(role, value_set=pa.array(roles, TEXT)))


def any_turn(column: pa.ListArray, turns: Mask) -> Mask:
    """Which rows have one of these turns."""
    found = np.zeros(len(column), np.bool_)
    found[rows_of_turns(column)[turns]] = True
    return found


def list_of(column: pa.ListArray, lengths: Numbers, turns: pa.StructArray) -> pa.ListArray:
    """A messages column of the same rows: `turns` cut into `lengths`, null where `column` is."""
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(ends, turns, mask=column.is_null() if column.null_count else None)


def with_field(column: pa.ListArray, name: str, values: pa.Array) -> pa.ListArray:
    """The messages column with other values for one field of its turns (one value a flattened turn)."""
    turns = column.flatten()
    names = [item.name for item in turns.type]
    arrays = [values if item == name else array for item, array in zip(names, turns.flatten(), strict=True)]
    mask = turns.is_null() if turns.null_count else None
    return list_of(column, lengths_of(column), pa.StructArray.from_arrays(arrays, names=names, mask=mask))


def pick_turns(column: pa.ListArray, keep: Mask) -> pa.ListArray:
    """The messages column with only those turns."""
    lengths = np.bincount(rows_of_turns(column)[keep], minlength=len(column)).astype(np.int64)
    return list_of(column, lengths, column.flatten().filter(pa.array(keep)))


def edit_rows(
    column: pa.ListArray, rows: Mask, change: Callable[[Conversation], Conversation]
) -> tuple[pa.ListArray, Mask]:
    """The column with `change` applied to those rows, and the rows that differ from what they were.

    All other rows keep their bytes, and their types unless a field gets a value that its type cannot hold.
    """
    places = np.flatnonzero(rows)
    before = decode_conversations(column.take(pa.array(places)))
    after = [None if turns is None else change(turns) for turns in before]
    differs = np.array([new != old for new, old in zip(after, before, strict=True)], np.bool_)
    changed = np.zeros(len(column), np.bool_)
    changed[places[differs]] = True
    edited = [new for new, differs_ in zip(after, differs, strict=True) if differs_ and new is not None]
    return (replace_rows(column, changed, edited) if edited else column), changed


def replace_rows(column: pa.ListArray, rows: Mask, edited: Sequence[Conversation]) -> pa.ListArray:
    """The column with the conversations `edited` at those rows, one each in order."""
    base = column.flatten()
    first, second = unified(base, encode_like(base.type, [turn for turns in edited for turn in turns]))
    lengths = lengths_of(column)
    starts = np.cumsum(lengths) - lengths
    lengths[rows] = [len(turns) for turns in edited]
    new_starts = np.cumsum(lengths[rows]) - lengths[rows] + len(base)
    starts[rows] = new_starts
    return list_of(column, lengths, pa.concat_arrays([first, second]).take(pa.array(ranges(starts, lengths))))


def ranges(starts: Numbers, lengths: Numbers) -> Numbers:
    """The numbers start, start + 1, … of each range, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths), np.int64)


def encode_like(type: pa.StructType, turns: Sequence[Mapping[str, Any]]) -> pa.StructArray:
    """Turns as a struct array whose fields come in the order of `type`, new ones after them, `#keys` last if needed."""
    names = [item.name for item in type if item.name != KEYS]
    shape = {name: "" if type.field(name).type == TEXT else None for name in names}
    fields = encode_objects([shape, *turns], turns=False)
    columns = {name: array.slice(1) for name, array in fields.items()}
    if KEYS in columns and columns[KEYS].null_count == len(turns):
        del columns[KEYS]
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def unified(first: pa.StructArray, second: pa.StructArray) -> tuple[pa.StructArray, pa.StructArray]:
    """Both arrays with the fields of both; a field of two types becomes JSON in both."""
    names = [item.name for item in first.type] + [
        item.name for item in second.type if first.type.get_field_index(item.name) < 0
    ]
    names = [name for name in names if name != KEYS] + [name for name in names if name == KEYS]
    sides = [[_field_or_null(turns, name) for name in names] for turns in (first, second)]
    pairs = [same_type(one, other) for one, other in zip(*sides, strict=True)]
    return _struct(names, [one for one, _ in pairs], first), _struct(names, [other for _, other in pairs], second)


def _struct(names: Sequence[str], columns: Sequence[pa.Array], like: pa.StructArray) -> pa.StructArray:
    mask = like.is_null() if like.null_count else None
    return pa.StructArray.from_arrays(list(columns), names=list(names), mask=mask)


def _field_or_null(turns: pa.StructArray, name: str) -> pa.Array:
    return pc.struct_field(turns, name) if turns.type.get_field_index(name) >= 0 else pa.nulls(len(turns), pa.null())


def same_type(one: pa.Array, other: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Two columns of one field with one type between them: their own where they agree, else JSON."""
    types = [column.type for column in (one, other) if column.null_count < len(column)]
    named = [column.type for column in (one, other) if not pa.types.is_null(column.type)]
    type = JSON if len(set(types)) > 1 else (types or named or [TEXT])[0]
    return _as(one, type), _as(other, type)


def _as(column: pa.Array, type: pa.DataType) -> pa.Array:
    if column.type == type:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), type)
    if column.type == TEXT:
        return json_array(column.to_pylist(), column.is_valid().to_pylist())
    return to_json(column)


def text_where_all_text(column: pa.ListArray, name: str) -> pa.ListArray:
    """The messages column with a JSON field as text, where it holds nothing but text by now."""
    values = field(column.flatten(), name)
    if values.type != JSON or not pc.all(pc.starts_with(values, '"'), min_count=0).as_py():
        return column
    from_json = encode_objects([{} if text is None else {"": loads(text)} for text in values.to_pylist()])
    return with_field(column, name, from_json.get("", pa.nulls(len(values), TEXT)))
