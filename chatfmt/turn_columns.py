"""Kernels on messages columns: take lists of turns apart and put them together, without a Python object per turn.

A messages column is a `list<struct>` (see `json_columns`). Its *turns* are the structs of `column.flatten()`, numbered
over the whole column. A null list has no turns, and stays null in every column made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import RowError, raise_first
from .escaped_texts import text_offsets
from .json_columns import (
    ABSENT,
    JSON,
    TEXT,
    booleans,
    decode_values,
    edit_keys,
    encode_column,
    encode_objects,
    integers,
    json_or_null,
    to_json,
)
from .schema import KEYS, TRAIN_FLAGS, train_flag

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


def to_bools(array: pa.Array) -> BoolArray:
    """A boolean column as numpy; null is False."""
    known = pc.fill_null(array, False) if array.null_count else array
    return np.asarray(known.to_numpy(zero_copy_only=False), np.bool_)


def contains(texts: pa.Array, *wanted: str) -> pa.BooleanArray:
    """Whether each text contains one that is `wanted`; RE2 finds it in a tenth of the time of `match_substring`."""
    return matches(texts, "|".join(map(re.escape, wanted)))


def matches(texts: pa.Array, pattern: str) -> pa.BooleanArray:
    """Whether a regular expression (of RE2, without anchors) is found in each text.

    All texts are searched as one first: where there is nothing to find, that takes a third of the time.
    """
    if texts.type == TEXT and not texts.null_count and len(texts):
        _, offsets, data = texts.buffers()
        ends = np.frombuffer(offsets, np.int32)[[texts.offset, texts.offset + len(texts)]]
        joined = pa.Array.from_buffers(TEXT, 1, [None, pa.py_buffer(ends), data])
        if not pc.match_substring_regex(joined, pattern)[0].as_py():
            return booleans(np.zeros(len(texts), np.bool_))
    return pc.match_substring_regex(texts, pattern)


def starting_with(texts: pa.StringArray, characters: bytes) -> pa.StringArray:
    """Return the texts that start with one of these ASCII characters."""
    offsets = text_offsets(texts)
    filled = np.flatnonzero(np.diff(offsets))
    is_one = np.zeros(256, np.bool_)
    is_one[list(characters)] = True
    first = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[filled]]
    return texts.take(integers(filled[is_one[first]]))


def lengths_of(column: pa.ListArray) -> IntArray:
    """The number of turns in each row; 0 where the list is null."""
    return np.asarray(pc.fill_null(column.value_lengths(), 0).to_numpy(zero_copy_only=False), np.int64)


def characters_of(texts: pa.StringArray) -> IntArray:
    """The length of each text in code points; 0 for null."""
    return np.asarray(pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False), np.int64)


def offsets_of(lengths: IntArray) -> IntArray:
    """The offset of the first turn of each row, then the end of the last row (rows + 1 numbers)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def marked_so_far(column: pa.ListArray, turns: BoolArray) -> IntArray:
    """Return how many marked turns a conversation has up to each of its turns, this one included."""
    total, lengths = offsets_of(np.asarray(turns, np.int64)), lengths_of(column)
    return total[1:] - np.repeat(total[offsets_of(lengths)[:-1]], lengths)


def marked_after(column: pa.ListArray, turns: BoolArray) -> IntArray:
    """Return how many marked turns a conversation has after each of its turns."""
    total, lengths = offsets_of(np.asarray(turns, np.int64)), lengths_of(column)
    return np.repeat(total[offsets_of(lengths)[1:]], lengths) - total[1:]


def rows_of_turns(column: pa.ListArray) -> IntArray:
    """The row of each turn."""
    return np.repeat(np.arange(len(column)), lengths_of(column))


def positions_of_turns(column: pa.ListArray) -> IntArray:
    """The position of each turn in its own conversation, from 0."""
    lengths = lengths_of(column)
    return ranges(np.zeros(len(lengths), np.int64), lengths)


