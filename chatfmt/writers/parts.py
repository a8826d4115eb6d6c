"""Rows that wait to be put in another order: a file that later steps take any of them from.

Arrow IPC file format (arrow.apache.org/docs/format/Columnar.html), uncompressed, so that it can be mapped into memory;
one record batch for each batch that was written. Its columns are those of the output as Parquet stores them, or one
column `#line` with the lines of JSON Lines, line ends included. The last column is TAG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from .encoders import ArrowSink, Encoder, Sink, parquet_schema, to_parquet
from .json_lines import BYTES, LINE, json_lines

TAG = "#chatfmt.tag"
"""A column of 20 bytes a row: the hash of its conversation (16), then the place of that in its batch (4)."""
TAG_TYPE = pa.binary(20)
_LINE_FEED = ord("\n")


class LinePart:
    """A part of JSON Lines: each row as its line. The schema is not needed."""

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        self._writer = _writer(sink, pa.schema([(LINE, BYTES)]))
        self._explicit_nulls = explicit_nulls

    def write(self, batch: pa.RecordBatch) -> None:
        text = b"".join(json_lines(batch.drop_columns([TAG]), explicit_nulls=self._explicit_nulls))
        self._writer.write_batch(pa.RecordBatch.from_arrays([_cut(text), batch.column(TAG)], names=[LINE, TAG]))

    def close(self) -> None:
        self._writer.close()


class ColumnPart:
    """A part of Parquet: the columns of `schema` as Parquet stores them."""

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        self._schema = schema
        self._writer = _writer(sink, parquet_schema(schema))

    def write(self, batch: pa.RecordBatch) -> None:
        stored = to_parquet(batch.drop_columns([TAG]), self._schema)
        self._writer.write_batch(stored.append_column(TAG, batch.column(TAG)))

    def close(self) -> None:
        self._writer.close()


def _writer(sink: Sink, schema: pa.Schema) -> pa.ipc.RecordBatchFileWriter:
    return pa.ipc.new_file(pa.PythonFile(ArrowSink(sink), mode="w"), schema.append(pa.field(TAG, TAG_TYPE)))


def _cut(text: bytes) -> pa.Array:
    """The lines of the text, which JSON has no line feed in."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _LINE_FEED) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return pa.Array.from_buffers(BYTES, len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(text)])


@contextmanager
def read_part(path: Path) -> Iterator[list[pa.RecordBatch]]:
    """The batches of a part, mapped into memory: nothing is read before it is looked at, nothing may outlive this."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        yield [reader.get_batch(number) for number in range(reader.num_record_batches)]


PARTS: dict[str, Callable[..., Encoder]] = {"jsonl-part": LinePart, "parquet-part": ColumnPart}
"""How the rows of a format wait; no format of output."""
