"""Read Arrow files and streams as source batches: see `columnar`.

What a batch unpacks to is read from its message, before pyarrow makes room for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ...errors import located
from ...stores import is_remote
from ..bytes.compression import check_ratio, open_binary
from ..model import ReadOptions
from .arrow_messages import Message, buffers_of, file_messages, stream_messages
from .columnar import between, check_decoded, columns_to_read, next_batch, to_source_batch
from .columnar import translate_arrow_errors as translated
from .shared_values import PLAINLY, joined, viewed_bytes

_MAGIC = b"ARROW1"
_MOST_VIEWED = 32 << 30
"""Bytes of shared texts up to which a batch is validated whatever the size of its file: some seconds."""


def read_arrow(
    uri: str, shown: str, first_row: int, take: int | None, options: ReadOptions
) -> Iterator[pa.RecordBatch]:
    """Yield source batches of an Arrow file or stream: `take` rows from `first_row` on."""
    stop = None if take is None else first_row + take
    with translated(shown), located(shown), _opened(uri, shown, options.columns) as (names, batches):
        parts = _between(batches, shown, first_row, stop)
        row, came, size = first_row, 0, _size(uri)
        for batch in joined(parts, options.batch_rows, options.batch_bytes):
            came += batch.nbytes
            check_decoded(came, size, shown)
            yield to_source_batch(batch.select(names), shown, row)
            row += batch.num_rows


def arrow_schema(uri: str, shown: str) -> pa.Schema:
    """Return the schema of an Arrow file or stream."""
    with translated(shown), _source(uri) as (source, open_reader):
        return open_reader(source).schema


def arrow_rows(uri: str, shown: str) -> int:
    """Return the number of rows of an Arrow file or stream, as its messages say."""
    with translated(shown), open_binary(uri) as file:
        messages = file_messages(file) if file.read(6) == _MAGIC else stream_messages(file)
        return sum(message.rows for message in _bounded(messages, uri, shown))


def _between(
    batches: Iterator[pa.RecordBatch], shown: str, first_row: int, stop: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield what batches have of the rows [first_row, stop), each batch validated in full."""
    row = 0
    while (stop is None or row < stop) and (batch := next_batch(batches, shown)) is not None:
        part = between(batch, row, first_row, stop)
        row += batch.num_rows
        if part.num_rows:
            yield part


@contextmanager
def _opened(
    uri: str, shown: str, columns: Sequence[str] | None
) -> Iterator[tuple[list[str], Iterator[pa.RecordBatch]]]:
    """Yield the names of the columns to read, and the batches of a file or stream, in which only these are unpacked."""
    with _source(uri) as (source, open_reader), open_binary(uri) as file:
        reader = open_reader(source)
        names = columns_to_read(reader.schema, columns, shown) or reader.schema.names
        chosen = {*names}
        wanted = [field.name in chosen for field in reader.schema for _ in range(buffers_of(field.type))]
        if len(names) < len(reader.schema):
            source.seek(0)
            fields = [reader.schema.get_field_index(name) for name in names]
            reader = open_reader(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        is_file = open_reader is pa.ipc.open_file
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
        messages = file_messages(file) if is_file else stream_messages(file)
        yield names, _checked(batches, _bounded(messages, uri, shown, wanted), _size(uri), shown)


@contextmanager
def _source(uri: str) -> Iterator[tuple[Any, Callable[..., Any]]]:
    with open_binary(uri) if is_remote(uri) else pa.memory_map(uri) as source:
        is_file = source.read(6) == _MAGIC
        source.seek(0)
        yield source, pa.ipc.open_file if is_file else pa.ipc.open_stream


def _checked(
    batches: Iterator[pa.RecordBatch], messages: Iterator[Message], size: int, shown: str
) -> Iterator[pa.RecordBatch]:
    """Yield the batches, each after its message, and unless its views stand for more bytes than the file can mean."""
    for message in messages:
        if message.is_batch and (batch := next(batches, None)) is not None:
            batch.validate()
            if (viewed := sum(map(viewed_bytes, batch.columns))) > _MOST_VIEWED:
                check_ratio(viewed, size, shown, PLAINLY)
            yield batch
    yield from batches


def _bounded(
    messages: Iterator[Message], uri: str, shown: str, wanted: Sequence[bool] | None = None
) -> Iterator[Message]:
    """Yield messages; raises InputError before more rows, or bytes of `wanted` buffers, than the file can mean."""
    rows, came, size = 0, 0, _size(uri)
    for message in messages:
        rows, came = rows + message.rows, came + (0 if wanted is None else message.unpacked(wanted))
        check_ratio(max(rows, came), size, shown, PLAINLY)
        yield message


def _size(uri: str) -> int:
    with open_binary(uri) as file:
        return int(file.seek(0, os.SEEK_END))
