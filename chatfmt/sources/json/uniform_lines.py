"""Read JSON Lines whose objects all have one shape with `pyarrow.json`, a whole block at once: the fast path.

The shape is that of the first line: an object whose values are strings or lists of objects (turns) with string values.
Given that schema, `pyarrow.json` rejects other keys, duplicate keys, other types, lone surrogates and control
characters. It silently accepts invalid UTF-8, missing and null keys, another order of keys, and lines that do not hold
one object each; those are checked here. In doubt the block is left to the strict parser, so that whatever is accepted
is what the strict parser accepts, with the same result.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import RowError
from ...json_columns import TEXT, dumps, encode_objects
from ...schema import KEYS, ROW
from .strict import parse_object
from .structure import Octets, Positions

_TILE = 64 << 10  # bytes whose temporary arrays stay in the cache
_NEWLINE, _OPEN, _CLOSE = b"\n{}"


def uniform_fields(block: bytes, ends: Positions) -> dict[str, pa.Array] | None:
    """The columns of the records in `block`, whole lines with these `line_ends`; None if they differ in shape."""
    if not _is_line_of_object(np.frombuffer(block, np.uint8), ends):
        return None
    line = block[: ends[0]]
    schema = _schema_of(line)
    if schema is None or not _is_utf8(block):
        return None
    batch = _parse(block, schema)
    if batch is None or len(batch) != len(ends) or not _is_complete(batch):
        return None
    if not (_is_pairs_in_order(block, line, batch) or _is_in_order(block, batch)):
        return None
    return dict(zip(schema.names, batch.columns, strict=True))


def line_ends(block: bytes) -> Positions:
    """The position of the end of each line: its line feed, or the end of the block."""
    octets = np.frombuffer(block, np.uint8)
    ends = _find(octets, b"\n")
    return ends if not block or octets[-1] == _NEWLINE else np.append(ends, len(octets))


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


def _find(octets: Octets, text: bytes) -> Positions:
    """The positions of all occurrences of `text`."""
    found = [np.zeros(0, np.int64)]
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


def _turn_columns(batch: pa.RecordBatch) -> list[tuple[pa.Field, pa.Array]]:
    """The columns of turns, with their fields."""
    return [pair for pair in zip(batch.schema, batch.columns, strict=True) if pair[0].type != TEXT]


def _is_complete(batch: pa.RecordBatch) -> bool:
    """Whether no value is null, as `pyarrow.json` reads both a missing key and an explicit null."""
    items = [column.flatten() for _, column in _turn_columns(batch)]
    columns = [*batch.columns, *items, *(field for turns in items for field in turns.flatten())]
    return not any(column.null_count for column in columns)


def _is_pairs_in_order(block: bytes, line: bytes, batch: pa.RecordBatch) -> bool:
    """Whether no object has more than two keys, and a member stands before the second key of every object.

    Then all have their keys in the order of the schema, given that each has all of them once. Quotes inside a string
    are escaped, so text from the end of a value to a key, as it is in the first `line`, is nowhere else.
    """
    shapes = [(batch.schema, len(batch))]
    shapes += [(field.type.value_type, len(column.flatten())) for field, column in _turn_columns(batch)]
    names = [field.name for shape, _ in shapes for field in shape]
    if len(set(names)) < len(names) or any(len(list(shape)) > 2 for shape, _ in shapes):
        return False
    seconds = [([*shape][1].name, count) for shape, count in shapes if len([*shape]) == 2]
    return all(_count_later_keys(block, line, name) == count for name, count in seconds)


def _count_later_keys(block: bytes, line: bytes, name: str) -> int:
    """The number of keys of this name after a comma, all with the same characters from the value before them on."""
    found = re.search(rb'["\]] ?, ?' + re.escape(dumps(name).encode()) + b" ?:", line)
    if found is None:
        return 0
    pattern = re.escape(found[0].decode())  # RE2 finds it several times as fast as a search for plain text does
    count: int = pc.count_substring_regex(_as_value(block), pattern)[0].as_py()
    return count


def _is_in_order(block: bytes, batch: pa.RecordBatch) -> bool:
    """Whether all objects have their keys in the order of the schema, given that each has all of them once."""
    octets = np.frombuffer(block, np.uint8)
    return any(_are_keys_in_order(octets, separator, batch) for separator in (b'":', b'" :'))


def _are_keys_in_order(octets: Octets, separator: bytes, batch: pa.RecordBatch) -> bool:
    """Whether the keys of all objects, of which `separator` is the end, are in the order of the schema.

    A quote before a colon that is not escaped ends a key, or starts a text. So the keys are found by search; each must
    have the name that the schema expects at its place. The work per key does not grow with the number of names.
    """
    names, expected = [f'"{name}'.encode() for name in _key_names(batch)], _expected_keys(batch)
    quotes = _find(octets, separator)
    ends = quotes[np.isin(octets[quotes - 1], [name[-1] for name in names])]
    if len(ends) != len(expected) or any(b"\\" in name for name in names):
        return False
    order = np.argsort(expected, kind="stable")
    by_name = np.split(order, np.cumsum(np.bincount(expected, minlength=len(names)))[:-1])
    return all(_are_named(octets, ends[some], name) for name, some in zip(names, by_name, strict=True))


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
    width = max(map(len, cells))
    table = np.array([cell + [0] * (width - len(cell)) for cell in cells])
    turn_sizes = np.array([max(len(cell) - 1, 1) for cell in cells])
    starts = np.cumsum(sizes) - sizes.ravel()
    column_of = np.repeat(np.tile(np.arange(len(cells)), len(batch)), sizes.ravel())
    inside = np.arange(len(column_of)) - np.repeat(starts, sizes.ravel())
    keys: Positions = table[column_of, np.where(inside, 1 + (inside - 1) % turn_sizes[column_of], 0)]
    return keys


def _are_named(octets: Octets, ends: Positions, name: bytes) -> bool:
    """Whether the text before all `ends` (positions of closing quotes) is this name, with its opening quote."""
    if len(ends) and ends[0] < len(name):
        return False
    return all((octets[ends - offset] == octet).all() for offset, octet in enumerate(reversed(name), 1))
