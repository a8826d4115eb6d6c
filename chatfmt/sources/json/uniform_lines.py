"""Read JSON Lines whose objects all have one shape with `pyarrow.json`, a whole block at once: the fast path.

The shape is that of the first line: an object whose values are strings or lists of objects (turns) with string values.
Given that schema, `pyarrow.json` rejects other keys, duplicate keys, other types, lone surrogates and control
characters. It silently accepts invalid UTF-8, missing and null keys, another order of keys, and lines that do not hold
one object each; those are checked here. In doubt the block is left to the strict parser, so that whatever is accepted
is what the strict parser accepts, with the same result.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ...errors import RowError
from ...escaped_texts import remember
from ...json_columns import TEXT, encode_objects
from ...schema import KEYS, ROW
from .strict import parse_object
from .strings import find_all, strings_in_order
from .structure import Octets, Positions

_NEWLINE, _OPEN, _CLOSE = b"\n{}"


def uniform_fields(block: bytes, ends: Positions) -> dict[str, pa.Array] | None:
    """The columns of the records in `block`, whole lines with these `line_ends`; None if they differ in shape."""
    if not _is_line_of_object(np.frombuffer(block, np.uint8), ends):
        return None
    line = block[: ends[0]]
    schema = _schema_of(line)
    if schema is None or not _is_utf8(block):
        return None
    batch = _parse(block, schema, int(np.diff(ends, prepend=-1).max()))
    if batch is None or len(batch) != len(ends) or not _is_complete(batch):
        return None
    texts = strings_in_order(block, batch)
    if texts is None:
        return None
    remember(texts)
    return dict(zip(schema.names, batch.columns, strict=True))


def line_ends(block: bytes) -> Positions:
    """The position of the end of each line: its line feed, or the end of the block."""
    octets = np.frombuffer(block, np.uint8)
    ends = find_all(octets, b"\n")
    return ends if not block or octets[-1] == _NEWLINE else np.append(ends, len(octets))


def _schema_of(line: bytes) -> pa.Schema | None:
    """The schema of the object on a line; None if it has values other than strings and turns of strings."""
    try:
        record = parse_object(line)
        if not {str, list}.issuperset(map(type, record.values())):
            return None
        fields = encode_objects([record])
    except (RowError, ValueError):
        return None
    if not line.startswith(b"{") or not fields or not fields.keys().isdisjoint((ROW, KEYS)):
        return None
    types = {name: column.type for name, column in fields.items()}
    return pa.schema(types) if all(type == TEXT or _is_text_turns(type) for type in types.values()) else None


def _is_text_turns(type: pa.DataType) -> bool:
    turns = pa.types.is_list(type) and pa.types.is_struct(type.value_type)
    return turns and all(field.type == TEXT and field.name != KEYS for field in type.value_type)


def _is_utf8(block: bytes) -> bool:
    try:
        _as_value(block).cast(TEXT)
    except pa.ArrowInvalid:
        return False
    return True


def _as_value(block: bytes) -> pa.Array:
    """The block as the only value of a binary column, without a copy."""
    whole = pa.array([0, len(block)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), 1, [None, whole, pa.py_buffer(block)])


def _is_line_of_object(octets: Octets, ends: Positions) -> bool:
    """Whether each line starts with `{` and ends with `}`, so that none is empty.

    Inside an object there is a comma between `}` and `{`, so then no object spans several lines.
    """
    starts = np.concatenate([[0], ends[:-1] + 1])
    return len(ends) > 0 and bool((octets[starts] == _OPEN).all() and (octets[ends - 1] == _CLOSE).all())


_BLOCK = 512 << 10
"""Bytes that are parsed at a time, so that they stay in the cache: a tenth less time."""


def _parse(block: bytes, schema: pa.Schema, longest: int) -> pa.RecordBatch | None:
    """Return the records of a block whose longest line has so many bytes; None if they are not of the schema."""
    from pyarrow import json

    reading = json.ReadOptions(use_threads=False, block_size=max(_BLOCK, longest + 1))
    parsing = json.ParseOptions(schema, newlines_in_values=False, unexpected_field_behavior="error")
    try:
        batches = json.read_json(pa.BufferReader(block), reading, parsing).combine_chunks().to_batches()
    except pa.ArrowInvalid:
        return None
    return batches[0] if len(batches) == 1 and batches[0].schema == schema else None


def _turn_columns(batch: pa.RecordBatch) -> list[tuple[pa.Field, pa.Array]]:
    """The columns of turns, with their fields."""
    return [pair for pair in zip(batch.schema, batch.columns, strict=True) if pair[0].type != TEXT]


def _is_complete(batch: pa.RecordBatch) -> bool:
    """Whether no value is null, as `pyarrow.json` reads both a missing key and an explicit null."""
    items = [column.flatten() for _, column in _turn_columns(batch)]
    columns = [*batch.columns, *items, *(field for turns in items for field in turns.flatten())]
    return not any(column.null_count for column in columns)
