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
from ...json_columns import TEXT, dumps, encode_objects
from ...schema import KEYS, ROW
from .strict import parse_object
from .structure import Octets, Positions

_TILE = 64 << 10  # bytes whose temporary arrays stay in the cache
_NEWLINE, _OPEN, _CLOSE = b"\n{}"


def uniform_fields(block: bytes) -> tuple[dict[str, pa.Array], int] | None:
    """The columns and the number of the records in `block`, whole lines; None if they differ in shape."""
    schema = _schema_of(block[: block.find(b"\n") + 1] or block)
    octets = np.frombuffer(block, np.uint8)
    if schema is None or not _is_utf8(block) or not (lines := _count_objects(octets)):
        return None
    batch = _parse(block, schema)
    if batch is None or len(batch) != lines or not _is_complete(batch):
        return None
    if not any(_is_in_order(octets, separator, batch) for separator in (b'":', b'" :')):
        return None
    return dict(zip(schema.names, batch.columns, strict=True)), lines


def _schema_of(line: bytes) -> pa.Schema | None:
    """The schema of the object on a line; None if it has values other than strings and turns of strings."""
    try:
        fields = encode_objects([parse_object(line)])
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
    whole = pa.array([0, len(block)], pa.int32()).buffers()[1]
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, whole, pa.py_buffer(block)]).cast(TEXT)
    except pa.ArrowInvalid:
        return False
    return True


def _count_objects(octets: Octets) -> int:
    """The number of lines if each starts with `{` and ends with `}`, else 0.

    Inside an object there is a comma between `}` and `{`, so then no object spans several lines.
    """
    ends = np.append(_find(octets, b"\n"), [] if octets[-1] == _NEWLINE else [len(octets)]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return len(ends) if (octets[starts] == _OPEN).all() and (octets[ends - 1] == _CLOSE).all() else 0


def _find(octets: Octets, text: bytes) -> Positions:
    """The positions of all occurrences of `text`."""
    found = []
    for start in range(0, len(octets), _TILE):
        tile = octets[start : start + _TILE + len(text) - 1]
        begins = len(tile) - len(text) + 1
        matches = tile[:begins] == text[0]
        for offset in range(1, len(text)):
            matches &= tile[offset : offset + begins] == text[offset]
        found.append(np.flatnonzero(matches) + start)
    return np.concatenate(found)


def _parse(block: bytes, schema: pa.Schema) -> pa.RecordBatch | None:
    from pyarrow import json

    reading = json.ReadOptions(use_threads=False, block_size=len(block) + 1)
    parsing = json.ParseOptions(schema, newlines_in_values=False, unexpected_field_behavior="error")
    try:
        batches = json.read_json(pa.BufferReader(block), reading, parsing).to_batches()
    except pa.ArrowInvalid:
        return None
    return batches[0] if len(batches) == 1 and batches[0].schema == schema else None


def _is_complete(batch: pa.RecordBatch) -> bool:
    """Whether no value is null, as `pyarrow.json` reads both a missing key and an explicit null."""
    items = [column.flatten() for column in batch.columns if column.type != TEXT]
    columns = [*batch.columns, *items, *(field for turns in items for field in turns.flatten())]
    return not any(column.null_count for column in columns)


def _is_in_order(octets: Octets, separator: bytes, batch: pa.RecordBatch) -> bool:
    """Whether all objects have their keys in the order of the schema, given that each has all of them once.

    `"name":` can only be a key, since quotes inside a string are escaped. So the keys of each name are found by search;
    with all of them put into the order that the schema expects, their positions must ascend.
    """
    keys = _expected_keys(batch)
    places = np.empty(len(keys), np.int64)
    ends = _find(octets, separator)
    for number, name in enumerate(_key_names(batch)):
        found, expected = _keys_named(octets, ends, name), keys == number
        if len(found) != np.count_nonzero(expected):
            return False
        places[expected] = found
    return bool((np.diff(places) > 0).all())


def _key_names(batch: pa.RecordBatch) -> list[str]:
    """The distinct names of keys of records and turns."""
    turns = (field.name for type in batch.schema.types if type != TEXT for field in type.value_type)
    return list(dict.fromkeys([*batch.schema.names, *turns]))


def _expected_keys(batch: pa.RecordBatch) -> Positions:
    """The keys of all records in the order of the schema, as indices into `_key_names`."""
    numbers = {name: number for number, name in enumerate(_key_names(batch))}
    cells = []  # per column: its key and the keys of a turn
    sizes = np.ones((len(batch), batch.num_columns), np.int64)
    for place, (field, column) in enumerate(zip(batch.schema, batch.columns, strict=True)):
        turn = [] if field.type == TEXT else [numbers[inner.name] for inner in field.type.value_type]
        cells.append([numbers[field.name], *turn])
        if turn:
            sizes[:, place] += column.value_lengths().to_numpy().astype(np.int64) * len(turn)
    table = np.array([cell + [0] * (max(map(len, cells)) - len(cell)) for cell in cells])
    turn_sizes = np.array([max(len(cell) - 1, 1) for cell in cells])
    starts = np.cumsum(sizes) - sizes.ravel()
    column_of = np.repeat(np.tile(np.arange(len(cells)), len(batch)), sizes.ravel())
    inside = np.arange(len(column_of)) - np.repeat(starts, sizes.ravel())
    keys: Positions = table[column_of, np.where(inside, 1 + (inside - 1) % turn_sizes[column_of], 0)]
    return keys


def _keys_named(octets: Octets, ends: Positions, name: str) -> Positions:
    """The `ends` (positions of closing quotes) that end a key of this name."""
    text = f'"{name}'.encode()
    if text + b'"' != dumps(name).encode():
        return ends[:0]  # written with an escape
    ends = ends[ends >= len(text)]
    for offset, octet in enumerate(reversed(text), 1):
        ends = ends[octets[ends - offset] == octet]
    return ends
