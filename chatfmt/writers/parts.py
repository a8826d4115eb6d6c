"""Temporary Arrow IPC files for the reorder pass, which reads their rows in any order.

Arrow IPC file format (arrow.apache.org/docs/format/Columnar.html), uncompressed so that it can be mapped into memory,
with one record batch per written batch. The columns are those of the output as Parquet stores them, or one column
`#line` with encoded lines of JSON Lines, line ends included. The last column is TAG.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .encoders import ArrowSink, Encoder, Sink, parquet_schema, to_parquet
from .json_lines import BYTES, LINE, json_lines

TAG = "#chatfmt.tag"
"""A column of 40 bytes per row: two hashes of its conversation (16 each), the row of that in its batch (4), and the
number of its tokens (4), 0 if they are not counted."""
TAG_TYPE = pa.binary(40)
_LINE_FEED = ord("\n")


def tag_bytes(tags: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bytes of a TAG column, one row each."""
    width = TAG_TYPE.byte_width
    return np.frombuffer(tags.buffers()[1], np.uint8)[tags.offset * width :][: len(tags) * width].reshape(-1, width)


def token_counts(tags: pa.Array) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the number of tokens of each row."""
    return np.ascontiguousarray(tag_bytes(tags)[:, 36:]).view(np.uint32).ravel()


class LinePart:
    """A part file of encoded JSON lines; the schema is not used."""

    def __init__(
        self, sink: Sink, schema: pa.Schema, compression: str | None = None, *, explicit_nulls: bool = False
    ) -> None:
        self._writer = _writer(sink, pa.schema([(LINE, BYTES)]))
        self._explicit_nulls = explicit_nulls

    def write(self, batch: pa.RecordBatch) -> None:
        text = b"".join(json_lines(batch.drop_columns([TAG]), explicit_nulls=self._explicit_nulls))
        self._writer.write_batch(pa.RecordBatch.from_arrays([_split_lines(text), batch.column(TAG)], names=[LINE, TAG]))

    def close(self) -> None:
        self._writer.close()


class ColumnPart:
    """A part file for Parquet output: the columns of `schema` as Parquet stores them."""

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


def _split_lines(text: bytes) -> pa.Array:
    """Split encoded lines; a line feed never occurs inside JSON text."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _LINE_FEED) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return pa.Array.from_buffers(BYTES, len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(text)])


class PartFile:
    """The batches of a part file, mapped into memory: they are read on access.

    `release` gives back the memory of what was read so far, which would otherwise grow to the size of all part files;
    the batches stay readable.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._mapped)))
        self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]

    def release(self) -> None:
        if sys.platform == "linux":  # where the pages of a file are read again when they are used again
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Forget the batches; the file is unmapped when nothing refers to them."""
        self.batches = []
        del self._mapped


PARTS: dict[str, Callable[..., Encoder]] = {"jsonl-part": LinePart, "parquet-part": ColumnPart}
"""The formats of part files; not offered as output formats."""
