"""Encode Arrow batches as JSON Lines, column by column, without a Python object per row.

JSON Lines (jsonlines.org, RFC 8259): one object per line, UTF-8, each line ends with `\\n`, no spaces between tokens.
Non-ASCII text is not escaped (nor U+2028), keys keep their order, JSON text from the source is copied byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Location, RowError
from ..escaped_texts import known_lines
from ..json_columns import JSON, columns_of, integers, loads, to_json
from ..schema import CONVERSATIONS, KEYS
from ..turn_columns import fields_of

BYTES = pa.large_binary()
LINE = "#line"
"""The only column of a batch whose rows are encoded lines already."""
SHORT_TEXT = 24
"""Bytes per value, offsets included, below which text is like `role`: few distinct words, often repeated."""
SLICE_BYTES = 1 << 20
"""Bytes of Arrow data encoded at a time: what fits a cache is encoded faster, and memory stays constant."""


def json_lines(batch: pa.RecordBatch, *, explicit_nulls: bool = False) -> Iterator[bytes | memoryview]:
    """Yield the lines of a batch in chunks. Nulls become absent keys, unless the `#keys` of a row list them.

    With `explicit_nulls`, nulls of kept columns other than JSON text are written as `null`, as Parquet sources mean
    them. Raises RowError for values that JSON lacks: NaN, infinities, binary.
    """
    if batch.schema.names == [LINE]:
        yield _data(batch.column(LINE))
        return
    if (copied := _copied_lines(batch)) is not None:
        yield from copied
        return
    rows = max(1, SLICE_BYTES * len(batch) // max(1, batch.nbytes))
    for start in range(0, len(batch), rows):
        yield _lines(batch.slice(start, rows), explicit_nulls)


def json_objects(batch: pa.RecordBatch) -> list[bytes]:
    """Return the JSON object of each row, without a line feed; nulls as in `json_lines`."""
    objects: list[bytes] = _objects(columns_of(batch), len(batch), ()).to_pylist()
    return objects


def _lines(batch: pa.RecordBatch, explicit_nulls: bool) -> bytes | memoryview:
    fields = columns_of(batch)
    if len(fields) == 1 and batch.schema.types[0] == pa.string() and not batch.columns[0].null_count:
        return _text_lines(batch.schema.names[0], batch.columns[0])
    kept = {name for name, column in fields.items() if name not in CONVERSATIONS and column.type != JSON}
    objects = _objects(fields, len(batch), kept if explicit_nulls else ())
    lines = pc.binary_join_element_wise(objects, _scalar(b"\n"), _scalar(b""))
    return _data(lines)


def _text_lines(name: str, column: pa.StringArray) -> memoryview:
    """Encode the most common table, one column of text."""
    start, end = b"{" + _key(name), b"}\n"
    lines = (end + start).join([b"", *map(orjson.dumps, column.to_pylist()), b""])
    return memoryview(lines)[len(end) : -len(start)]


def _copied_lines(batch: pa.RecordBatch) -> Iterator[bytes | memoryview] | None:
    """Encode one column of text that is put together of JSON from the source; None for any other."""
    if batch.schema.types != [pa.string()]:
        return None
    start, end = b"{" + _key(batch.schema.names[0]) + b'"', b'"}\n'
    lines = known_lines(batch.column(0), end + start)
    if lines is None:
        return None
    return chain((lines[at : at + SLICE_BYTES] for at in range(len(end), len(lines), SLICE_BYTES)), [end])


def _data(lines: pa.Array) -> memoryview:
    offsets = np.frombuffer(lines.buffers()[1], np.int64)[lines.offset :]
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[len(lines)]] if len(lines) else memoryview(b"")


def json_text(column: pa.Array) -> pa.Array:
    """Return the JSON text (UTF-8, large_binary) of each value of a column; null for null."""
    kind = column.type
    if kind == JSON:
        return column.cast(BYTES)
    if pa.types.is_string(kind):
        return _strings(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(JSON).cast(BYTES)
    if pa.types.is_floating(kind):
        return _floats(column)
    if pa.types.is_list(kind):
        return _lists(column)
    if pa.types.is_struct(kind) and len({field.name for field in kind}) == kind.num_fields:
        return _structs(column)
    return _others(column)


def _strings(column: pa.StringArray) -> pa.Array:
    if column.nbytes < SHORT_TEXT * len(column):
        words = column.dictionary_encode()
        return _quoted(words.dictionary).take(words.indices)
    return _quoted(column)


def _quoted(column: pa.StringArray) -> pa.Array:
    return pa.array([None if text is None else orjson.dumps(text) for text in column.to_pylist()], BYTES)


def _floats(column: pa.Array) -> pa.Array:
    finite = pc.fill_null(pc.is_finite(column), True)
    if not pc.all(finite).as_py():
        row = finite.index(pa.scalar(False)).as_py()
        raise RowError(
            "NaN and infinity cannot be written as JSON", hint="write Parquet", at=Location(row=row), code="out.range"
        )
    dumps = orjson.dumps
    return pa.array([None if value is None else dumps(value) for value in column.to_pylist()], BYTES)


def _others(column: pa.Array) -> pa.Array:
    """Encode times, decimals and other Arrow types as `json_columns.to_json` does."""
    try:
        return to_json(column).cast(BYTES)
    except TypeError:
        raise RowError(
            f"a column of type `{column.type}` cannot be written as JSON",
            hint="write Parquet: name a folder or x.parquet with -o",
            code="out.binary",
        ) from None


def _lists(column: pa.ListArray) -> pa.Array:
    texts = pc.fill_null(json_text(column.flatten()), _scalar(b"null"))
    lengths = pc.fill_null(column.value_lengths(), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    joined = pc.binary_join(pa.LargeListArray.from_arrays(integers(offsets), texts), _scalar(b","))
    lists = pc.binary_join_element_wise(_scalar(b"["), joined, _scalar(b"]"), _scalar(b""))
    return _where_valid(column, lists)


def _structs(column: pa.StructArray) -> pa.Array:
    return _where_valid(column, _objects(fields_of(column), len(column), ()))


def _where_valid(column: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(column.is_valid(), texts, pa.scalar(None, BYTES)) if column.null_count else texts


def _objects(fields: Mapping[str, pa.Array], rows: int, explicit: Collection[str]) -> pa.Array:
    """Return the JSON object of each row; nulls become absent keys, or `null` for the names in `explicit`."""
    texts = {name: json_text(column) for name, column in fields.items() if name != KEYS}
    if KEYS in fields and fields[KEYS].null_count < rows:
        return _ordered(texts, fields[KEYS].to_pylist(), explicit)
    if not texts:
        return pa.array([b"{}"] * rows, BYTES)
    filled = {name: pc.fill_null(text, _scalar(b"null")) if name in explicit else text for name, text in texts.items()}
    return _joined(filled)


def _joined(texts: Mapping[str, pa.Array]) -> pa.Array:
    """Join the columns to objects, with a comma before each member but the first of its row."""
    parts: list[pa.Array | pa.Scalar] = [_scalar(b"{")]
    before: pa.Array | bool = False
    for name, text in texts.items():
        parts += _member(_key(name), text, before)
        before = True if before is True or not text.null_count else pc.or_(text.is_valid(), before)
    return pc.binary_join_element_wise(*parts, _scalar(b"}"), _scalar(b""))


def _member(key: bytes, text: pa.Array, before: pa.Array | bool) -> list[pa.Array | pa.Scalar]:
    """Return the parts of one member; `before` is true where the row already has a member."""
    if isinstance(before, bool):
        start = _scalar(b"," + key if before else key)
    else:
        start = pc.if_else(before, _scalar(b"," + key), _scalar(key))
    if not text.null_count:
        return [start, text]
    return [pc.fill_null(pc.binary_join_element_wise(start, text, _scalar(b"")), _scalar(b""))]


def _ordered(texts: Mapping[str, pa.Array], keys: list[str | None], explicit: Collection[str]) -> pa.Array:
    """Join the columns to objects where some rows have their own order of keys, or explicit nulls."""
    names, columns = list(texts), [text.to_pylist() for text in texts.values()]
    starts = {name: _key(name) for name in names}
    objects = []
    for own, *values in zip(keys, *columns, strict=True):
        row = dict(zip(names, values, strict=True))
        listed = [] if own is None else [name for name in loads(own) if name in row]
        nulls = {*explicit, *listed} if own is None else set(listed)
        order = [name for name in names if name not in set(listed)] + listed
        members = [starts[name] + (row[name] or b"null") for name in order if row[name] is not None or name in nulls]
        objects.append(b"{" + b",".join(members) + b"}")
    return pa.array(objects, BYTES)


def _key(name: str) -> bytes:
    return orjson.dumps(name) + b":"


def _scalar(value: bytes) -> pa.Scalar:
    return pa.scalar(value, BYTES)
