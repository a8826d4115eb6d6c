"""Columns of media: a list per row of paths (text) or of `struct<bytes, path>` (MEDIUM), and how to take them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import (
    ABSENT,
    JSON,
    MEDIUM,
    TEXT,
    decode_values,
    is_turns,
    json_array,
    loads,
    text_to_medium,
    to_json,
)
from ..schema import MEDIA
from ..turn_columns import BoolArray, IntArray, lengths_of, offsets_of, struct_of, to_bools, to_lists
from .parts import KIND_OF, PART_OF


class ColumnIndex(int):
    """The index of a medium in the list that the source's own column has in a row."""


def media_lists(column: pa.Array) -> pa.ListArray:
    """Return a column of a source as a list of media per row, empty where a row has none."""
    is_list = pa.types.is_list(column.type)
    items = column.flatten() if is_list else column
    lengths = lengths_of(column) if is_list else np.ones(len(column), np.int64)
    if pa.types.is_binary(items.type):
        items = stored(items, pa.nulls(len(items), TEXT))
    elif is_stored(items.type):
        items = stored(pc.struct_field(items, "bytes"), pc.struct_field(items, "path"))
    elif items.type != TEXT or pc.any(pc.starts_with(items, "[")).as_py():
        return _lists_of_values(column)
    present = pc.not_equal(items, "").fill_null(False) if items.type == TEXT else items.is_valid()
    rows = np.repeat(np.arange(len(column)), lengths)[to_bools(present)]
    return to_lists(items.filter(present), np.bincount(rows, minlength=len(column)).astype(np.int64))


def is_stored(kind: pa.DataType) -> bool:
    """Return whether media of a type are `struct<bytes, path>`, in any order."""
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def stored(data: pa.Array, paths: pa.Array) -> pa.StructArray:
    """Return media of these bytes and paths; null where both are."""
    absent = pc.and_(data.is_null(), paths.is_null())
    return struct_of({"bytes": data.cast(pa.binary()), "path": paths.cast(TEXT)}, absent)


def by_value(media: pa.Array) -> pa.StructArray:
    """Return paths as MEDIUM without bytes; media that are such already stay as they are."""
    return media if media.type == MEDIUM else stored(pa.nulls(len(media), pa.binary()), media)


def _lists_of_values(column: pa.Array) -> pa.ListArray:
    """Return media that are JSON: text, lists of text, objects with a path or a URL."""
    rows = [_listed(value) for value in decode_values(column)]
    items = [_reference(item) for row in rows for item in row if item]
    lengths = [sum(1 for item in row if item) for row in rows]
    return to_lists(media_array(items), np.array(lengths, np.int64))


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = loads(value)
        except ValueError:
            return [value]
    return [] if value is ABSENT or value is None else value if isinstance(value, list) else [value]


def _reference(value: Any) -> Any:
    """Return the path or URL of an object that has nothing else; any other value as it is."""
    if isinstance(value, Mapping):
        filled = {key: item for key, item in value.items() if item is not None}
        if len(filled) == 1 and (path := filled.get("path") or filled.get("url")):
            return path
    return value


def media_array(media: Sequence[Any]) -> pa.Array:
    """Return media as text, as MEDIUM if bytes are among them, or as JSON if one is a list (the frames of a video)."""
    if not all(isinstance(item, str) for item in media):
        return json_array(media)
    decoded = [text_to_medium(item) for item in media]
    if not any(decoded):
        return pa.array(media, TEXT)
    pairs = zip(decoded, media, strict=True)
    return pa.array([medium or {"bytes": None, "path": path} for medium, path in pairs], MEDIUM)


def with_media(lists: pa.ListArray | None, rows: BoolArray, media: Sequence[Sequence[Any]]) -> pa.ListArray:
    """Return a column of media with other media in the marked rows: a `ColumnIndex` into its list, or a path or URL.

    The rows that are not marked have none.
    """
    inline = media_array([item for row in media for item in row if not isinstance(item, ColumnIndex)])
    base, inline = (inline[:0], inline) if lists is None else _same_type(lists.flatten(), inline)
    starts = offsets_of(np.zeros(len(rows), np.int64) if lists is None else lengths_of(lists))[:-1]
    next_inline = iter(range(len(base), len(base) + len(inline)))
    indices = [
        start + item if isinstance(item, ColumnIndex) else next(next_inline)
        for start, row in zip(starts[rows].tolist(), media, strict=True)
        for item in row
    ]
    lengths: IntArray = np.zeros(len(rows), np.int64)
    lengths[rows] = [len(row) for row in media]
    values = pa.concat_arrays([base, inline]) if len(inline) else base
    if indices != list(range(len(values))):
        values = values.take(pa.array(indices, pa.int64()))
    return to_lists(values, lengths)


def _same_type(first: pa.Array, second: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return media of two types as one: paths become stored media without bytes, anything else JSON."""
    if first.type == second.type or not len(second):
        return first, second.cast(first.type) if len(second) else first[:0]
    if {first.type, second.type} == {MEDIUM, TEXT}:
        return by_value(first), by_value(second)
    return (first if first.type == JSON else to_json(first)), (second if second.type == JSON else to_json(second))


def mentioned(batches: Sequence[pa.RecordBatch]) -> tuple[str, ...]:
    """Return the columns of media that content parts in these source batches need, such as `images`."""
    kinds = {kind for batch in batches for column in batch.columns for kind in _kinds(column)}
    return tuple(name for name, kind in MEDIA.items() if kind in kinds)


def _kinds(column: pa.Array) -> Iterator[str]:
    """Yield the kinds of media in turns: those of JSON content, and the keys of parts in Arrow structs."""
    if column.type == TEXT:
        yield from _kinds_of_lists(column)
    if not is_turns(column.type):
        return
    items = column.flatten()
    for index, field in enumerate(column.type.value_type):
        if field.type == JSON:
            yield from _kinds_of_lists(items.field(index))
        elif is_turns(field.type):
            yield from (kind for key in field.type.value_type if (kind := KIND_OF.get(key.name)))


def _kinds_of_lists(texts: pa.Array) -> Iterator[str]:
    lists = texts.filter(pc.starts_with(texts, "["))
    return (kind for kind, pattern in PART_OF.items() if pc.any(pc.match_substring_regex(lists, pattern)).as_py())