def same_turns(one: pa.ListArray, other: pa.ListArray) -> bool:
    """Return whether two columns hold the same turns; a field that is null everywhere is like one that is absent."""
    if one.type == other.type:
        return bool(one.equals(other))
    fields = [fields_of(column.flatten()) for column in (one, other)]
    filled = [{name: values for name, values in each.items() if values.null_count < len(values)} for each in fields]
    is_alike = one.value_lengths().equals(other.value_lengths()) and filled[0].keys() == filled[1].keys()
    return is_alike and all(values.equals(filled[1][name]) for name, values in filled[0].items())


def refuse_turns(
    column: pa.ListArray, flags: pa.Array, error: Callable[[Any], RowError], about: pa.Array | None = None
) -> None:
    """Raise the errors of all rows with a turn whose flag is true, at the first of these turns.

    `error` makes that of the turns with one value of `about`, of which there is one for each turn.
    """
    turns = pc.indices_nonzero(flags).to_numpy()
    if not len(turns):
        return
    rows, first = np.unique(rows_of_turns(column)[turns], return_index=True)
    turns = turns[first]
    values = [None] * len(turns) if about is None else about.take(integers(turns)).to_pylist()
    alike = dict[tuple[Any, int], list[int]]()
    for row, *kind in zip(rows.tolist(), values, positions_of_turns(column)[turns].tolist(), strict=True):
        alike.setdefault(tuple(kind), []).append(row)
    errors = []
    for (value, position), some in alike.items():
        errors.append(error(value).of_rows(some))
        errors[-1].locate(message=position)
    raise_first(errors)


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """The numbers start, start + 1, … of each range, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths), np.int64)


def to_lists(items: pa.Array, lengths: IntArray, absent: pa.BooleanArray | None = None) -> pa.ListArray:
    """A list column of `items` cut into `lengths`; null where `absent` is true."""
    mask = absent if absent is not None and absent.true_count else None
    return pa.ListArray.from_arrays(integers(offsets_of(lengths).astype(np.int32)), items, mask=mask)


def with_turns(column: pa.ListArray, turns: pa.StructArray, lengths: IntArray | None = None) -> pa.ListArray:
    """The messages column with other turns: as many in each row as before, or `lengths`."""
    return to_lists(turns, lengths_of(column) if lengths is None else lengths, column.is_null())


def struct_of(fields: Mapping[str, pa.Array], absent: pa.BooleanArray | None = None) -> pa.StructArray:
    """Turns with these fields; null where `absent` is true."""
    mask = absent if absent is not None and absent.true_count else None
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields), mask=mask)


def fields_of(turns: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of turns by name."""
    return dict(zip([field.name for field in turns.type], turns.flatten(), strict=True))


def field(turns: pa.StructArray, name: str) -> pa.Array:
    """One field of turns; nulls where no turn has it."""
    return pc.struct_field(turns, name) if turns.type.get_field_index(name) >= 0 else pa.nulls(len(turns), TEXT)


def with_field(column: pa.ListArray, name: str, values: pa.Array) -> pa.ListArray:
    """The messages column with other values for one field of its turns (one value per turn)."""
    turns = column.flatten()
    return with_turns(column, struct_of({**fields_of(turns), name: values}, turns.is_null()))


def without_field(column: pa.ListArray, name: str) -> pa.ListArray:
    """The messages column without one field of its turns."""
    turns = column.flatten()
    fields = {key: values for key, values in fields_of(turns).items() if key != name}
    if KEYS in fields:
        fields[KEYS] = edit_keys(fields[KEYS], lambda keys: (key for key in keys if key != name))
    return with_turns(column, struct_of(fields, turns.is_null()))


