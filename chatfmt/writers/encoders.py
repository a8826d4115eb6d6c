"""Output formats: encode record batches as the bytes of a file.

An encoder is constructed with `(sink, schema, compression, explicit_nulls)` and has `write(batch)` and `close()`, which
leaves the sink open. Equal batches give equal bytes: no clock, no host name, no randomness.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from ..errors import OutputError, UnknownName
from ..features import to_metadata
from ..json_columns import JSON, to_json
from ..schema import CONVERSATION_COLUMNS, KEYS
from ..turn_columns import fields_of
from .json_lines import json_lines

ROW_GROUP = 16 << 20
"""Bytes of Arrow data per row group: enough to compress well, few enough to still be in the processor's cache when they
are compressed (with 64 MB a conversion takes a tenth longer) and to be read in parallel and in constant memory."""
GZIP_LEVEL = 4
"""Level 6 takes twice the time for 5% fewer bytes of chat text."""
JSON_COLUMN = pa.json_(pa.string())
"""The type of JSON in Parquet: strings that Arrow, and with it `datasets`, knows to be JSON."""
LONG_TEXT = frozenset({"text", "content", "segments", "reasoning_content", "tool_calls", *CONVERSATION_COLUMNS})
"""Columns whose values rarely repeat: a dictionary costs time and saves nothing, and statistics would write the full
text of the minimum and maximum into the footer, which no query uses."""


class Sink(Protocol):
    """The target of an encoder: `write` writes all of the bytes or raises."""

    def write(self, data: bytes | memoryview, /) -> object: ...


class Compressor(Sink, Protocol):
    """A sink that compresses into another; `close` writes the end of the member and leaves the other sink open."""

    def close(self) -> object: ...


class Encoder(Protocol):
    """Encodes batches into a sink."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """JSON Lines (jsonlines.org), see `json_lines`. The schema is not used: each batch has its own.

    Compression `gz`, `zst`, `bz2` or `xz` writes one member; in all of them, concatenated members are a valid file.
    gzip headers have no name and time 0 (RFC 1952), zstd frames a checksum (RFC 8878).
    """

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        self._compressor = None if compression in (None, "none") else _compressor(sink, str(compression))
        self._sink: Sink = self._compressor or sink
        self._explicit_nulls = explicit_nulls

    def write(self, batch: pa.RecordBatch) -> None:
        for chunk in json_lines(batch, explicit_nulls=self._explicit_nulls):
            self._sink.write(chunk)

    def close(self) -> None:
        if self._compressor:
            self._compressor.close()


class Parquet:
    """Parquet 2.6 (parquet-format) with page checksums, zstd by default, rows in order.

    JSON columns become strings of the type JSON, which `datasets` reads as values (see `features`). `#keys` fields are
    dropped, and with them the key order of objects and the difference between null and absent keys: Parquet has
    neither. Row groups hold about 16 MB. Columns of `schema` that a batch lacks become null; a batch with an additional
    column raises OutputError.
    """

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        import pyarrow.parquet as pq  # imports ssl and file systems, which JSON Lines do not need

        self._schema = schema
        stored = parquet_schema(schema)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(ArrowSink(sink), mode="w"),
            stored,
            compression=compression or "zstd",
            use_dictionary=[path for path, kind in _short_columns(stored) if not pa.types.is_floating(kind)],
            write_statistics=[path for path, _ in _short_columns(stored)],
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
                try:
                    self._writer.write_table(table, row_group_size=len(table))
                except pa.ArrowInvalid as error:
                    raise _unstored(str(error)) from None


class ArrowSink:
    """Wrap a sink in the file interface that pyarrow requires; it only uses `write`."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _unstored(problem: str) -> OutputError:
    return OutputError(
        f"Parquet cannot store a column: {problem}",
        hint="write JSON Lines with `--format jsonl`, or leave the column out of `--keep`",
        code="output.schema",
    )


