"""Temporary Arrow IPC files for the reorder pass, which reads their rows in any order.

Arrow IPC file format (arrow.apache.org/docs/format/Columnar.html), uncompressed so that it can be mapped into memory,
with one record batch per written batch. The columns are those of the output as Parquet stores them, or one column
`#line` with encoded lines of JSON Lines, line ends included. The last column is TAG.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import UsageError
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


def with_tags(batch: pa.RecordBatch, hashes: Sequence[bytes], groups: Sequence[bytes]) -> pa.RecordBatch:
    """Add the column TAG, which is passed through: two hashes of each conversation and its index in the batch.

    Of conversations with the same hash, `--dedup` keeps the first; those with the same group are in the same split.
    """
    if TAG in batch.schema.names:
        raise UsageError(f"the column name `{TAG}` is reserved", hint="leave it out of --keep")
    table = np.zeros((len(batch), TAG_TYPE.byte_width), np.uint8)
    table[:, :16] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)
    table[:, 16:32] = np.frombuffer(b"".join(groups), np.uint8).reshape(-1, 16)
    table[:, 32:36] = np.arange(len(batch), dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    tags = pa.Array.from_buffers(TAG_TYPE, len(batch), [None, pa.py_buffer(table)])
    return batch.append_column(TAG, tags)


def with_token_counts(output: pa.RecordBatch) -> pa.RecordBatch:
    """Return a tagged batch with the number of tokens of each row in its tag."""
    index, tags = output.schema.get_field_index(TAG), output.column(TAG)
    counts = output.column("num_tokens") if "num_tokens" in output.schema.names else output.column("input_ids")
    counts = counts if pa.types.is_integer(counts.type) else counts.value_lengths()
    table = np.concatenate(
        [tag_bytes(tags)[:, :36], counts.to_numpy().astype(np.uint32).view(np.uint8).reshape(-1, 4)], axis=1
    )
    tags = pa.Array.from_buffers(tags.type, len(tags), [None, pa.py_buffer(np.ascontiguousarray(table))])
    return output.set_column(index, TAG, tags)


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