def role_is(turns: pa.StructArray, *roles: str) -> BoolArray:
    """Mark the turns that have one of these roles."""
    role = field(turns, "role")
    if role.type == JSON:
        role = role.cast(TEXT)
        roles = tuple(f'"{name}"' for name in roles)
    if role.type != TEXT:
        return np.zeros(len(turns), np.bool_)
    return to_bools(pc.is_in(role, value_set=pa.array(roles, TEXT)))


def train_flags(turns: pa.StructArray) -> list[tuple[str, Any]]:
    """The key of each turn that says whether it is trained, and its value, as `schema.train_flag`; [] without any."""
    names = [name for name in TRAIN_FLAGS if turns.type.get_field_index(name) >= 0]
    columns = [decode_values(field(turns, name)) for name in names]
    keys = ({name: value for name, value in zip(names, values, strict=True) if value is not ABSENT}
            for values in zip(*columns, strict=True))  # fmt: skip
    found = list(map(train_flag, keys))
    return found if any(name for name, _ in found) else []


def untrained_answers(column: pa.ListArray) -> BoolArray:
    """Mark the assistant turns that are not trained: those with a flag of 0 or false."""
    turns = column.flatten()
    flags = train_flags(turns)
    off = [isinstance(value, (bool, int, float)) and not value for _, value in flags] or [False] * len(turns)
    return np.asarray(np.array(off, np.bool_) & role_is(turns, "assistant"), np.bool_)


def last_roles(column: pa.ListArray) -> list[str | None]:
    """The role of the last turn in each row; None in a row without turns."""
    lengths = lengths_of(column)
    last = integers(offsets_of(lengths)[1:] - 1, lengths == 0)
    found: list[str | None] = field(column.flatten(), "role").take(last).to_pylist()
    return found


def last_turns(column: pa.ListArray) -> BoolArray:
    """Mark the last turn of each row."""
    rows = rows_of_turns(column)
    return np.append(rows[1:] != rows[:-1], True)[: len(rows)]


def any_turn(column: pa.ListArray, turns: BoolArray) -> BoolArray:
    """Mark the rows that have one of the marked turns."""
    before = offsets_of(np.asarray(turns, np.int64))[offsets_of(lengths_of(column))]
    return np.asarray(before[1:] > before[:-1], np.bool_)


def pick_turns(column: pa.ListArray, keep: BoolArray) -> pa.ListArray:
    """The messages column with the marked turns only."""
    lengths = np.bincount(rows_of_turns(column)[keep], minlength=len(column)).astype(np.int64)
    return with_turns(column, column.flatten().filter(pa.array(keep)), lengths)


def replace_rows(column: pa.ListArray, rows: BoolArray, edited: Sequence[Sequence[Mapping[str, Any]]]) -> pa.ListArray:
    """The messages column with the conversations `edited` in the marked rows, one each, in order."""
    base = column.flatten()
    turns = concat_turns(base, encode_like(base.type, [turn for conversation in edited for turn in conversation]))
    lengths = lengths_of(column)
    starts = offsets_of(lengths)[:-1]
    lengths[rows] = [len(conversation) for conversation in edited]
    starts[rows] = len(base) + offsets_of(lengths[rows])[:-1]
    return with_turns(column, turns.take(pa.array(ranges(starts, lengths))), lengths)


def prepend(column: pa.ListArray, rows: BoolArray, turns: pa.StructArray) -> pa.ListArray:
    """The messages column with one turn more at the start of each marked row: the only one of `turns`, or one each."""
    base = column.flatten()
    lengths = lengths_of(column)
    first = len(base) + (np.zeros(int(rows.sum()), np.int64) if len(turns) == 1 else np.arange(len(turns)))
    order = np.insert(np.arange(len(base)), offsets_of(lengths)[:-1][rows], first)
    return with_turns(column, concat_turns(base, turns).take(pa.array(order)), lengths + rows)


