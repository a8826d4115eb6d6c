"""Encode JSON objects and conversations as Arrow columns, and decode them exactly.

JSON objects become Arrow structs without inference. A key whose values are all text is a `string` field, a key of a
record whose values are all lists of objects (turns) is a `list<struct>`, and any other key is a JSON field with the
JSON text of each value. JSON text has the type `large_string`, and no other text has (`arrow.json` would be clearer,
but pyarrow's kernels cannot take, filter or flatten it). A null in a field means that the object lacks the key. Where
that would lose something (an explicit null, another order of keys), the field `#keys` lists the object's keys as a JSON
array.

A **messages column** is a `list<struct<role, content, …>>` in this encoding: `role` and `content` are usually strings;
`tool_calls`, content made of parts and everything else that is not text is JSON text, because Arrow would add `null`
keys to nested structs.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, repeat
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from .arrow_values import to_values
from .errors import TooManyKeys
from .schema import CONVERSATION_COLUMNS, KEYS, MEDIA

TEXT = pa.string()
JSON = pa.large_string()
"""The type of JSON text."""
MEDIUM = pa.struct([("bytes", pa.binary()), ("path", TEXT)])
"""The type of an image, a video or an audio clip by value, as `datasets` stores the features of these names."""
ABSENT: Any = object()
"""The value of a key that an object lacks."""


def dumps(value: object) -> str:
    """Return compact JSON text: keys in order, non-ASCII as is, integers of any size exact.

    Raises TypeError for a value that is not JSON data, ValueError for NaN, infinities and lone surrogates.
    """
    try:
        text = orjson.dumps(value)
        if b"null" not in text:  # orjson silently writes NaN as null
            return text.decode()
    except TypeError:  # an integer beyond 64 bits, or a value that fails again below
        pass
    exact = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    exact.encode()
    return exact


def loads(text: str) -> Any:
    """Parse JSON text that `dumps` wrote: integers of any size exact, floats as Python reads them."""
    return json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)


_LONG_NUMBER = re.compile(r"\d{19}")  # orjson silently reads an integer beyond 64 bits as a float


_BYTES = "#bytes"


def medium_to_text(medium: Mapping[str, Any]) -> str:
    """Return a MEDIUM as text that JSON can hold on the way from a dialect to the columns of media."""
    return f"{_BYTES}{dumps([base64.b64encode(medium['bytes']).decode(), medium['path']])}"


def text_to_medium(text: str) -> dict[str, Any] | None:
    """Return the MEDIUM in a text that `medium_to_text` made; None for any other text."""
    if not text.startswith(_BYTES):
        return None
    data, path = loads(text[len(_BYTES) :])
    return {"bytes": base64.b64decode(data), "path": path}


def integers(values: np.ndarray[Any, np.dtype[Any]], absent: np.ndarray[Any, Any] | None = None) -> pa.Array:
    """Return an integer column that shares the memory of `values`, with nulls where they are `absent`.

    `pa.array` would import numpy.ma (40 ms) once.
    """
    values = np.ascontiguousarray(values)
    valid = None if absent is None else _bits(~absent)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, pa.py_buffer(values)])


def booleans(values: np.ndarray[Any, Any]) -> pa.BooleanArray:
    """Return a boolean column, as `integers` does."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def _bits(values: np.ndarray[Any, Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def text_array(values: Sequence[str | None]) -> pa.StringArray:
    """Return a string column; raises UnicodeEncodeError for a lone surrogate."""
    return pa.array(values, TEXT)


def json_array(values: Iterable[object], present: Sequence[bool] | None = None) -> pa.Array:
    """Return a JSON column with the JSON text of each value; null where `present` is false."""
    flags = present if present is not None else repeat(True)
    texts = [dumps(value) if there else None for value, there in zip(values, flags, strict=False)]
    return pa.array(texts, JSON)


def json_or_null(values: Iterable[object]) -> pa.Array:
    """Return a JSON column with the JSON text of each value; null for None."""
    return pa.array([None if value is None else dumps(value) for value in values], JSON)


def json_values(column: pa.Array) -> list[Any]:
    """The values of a JSON column; None for null and for a JSON `null`."""
    return [None if text is None else loads(text) for text in column.to_pylist()]


def map_json(column: pa.Array, change: Callable[[Any], Any]) -> pa.Array:
    """Return a JSON column with `change` of each value; null and a JSON `null` stay."""
    values = [None if value is None else change(value) for value in json_values(column)]
    return json_array(values, column.is_valid().to_pylist())


MOST_COLUMNS = 100_000
"""The columns of a row: each takes a tenth of a millisecond, however little it holds."""
TOO_MANY = f"more than the {MOST_COLUMNS:,} that a row may have"
_KEYS_AND_VALUES = "keep what they hold as a list of keys and values"
CELLS = 1 << 25
"""The most values, absent ones included, that objects with different keys may have as columns."""