def parquet_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the Parquet file for batches of `schema`: JSON as JSON_COLUMN, without `#keys`.

    Its metadata says to `datasets` what the types do not: that a string is JSON, or that bytes are an image.
    """
    fields = [pa.field(field.name, _stored_type(field.type)) for field in schema if field.name != KEYS]
    return pa.schema(fields, metadata=to_metadata(schema) or None)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if kind == JSON:
        return JSON_COLUMN
    if pa.types.is_list(kind):
        return pa.list_(_stored_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(item.name, _stored_type(item.type)) for item in kind if item.name != KEYS])
    return kind


def to_parquet(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the columns of `schema` as Parquet stores them, missing ones null.

    Raises OutputError for additional columns.
    """
    stored, names = set(schema.names), set(batch.schema.names)
    if extra := [name for name in batch.schema.names if name != KEYS and name not in stored]:
        raise OutputError(
            f"a row has the column `{extra[0]}`, which is not in the output schema",
            hint="name the columns with `--keep`, or write JSON Lines with `--format jsonl`",
            code="output.schema",
        )
    columns = [
        _to_stored(batch.column(name), kind) if name in names else pa.nulls(len(batch), _stored_type(kind))
        for name, kind in zip(schema.names, schema.types, strict=True)
        if name != KEYS
    ]
    return pa.RecordBatch.from_arrays(columns, schema=parquet_schema(schema))


def _to_stored(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the column as Parquet stores the output type `kind`; JSON holds any value, a string only strings."""
    if kind == JSON:
        texts = (column if column.type == JSON else to_json(column)).cast(JSON_COLUMN.storage_type)
        return pa.ExtensionArray.from_storage(JSON_COLUMN, texts)
    if pa.types.is_struct(kind) and pa.types.is_struct(column.type):
        return _to_stored_struct(column, kind)
    if pa.types.is_list(kind) and pa.types.is_list(column.type):
        return _to_stored_list(column, kind)
    if column.type == kind:
        return column
    return _cast(column, kind)


def _to_stored_list(column: pa.ListArray, kind: pa.ListType) -> pa.ListArray:
    if column.offset and column.null_count:  # from_arrays refuses a mask on sliced offsets
        column = pa.concat_arrays([column, pa.nulls(0, column.type)])
    mask = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(column.offsets, _to_stored(column.values, kind.value_type), mask=mask)


def _to_stored_struct(column: pa.StructArray, kind: pa.StructType) -> pa.StructArray:
    fields = fields_of(column)
    wanted = [field for field in kind if field.name != KEYS]
    if extra := [name for name in fields if name != KEYS and kind.get_field_index(name) < 0]:
        raise OutputError(
            f"a message has the key `{extra[0]}`, which is not in the output schema",
            hint="write JSON Lines with `--format jsonl`",
            code="output.schema",
        )
    columns = [
        _to_stored(fields[field.name], field.type)
        if field.name in fields
        else pa.nulls(len(column), _stored_type(field.type))
        for field in wanted
    ]
    mask = column.is_null() if column.null_count else None
    return pa.StructArray.from_arrays(columns, names=[field.name for field in wanted], mask=mask)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.null_count == len(column):
        return pa.nulls(len(column), _stored_type(kind))
    if column.type == JSON:
        raise OutputError(
            f"a column is `{kind}` in some rows and another JSON type in others, which Parquet cannot store",
            hint="write JSON Lines with `--format jsonl`",
            code="output.schema",
        )
    return column.cast(kind)


def _short_columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Return the Parquet paths and types of the columns that do not hold long text."""
    return [leaf for field in schema for leaf in _leaves(field, "")]


def _leaves(field: pa.Field, parent: str) -> Iterator[tuple[str, pa.DataType]]:
    path, kind = parent + field.name, field.type
    if pa.types.is_list(kind):
        yield from _leaves(pa.field("element", kind.value_type), f"{path}.list.")
    elif pa.types.is_struct(kind):
        for item in kind:
            yield from _leaves(item, f"{path}.")
    elif field.name not in LONG_TEXT and not (kind == JSON_COLUMN and parent.endswith(".list.")):
        yield path, kind


def _compressor(sink: Sink, name: str) -> Compressor:
    if name not in COMPRESSIONS:
        raise UnknownName.of("compression", name, COMPRESSIONS)
    return COMPRESSIONS[name](sink)


def _gz(sink: Any) -> Compressor:
    return gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0, compresslevel=GZIP_LEVEL)


def _zst(sink: Any) -> Compressor:
    import zstandard

    return zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(sink, closefd=False)


COMPRESSIONS: dict[str, Callable[[Any], Compressor]] = {
    "gz": _gz,
    "zst": _zst,
    "bz2": partial(bz2.BZ2File, mode="wb"),
    "xz": partial(lzma.LZMAFile, mode="wb"),
}
"""Compressions of JSON Lines, by file suffix."""
PARQUET_COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")

FORMATS: dict[str, Callable[..., Encoder]] = {"jsonl": JsonLines, "parquet": Parquet}
