"""Output formats: record batches to the bytes of a file.

An encoder is `(sink, schema, compression, explicit_nulls)`, then `write(batch)` and `close()`; its sink stays open.
Same batches, same bytes: no clock, no host, no random dictionary.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow as pa

from ..errors import OutputError, UnknownName
from ..json_columns import JSON, to_json
from ..schema import CONVERSATION_COLUMNS, KEYS
from .json_lines import json_lines

ROW_GROUP = 16 << 20
"""Bytes of Arrow data in a row group: enough to compress well, little enough to be in the processor's cache still when
they are compressed (at 64 MB a conversion takes a tenth longer), and to be read in parallel and in flat memory."""
GZIP_LEVEL = 4
"""zlib at 6 takes twice the time for 5% fewer bytes of chat text."""
LONG_TEXT = frozenset({"text", "content", "segments", "reasoning_content", "tool_calls", *CONVERSATION_COLUMNS})
"""Columns whose values hardly ever repeat: a dictionary costs time there and gains nothing, and nobody looks for the
least and the greatest of them, which would be written into the footer in full."""


class Sink(Protocol):
    """Where encoders write: `write` takes all of the bytes or raises."""

    def write(self, data: bytes | memoryview, /) -> object: ...


class Member(Sink, Protocol):
    """A compressor over a sink; `close` writes the end of the member and leaves the sink open."""

    def close(self) -> object: ...


class Encoder(Protocol):
    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """JSON Lines (jsonlines.org): see `lines`. The schema is not needed: each batch describes itself.

    Compression `gz`, `zst`, `bz2`, `xz` writes one member; joined members are a valid file of each of them.
    gzip carries no name and time 0 (RFC 1952), zstd a checksum (RFC 8878).
    """

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        self._member = None if compression in (None, "none") else _compressor(sink, str(compression))
        self._sink: Sink = self._member or sink
        self._explicit_nulls = explicit_nulls

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in json_lines(batch, explicit_nulls=self._explicit_nulls):
            self._sink.write(piece)

    def close(self) -> None:
        if self._member:
            self._member.close()


class Parquet:
    """Parquet 2.6 (parquet-format), page checksums always, zstd unless told otherwise, rows in order.

    JSON columns become text columns that hold JSON text; `#keys` fields are left out, so an object's own key order and
    the difference between a null and an absent key end here, as Parquet has neither. Row groups hold about 16 MB.
    Batches that lack a column of `schema` get nulls there; one that has a column more is refused.
    """

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        import pyarrow.parquet as pq  # takes ssl and file systems with it, which JSON Lines have no use for

        self._schema = schema
        stored = parquet_schema(schema)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(ArrowSink(sink), mode="w"),
            stored,
            compression=compression or "zstd",
            use_dictionary=[path for path, kind in _short(stored) if not pa.types.is_floating(kind)],
            write_statistics=[path for path, _ in _short(stored)],
            write_page_checksum=True,
        )
        self._waiting: list[pa.RecordBatch] = []
        self._size = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(to_parquet(batch, self._schema))
        self._size += batch.nbytes
        if self._size >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._waiting, self._size = [], 0
            if len(table):
                self._writer.write_table(table, row_group_size=len(table))


class ArrowSink:
    """A sink as pyarrow wants a file: it asks for more than it uses."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def parquet_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that a Parquet file of such batches has: JSON as text, no `#keys`."""
    return pa.schema([pa.field(field.name, _stored(field.type)) for field in schema if field.name != KEYS])


def _stored(kind: pa.DataType) -> pa.DataType:
    if kind == JSON:
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_stored(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(item.name, _stored(item.type)) for item in kind if item.name != KEYS])
    return kind