def encode_objects(
    objects: Sequence[Mapping[str, Any]], *, turns: bool = True, cells: int = CELLS
) -> dict[str, pa.Array]:
    """Return the fields of `objects` as columns, keys in order of first appearance, `#keys` last if needed.

    With `turns=False` lists of objects become JSON text too, as does everything nested inside a turn.
    Raises ValueError for a number that is not finite, and for a key named `#keys`; TooManyKeys for more than `cells`,
    or a row of more than MOST_COLUMNS keys.
    """
    if not objects:
        return {}
    if turns and (most := max(map(len, objects))) > MOST_COLUMNS:
        raise TooManyKeys(f"the record has {most:,} keys, {TOO_MANY}", hint=_KEYS_AND_VALUES, code="json.keys")
    names = tuple(objects[0])
    if all(tuple(item) == names for item in objects):
        columns: list[Sequence[Any]] = list(zip(*(item.values() for item in objects), strict=True))
    else:
        names = tuple(dict.fromkeys(chain.from_iterable(objects)))
        if len(names) * len(objects) > cells:
            raise TooManyKeys(
                f"{len(objects):,} objects have {len(names):,} different keys, too many for columns",
                hint=_KEYS_AND_VALUES,
                code="json.keys",
            )
        columns = [[item.get(name, ABSENT) for item in objects] for name in names]
    if KEYS in names:
        raise ValueError(f"a key is named {KEYS}")
    fields = {
        name: encode_values(values, turns=turns, cells=cells) for name, values in zip(names, columns, strict=True)
    }
    keys = _own_keys(objects, names, fields)
    return fields if keys is None else {**fields, KEYS: keys}


def encode_values(values: Sequence[Any], *, turns: bool = True, cells: int = CELLS) -> pa.Array:
    """Return a column of text, turns or JSON with the values of one key; `ABSENT` becomes null.

    None becomes null in a column of text or turns, where `#keys` records that the key is there.
    """
    kinds = set(map(type, values)) - {type(ABSENT), type(None)}
    if kinds == {str}:
        return text_array([value if type(value) is str else None for value in values])
    if turns and kinds == {list} and _are_turns(values):
        with contextlib.suppress(ValueError):  # a turn has a key `#keys`
            return encode_conversations([value if type(value) is list else None for value in values], cells)
    return json_array(values, [value is not ABSENT for value in values])


def encode_column(values: Sequence[Any]) -> pa.Array:
    """Return a column of text, turns or JSON with these values, as `encode_values`; of text if all are `ABSENT`."""
    return encode_values(values) if any(value is not ABSENT for value in values) else pa.nulls(len(values), TEXT)


