"""Arrow columns as the text of JSON objects, column by column, without a Python object a row.

JSON Lines (jsonlines.org, RFC 8259): one object a line, UTF-8, `\\n` at the end of each line, nothing between them.
Non-ASCII text stands as it is (U+2028 too), keys keep their order, JSON text from the source is copied byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Location, RowError
from ..json_columns import JSON, loads, to_json
from ..schema import CONVERSATIONS, KEYS

BYTES = pa.large_binary()
LINE = "#line"
"""The one column of a batch whose rows are lines already."""
SHORT = 24
"""Bytes of a value, offsets included, below which text is like `role`: few words, often repeated."""
SLICE = 1 << 20
"""Bytes of Arrow data that become lines at a time: what fits a cache is written faster, and memory stays flat."""


def json_lines(batch: pa.RecordBatch, *, explicit_nulls: bool = False) -> Iterator[bytes | memoryview]:
    """The lines of a batch, in pieces. A null is an absent key, where `#keys` does not say otherwise.

    With `explicit_nulls` a null of a kept column that is not JSON text is written as `null`: Parquet sources mean that.
    Raises RowError for values that JSON does not have: NaN, infinities, binary.
    """
    if batch.schema.names == [LINE]:
        yield _data(batch.column(LINE))
        return
    rows = max(1, SLICE * len(batch) // max(1, batch.nbytes))
    for start in range(0, len(batch), rows):
        yield _lines(batch.slice(start, rows), explicit_nulls)


def _lines(batch: pa.RecordBatch, explicit_nulls: bool) -> bytes | memoryview:
    fields = dict(zip(batch.schema.names, batch.columns, strict=True))
    if len(fields) == 1 and batch.schema.types[0] == pa.string() and not batch.columns[0].null_count:
        return _text_lines(batch.schema.names[0], batch.columns[0])
    kept = {name for name, column in fields.items() if name not in CONVERSATIONS and column.type != JSON}
    objects = _objects(fields, len(batch), kept if explicit_nulls else ())
    lines = pc.binary_join_element_wise(objects, _scalar(b"\n"), _scalar(b""))
    return _data(lines)


def _text_lines(name: str, column: pa.StringArray) -> bytes:
    """The lines of the most common table, one column of text, at the speed of the string escape."""
    start, dumps = b"{" + _key(name), orjson.dumps
    return start + (b"}\n" + start).join([dumps(text) for text in column.to_pylist()]) + b"}\n"


def _data(lines: pa.Array) -> memoryview:
    offsets = np.frombuffer(lines.buffers()[1], np.int64)[lines.offset :]
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[len(lines)]] if len(lines) else memoryview(b"")


def json_text(column: pa.Array) -> pa.Array:
    """The JSON text (UTF-8, large_binary) of each value of any column; null for null."""
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
    if pa.types.is_struct(kind):
        return _structs(column)
    return _others(column)


def _strings(column: pa.StringArray) -> pa.Array:
    if column.nbytes < SHORT * len(column):
        words = column.dictionary_encode()
        return _mapped(words.dictionary).take(words.indices)
    return _mapped(column)


def _mapped(column: pa.Array) -> pa.Array:
    dumps = orjson.dumps
    if column.null_count:
        return pa.array([None if value is None else dumps(value) for value in column.to_pylist()], BYTES)
    return pa.array([dumps(value) for value in column.to_pylist()], BYTES)


def _floats(column: pa.Array) -> pa.Array:
    finite = pc.fill_null(pc.is_finite(column), True)
    if not pc.all(finite).as_py():
        row = finite.index(pa.scalar(False)).as_py()
        raise RowError(
            "NaN and infinity cannot be written as JSON", hint="write Parquet", at=Location(row=row), code="out.range"
        )
    return _mapped(column)


def _others(column: pa.Array) -> pa.Array:
    """Times, decimals and what else Arrow has, as `schema.to_json` spells them."""
    try:
        return to_json(column).cast(BYTES)
    except TypeError:
        raise RowError(
            f"a column of type `{column.type}` cannot be written as JSON", hint="write Parquet", code="out.binary"
        ) from None


def _lists(column: pa.ListArray) -> pa.Array:
    texts = pc.fill_null(json_text(column.flatten()), _scalar(b"null"))
    lengths = pc.fill_null(column.value_lengths(), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    joined = pc.binary_join(pa.LargeListArray.from_arrays(pa.array(offsets), texts), _scalar(b","))
    lists = pc.binary_join_element_wise(_scalar(b"["), joined, _scalar(b"]"), _scalar(b""))
    return _where_valid(column, lists)


def _structs(column: pa.StructArray) -> pa.Array:
    fields = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    return _where_valid(column, _objects(fields, len(column), ()))


def _where_valid(column: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(column.is_valid(), texts, pa.scalar(None, BYTES)) if column.null_count else texts


def _objects(fields: Mapping[str, pa.Array], rows: int, explicit: Collection[str]) -> pa.Array:
    """The JSON object of each row; a null is an absent key, or `null` for the names in `explicit`."""
    texts = {name: json_text(column) for name, column in fields.items() if name != KEYS}
    if KEYS in fields and fields[KEYS].null_count < rows:
        return _ordered(texts, fields[KEYS].to_pylist(), explicit)
    if not texts:
        return pa.array([b"{}"] * rows, BYTES)
    filled = {name: pc.fill_null(text, _scalar(b"null")) if name in explicit else text for name, text in texts.items()}
    return _joined(filled)


def _joined(texts: Mapping[str, pa.Array]) -> pa.Array:
    """The objects of the columns; a comma stands before each member that has another before it in its row."""
    pieces: list[pa.Array | pa.Scalar] = [_scalar(b"{")]
    before: pa.Array | bool = False
    for name, text in texts.items():
        pieces += _member(_key(name), text, before)
        before = True if before is True or not text.null_count else pc.or_(text.is_valid(), before)
    return pc.binary_join_element_wise(*pieces, _scalar(b"}"), _scalar(b""))


def _member(key: bytes, text: pa.Array, before: pa.Array | bool) -> list[pa.Array | pa.Scalar]:
    """The pieces of one member; `before` says where the row has a member already."""
    if isinstance(before, bool):
        start = _scalar(b"," + key if before else key)
    else:
        start = pc.if_else(before, _scalar(b"," + key), _scalar(key))
    if not text.null_count:
        return [start, text]
    return [pc.fill_null(pc.binary_join_element_wise(start, text, _scalar(b"")), _scalar(b""))]


def _ordered(texts: Mapping[str, pa.Array], keys: list[str | None], explicit: Collection[str]) -> pa.Array:
    """The objects of columns some of whose rows have keys in an order of their own, or explicit nulls."""
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