def to_parquet(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of `schema` as Parquet stores them, missing ones null; OutputError for others."""
    if extra := [name for name in batch.schema.names if name != KEYS and name not in schema.names]:
        raise OutputError(
            f"a row has the column `{extra[0]}`, which the rows that the schema was made from lack",
            hint="name the columns with `--keep`, or write JSON Lines with `--format jsonl`",
            code="output.schema",
        )
    names = set(batch.schema.names)
    columns = [
        _conformed(batch.column(name), kind) if name in names else pa.nulls(len(batch), _stored(kind))
        for name, kind in zip(schema.names, schema.types, strict=True)
        if name != KEYS
    ]
    return pa.RecordBatch.from_arrays(columns, schema=parquet_schema(schema))


def _conformed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as Parquet stores the type `kind` of the output; JSON takes any value, text only text."""
    if kind == JSON:
        return (column if column.type == JSON else to_json(column)).cast(pa.string())
    if pa.types.is_struct(kind) and pa.types.is_struct(column.type):
        return _conformed_struct(column, kind)
    if pa.types.is_list(kind) and pa.types.is_list(column.type):
        return _conformed_list(column, kind)
    if column.type == kind:
        return column
    return _cast(column, kind)


def _conformed_list(column: pa.ListArray, kind: pa.ListType) -> pa.ListArray:
    values = _conformed(column.values, kind.value_type)
    mask = column.is_null() if column.null_count else None
    start = column.offset
    if start and mask is not None:  # from_arrays refuses a mask on sliced offsets
        column = pa.concat_arrays([column.slice(0), pa.nulls(0, column.type)])
        values = _conformed(column.values, kind.value_type)
    return pa.ListArray.from_arrays(column.offsets, values, mask=mask)


def _conformed_struct(column: pa.StructArray, kind: pa.StructType) -> pa.StructArray:
    fields = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    wanted = [field for field in kind if field.name != KEYS]
    if extra := [name for name in fields if name != KEYS and kind.get_field_index(name) < 0]:
        raise OutputError(
            f"a message has the key `{extra[0]}`, which the rows that the schema was made from lack",
            hint="write JSON Lines with `--format jsonl`",
            code="output.schema",
        )
    columns = [
        _conformed(fields[field.name], field.type)
        if field.name in fields
        else pa.nulls(len(column), _stored(field.type))
        for field in wanted
    ]
    mask = column.is_null() if column.null_count else None
    return pa.StructArray.from_arrays(columns, names=[field.name for field in wanted], mask=mask)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(column.type) or (column.type == JSON and column.null_count == len(column)):
        return pa.nulls(len(column), _stored(kind))
    if column.type == JSON:
        raise OutputError(
            f"a column is `{kind}` in some rows and another kind of JSON in others, which Parquet cannot hold",
            hint="write JSON Lines with `--format jsonl`",
            code="output.schema",
        )
    return column.cast(kind)


def _short(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """The Parquet paths and types of the columns that do not hold long text."""
    return [leaf for field in schema for leaf in _leaves(field, "")]


def _leaves(field: pa.Field, above: str) -> Iterator[tuple[str, pa.DataType]]:
    path, kind = above + field.name, field.type
    if pa.types.is_list(kind):
        yield from _leaves(pa.field("element", kind.value_type), f"{path}.list.")
    elif pa.types.is_struct(kind):
        for item in kind:
            yield from _leaves(item, f"{path}.")
    elif field.name not in LONG_TEXT:
        yield path, kind


def _compressor(sink: Sink, name: str) -> Member:
    if name not in COMPRESSIONS:
        raise UnknownName.of("compression", name, COMPRESSIONS)
    return COMPRESSIONS[name](sink)


def _gz(sink: Any) -> Member:
    return gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0, compresslevel=GZIP_LEVEL)


def _zst(sink: Any) -> Member:
    import zstandard

    return zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(sink, closefd=False)


def _bz2(sink: Any) -> Member:
    return bz2.BZ2File(sink, "wb")


def _xz(sink: Any) -> Member:
    return lzma.LZMAFile(sink, "wb")


COMPRESSIONS: dict[str, Callable[[Any], Member]] = {"gz": _gz, "zst": _zst, "bz2": _bz2, "xz": _xz}
"""Compressions of JSON Lines, by the ending of the file's name."""
PARQUET_COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")

FORMATS: dict[str, Callable[..., Encoder]] = {"jsonl": JsonLines, "parquet": Parquet}