def with_own_types(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return some rows of a batch; columns that are JSON because of the other rows become text or turns again."""
    for index, column in enumerate(batch.columns):
        starts = pc.utf8_slice_codeunits(column, 0, 1).unique().drop_null().to_pylist() if column.type == JSON else []
        if starts in (['"'], ["["]):
            batch = batch.set_column(index, batch.schema.names[index], encode_values(decode_values(column)))
    return batch


def _are_turns(values: Iterable[Any]) -> bool:
    lists = [value for value in values if type(value) is list]
    return any(lists) and all(type(turn) is dict for value in lists for turn in value)


def _own_keys(
    objects: Sequence[Mapping[str, Any]], names: tuple[str, ...], fields: Mapping[str, pa.Array]
) -> pa.Array | None:
    """Return the `#keys` field, None if every object can be decoded exactly without it."""
    plain = {name for name, column in fields.items() if column.type != JSON and column.null_count}
    if not plain and all(tuple(item) == names for item in objects):
        return None
    order = {name: index for index, name in enumerate(names)}
    texts: list[str | None] = []
    for item in objects:
        indexes = [order[name] for name in item]
        explicit_null = any(value is None and name in plain for name, value in item.items())
        texts.append(dumps(list(item)) if explicit_null or indexes != sorted(indexes) else None)
    return text_array(texts) if any(text is not None for text in texts) else None


def decode_objects(fields: Mapping[str, pa.Array]) -> list[dict[str, Any]]:
    """Return the objects that `encode_objects` encoded; also reads native Arrow columns, where null means absent."""
    names = [name for name in fields if name != KEYS]
    columns = [decode_values(fields[name]) for name in names]
    objects = [
        {name: value for name, value in zip(names, values, strict=True) if value is not ABSENT}
        for values in zip(*columns, strict=True)
    ]
    if KEYS in fields:
        for index, keys in enumerate(fields[KEYS].to_pylist()):
            if keys is not None:
                objects[index] = {name: objects[index].get(name) for name in loads(keys)}
    return objects


def edit_keys(keys: pa.StringArray, edit: Callable[[list[str]], Iterable[str]]) -> pa.StringArray:
    """Return a `#keys` field with the names that `edit` makes of those of each object; each list is edited once."""
    encoded = keys.dictionary_encode()
    texts = [dumps(list(edit(loads(text)))) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, TEXT).take(encoded.indices)


def decode_values(column: pa.Array) -> list[Any]:
    """Return the Python values of one column, `ABSENT` for null, without the null keys that Arrow adds to structs."""
    if column.type == JSON:
        return [ABSENT if text is None else loads(text) for text in column.to_pylist()]
    if is_turns(column.type):
        return [ABSENT if value is None else value for value in decode_conversations(column)]
    nested = _has_structs(column.type)
    values = to_values(column)
    return [ABSENT if value is None else without_nulls(value) if nested else value for value in values]


def decode_or_none(column: pa.Array) -> list[Any]:
    """Return the Python values of one column, None both for null and for what is absent."""
    return [None if value is ABSENT else value for value in decode_values(column)]


def _has_structs(type: pa.DataType) -> bool:
    """Return whether a type has structs, in which null stands for an absent key; in a map it is a value."""
    if pa.types.is_map(type):
        return _has_structs(type.key_type) or _has_structs(type.item_type)
    return bool(pa.types.is_struct(type)) or any(_has_structs(type.field(at).type) for at in range(type.num_fields))


def names_inside(type: pa.DataType) -> Iterator[str]:
    """Yield the names of the fields inside a type, at any depth."""
    for field in map(type.field, range(type.num_fields)):
        yield field.name
        yield from names_inside(field.type)


def is_binary(type: pa.DataType) -> bool:
    """Return whether a column holds bytes."""
    return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type))


def text_of_binary(column: pa.Array) -> pa.Array:
    """Return a binary column whose values are all UTF-8 as text, and any other column unchanged."""
    if not is_binary(column.type):
        return column
    try:
        return column.cast(TEXT)
    except pa.ArrowInvalid:
        return column


def text_of_bytes(value: bytes) -> str | None:
    """Return bytes that are UTF-8 as text, None for others."""
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode()
    return None


def is_turns(type: pa.DataType) -> bool:
    """Return whether a column type is a list of structs, whose fields have different names."""
    if not (pa.types.is_list(type) and pa.types.is_struct(type.value_type)):
        return False
    return bool(len({field.name for field in type.value_type}) == type.value_type.num_fields)


def message_columns(
    batch: pa.RecordBatch, names: Sequence[str] = CONVERSATION_COLUMNS
) -> Iterator[tuple[str, pa.ListArray]]:
    """Yield those of the columns `names` that are messages columns of a batch, each after its name."""
    for name in names:
        if name in batch.schema.names and is_turns(batch.schema.field(name).type):
            yield name, batch.column(name)


def media_columns(batch: pa.RecordBatch) -> dict[str, pa.ListArray]:
    """Return the columns of media by name; another column of such a name, that is kept, is no list."""
    named = ((name, batch.column(name)) for name in batch.schema.names if name in MEDIA)
    return {name: column for name, column in named if pa.types.is_list(column.type)}


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of a batch by name."""
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """The batch with this column replaced, or appended."""
    index = batch.schema.get_field_index(name)
    return batch.append_column(name, column) if index < 0 else batch.set_column(index, name, column)


def encode_conversations(
    conversations: Sequence[Sequence[Mapping[str, Any]] | None], cells: int = CELLS
) -> pa.ListArray:
    """Return a messages column of `conversations`; None becomes null."""
    turns = list(chain.from_iterable(turns for turns in conversations if turns))
    fields = encode_objects(turns, turns=False, cells=cells)
    fields = fields or {name: pa.nulls(len(turns), TEXT) for name in ("role", "content")}
    struct = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    ends = list(accumulate((len(turns) if turns else 0 for turns in conversations), initial=0))
    absent = [turns is None for turns in conversations]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), struct, mask=pa.array(absent) if any(absent) else None)


def decode_conversations(column: pa.ListArray) -> list[list[dict[str, Any]] | None]:
    """Return the conversations of a messages column, exactly as they were encoded; None for null."""
    turns = column.flatten()
    fields = dict(zip([field.name for field in turns.type], turns.flatten(), strict=True))
    objects = decode_objects(fields) if fields else [{} for _ in range(len(turns))]
    lengths = column.value_lengths().to_pylist()
    ends = accumulate((length or 0 for length in lengths), initial=0)
    return [
        None if length is None else objects[start : start + length]
        for start, length in zip(ends, lengths, strict=False)
    ]  # fmt: skip


def to_json(column: pa.Array) -> pa.Array:
    """Return any Arrow column as JSON, null for null, without the null keys that Arrow adds to structs.

    Text becomes a JSON string, times ISO 8601 text, decimals their digits as text. Raises TypeError for binary values.
    """
    values = decode_values(column)
    return json_array(map(to_plain, values), [value is not ABSENT for value in values])


def without_nulls(value: Any) -> Any:
    """The value without keys of objects that are None, at any depth; None in lists stays."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def to_plain(value: Any) -> Any:
    """The value as JSON data: dates and times as ISO 8601 text, decimals as text, tuples as lists."""
    if isinstance(value, dict):
        return {str(to_plain(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, (decimal.Decimal, datetime.timedelta)) else value


def to_display(value: Any) -> Any:
    """The value as JSON data for display: as `to_plain`, but bytes as their count, NaN and infinities as text."""
    if isinstance(value, dict):
        return {str(to_plain(key)): to_display(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_display(item) for item in value]
    if isinstance(value, bytes):
        return f"(binary, {len(value):,} B)"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else to_plain(value)
