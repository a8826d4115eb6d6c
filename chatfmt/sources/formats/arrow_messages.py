"""Read from the messages of Arrow files and streams how many rows and bytes their batches claim to hold.

pyarrow makes room for what the buffers of a compressed batch say that they unpack to, and has no limit. Messages are
FlatBuffers, https://flatbuffers.dev/internals/, with the fields of
https://github.com/apache/arrow/blob/main/format/Message.fbs and File.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from itertools import compress
from typing import Any

import pyarrow as pa
from msgspec import Struct

_CONTINUES = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3


class Message(Struct, frozen=True):
    """A batch of rows, or of the values of a dictionary, with the bytes that each of its buffers unpacks to."""

    is_batch: bool
    rows: int
    sizes: list[int]

    def unpacked(self, wanted: Sequence[bool]) -> int:
        """Return the bytes of the wanted buffers of a batch; of all if there are others, as views of text have."""
        some = self.is_batch and len(self.sizes) == len(wanted)
        return sum(compress(self.sizes, wanted) if some else self.sizes)


def buffers_of(type: pa.DataType) -> int:
    """Return the number of buffers that a column of a type has in a batch, but for views of text.

    https://arrow.apache.org/docs/format/Columnar.html#buffer-listing-for-each-layout
    """
    stored = type.storage_type if isinstance(type, pa.BaseExtensionType) else type
    unmasked = any(test(stored) for test in (pa.types.is_null, pa.types.is_union, pa.types.is_run_end_encoded))
    inner = sum(buffers_of(stored.field(place).type) for place in range(stored.num_fields))
    return int(stored.num_buffers) - unmasked + inner


def stream_messages(file: BufferedIOBase) -> Iterator[Message]:
    """Yield the batches of a stream, in order; raises ValueError for damage."""
    at: int | None = 0
    while at is not None:
        message, at = _message(file, at)
        if message is not None:
            yield message


def file_messages(file: BufferedIOBase) -> Iterator[Message]:
    """Yield the dictionaries of a file, then its batches, as its footer lists them; raises ValueError for damage."""
    end = file.seek(-10, 2)
    (size,) = struct.unpack("<i", file.read(4))
    footer = _Table.root(_read(file, end - size, size))
    for field in (_DICTIONARY, _BATCH):
        for at, *_ in footer.items(field, "<qi4xq"):
            message, _ = _message(file, at)
            if message is not None:
                yield message


def _message(file: BufferedIOBase, at: int) -> tuple[Message | None, int | None]:
    """Return the batch in the message at a byte, if it has one, and where the next begins; None at the end."""
    file.seek(at)
    head = file.read(8)
    start, size = (at + 8, head[4:]) if head.startswith(_CONTINUES) else (at + 4, head[:4])
    length = int.from_bytes(size, "little")
    if not length:
        return None, None
    table = _Table.root(_read(file, start, length))
    kind, body, end = table.number(1, "<B"), start + length, start + length + table.number(3)
    if end < body:
        raise ValueError("a message of negative size")
    if kind not in (_DICTIONARY, _BATCH):
        return None, end
    batch = table.table(2) if kind == _BATCH else table.table(2).table(1)
    sizes = batch.items(2, "<qq")
    unpacked = [_unpacked(file, body + offset, size) if batch.has(3) else size for offset, size in sizes]
    return Message(kind == _BATCH, batch.number(0) if kind == _BATCH else 0, unpacked), end


def _unpacked(file: BufferedIOBase, at: int, size: int) -> int:
    """Return the size that comes before the bytes of a compressed buffer; -1 says that they are not compressed."""
    if size <= 0:
        return 0
    (found,) = struct.unpack("<q", _read(file, at, 8))
    return size - 8 if found == -1 else max(int(found), 0)


def _read(file: BufferedIOBase, at: int, size: int) -> bytes:
    """Return bytes of a file; a size that is far too large costs nothing."""
    end = file.seek(0, 2)
    if not 0 <= at <= at + size <= end:
        raise ValueError("a message goes beyond the end of the file")
    file.seek(at)
    return file.read(size)


class _Table(Struct, frozen=True):
    """A table of a FlatBuffer, at a byte of its data; raises ValueError for places outside."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, 0)._table_at(0)

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def number(self, field: int, form: str = "<q") -> int:
        """Return a number; 0 without it."""
        place = self._place(field)
        return 0 if place is None else int(self._unpack(form, place)[0])

    def table(self, field: int) -> _Table:
        return self._table_at(self._existing(field))

    def items(self, field: int, form: str) -> Iterator[tuple[Any, ...]]:
        """Return an iterator of the structs in a vector."""
        place = self._place(field)
        if place is None:
            return iter(())
        start = place + self._unpack("<I", place)[0]
        (count,) = self._unpack("<I", start)
        found = self.data[start + 4 : start + 4 + count * struct.calcsize(form)]
        if len(found) < count * struct.calcsize(form):
            raise ValueError("a list goes beyond the end of its message")
        return struct.iter_unpack(form, found)

    def _existing(self, field: int) -> int:
        place = self._place(field)
        if place is None:
            raise ValueError("a message lacks a field")
        return place

    def _place(self, field: int) -> int | None:
        table = self.at - self._unpack("<i", self.at)[0]
        if 6 + 2 * field > self._unpack("<H", table)[0]:
            return None
        return self.at + offset if (offset := self._unpack("<H", table + 4 + 2 * field)[0]) else None

    def _table_at(self, place: int) -> _Table:
        return _Table(self.data, place + self._unpack("<I", place)[0])

    def _unpack(self, form: str, at: int) -> tuple[Any, ...]:
        if not 0 <= at <= len(self.data) - struct.calcsize(form):
            raise ValueError("a message points outside of itself")
        return struct.unpack_from(form, self.data, at)