def concat(first: pa.ListArray, second: pa.ListArray, *, null: Literal["both", "either"] = "both") -> pa.ListArray:
    """The turns of `first`, then those of `second`, row by row; null where both lists are, or either is.

    Fields come in the order of `first`, new ones after them.
    """
    absent = (pc.and_ if null == "both" else pc.or_)(first.is_null(), second.is_null())
    left, right = first.flatten(), second.flatten()
    lengths = np.stack([lengths_of(first), lengths_of(second)], axis=1)
    starts = np.stack([offsets_of(side)[:-1] for side in lengths.T], axis=1)
    starts[:, 1] += len(left)
    lengths[to_bools(absent)] = 0
    order = ranges(starts.ravel(), lengths.ravel())
    return to_lists(concat_turns(left, right).take(pa.array(order)), lengths.sum(axis=1), absent)


def stack(turns: Sequence[tuple[str, pa.StringArray]]) -> pa.ListArray:
    """A messages column with a turn for each (role, contents), in order; no turn where the content is null."""
    rows = len(turns[0][1])
    there = np.stack([to_bools(contents.is_valid()) for _, contents in turns], axis=1)
    row, kind = np.nonzero(there)
    contents = pa.concat_arrays([contents for _, contents in turns]).take(pa.array(kind * rows + row))
    roles = pa.array([role for role, _ in turns], TEXT).take(pa.array(kind))
    return to_lists(struct_of({"role": roles, "content": contents}), there.sum(axis=1))


def encode_like(type: pa.StructType, turns: Sequence[Mapping[str, Any]]) -> pa.StructArray:
    """Encode turns with fields in the order of `type`, new ones after them, `#keys` last if needed."""
    names = [item.name for item in type if item.name != KEYS]
    shape = {name: "" if type.field(name).type == TEXT else None for name in names}
    fields = {name: array.slice(1) for name, array in encode_objects([shape, *turns], turns=False).items()}
    if KEYS in fields and fields[KEYS].null_count == len(turns):
        del fields[KEYS]
    return struct_of(fields)


def concat_turns(first: pa.StructArray, second: pa.StructArray) -> pa.StructArray:
    """The turns of both arrays, with the fields of both."""
    return pa.concat_arrays(with_same_fields(first, second))


def with_same_fields(first: pa.StructArray, second: pa.StructArray) -> list[pa.StructArray]:
    """Both arrays with the fields of both, in the order of `first`; a field of two types becomes JSON in both."""
    if first.type == second.type:
        return [first, second]
    own, other = fields_of(first), fields_of(second)
    names = [name for name in dict.fromkeys((*own, *other)) if name != KEYS]
    names += [KEYS] if KEYS in own or KEYS in other else []
    missing = pa.nulls(len(first), pa.null()), pa.nulls(len(second), pa.null())
    pairs = {name: with_same_type(own.get(name, missing[0]), other.get(name, missing[1])) for name in names}
    return [
        struct_of({name: pair[side] for name, pair in pairs.items()}, turns.is_null())
        for side, turns in enumerate((first, second))
    ]


def with_same_type(one: pa.Array, other: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Two columns of one field with one type: their own where they agree, else JSON."""
    types = [column.type for column in (one, other) if column.null_count < len(column)]
    named = [column.type for column in (one, other) if not pa.types.is_null(column.type)]
    type = JSON if len(set(types)) > 1 else (types or named or [TEXT])[0]
    return _to_type(one, type), _to_type(other, type)


def _to_type(column: pa.Array, type: pa.DataType) -> pa.Array:
    if column.type == type:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), type)
    if column.type == TEXT:
        return json_or_null(column.to_pylist())
    return to_json(column)


def text_where_all_text(column: pa.ListArray) -> pa.ListArray:
    """The messages column with JSON content as text, if it holds nothing but text."""
    values = field(column.flatten(), "content")
    if values.type != JSON or not pc.all(pc.starts_with(values, '"'), min_count=0).as_py():
        return column
    return with_field(column, "content", encode_column(decode_values(values)))
