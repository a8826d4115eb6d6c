"""Read a JSON array of objects of any length, element by element in constant memory.

Splitting only follows strings and brackets; the strict parser decides whether an element is valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ...errors import InputError, Location
from ..json.record_batch import Record, field_batch, object_batches
from ..json.structure import ScanState, structure
from ..json.uniform_lines import line_ends, uniform_fields
from ..model import ReadOptions
from .jsonl import TextPosition, without_bom

_SPACE = b" \t\r\n"


def read_elements(
    chunks: Iterable[bytes], start: TextPosition, options: ReadOptions, *, is_part: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield source batches of the elements; `start` and `is_part` as for `elements`."""
    held: list[Record] = []
    size = 0
    for record in elements(chunks, start, options.max_row_bytes, is_part=is_part):
        held.append(record)
        size += len(record.raw)
        if len(held) >= options.batch_rows or size >= options.batch_bytes:
            yield from _batches(held, options)
            held, size = [], 0
    yield from _batches(held, options)


def _batches(records: Sequence[Record], options: ReadOptions) -> Iterator[pa.RecordBatch]:
    rows = [record.row for record in records]
    lines = b"\n".join([*(record.raw for record in records), b""])
    ends = line_ends(lines)
    alike = len(ends) == len(records) and len(lines) <= options.max_row_bytes
    found = uniform_fields(lines, ends) if alike and records else None
    if found:
        yield field_batch(found, rows)
        return
    yield from object_batches([record.raw for record in records], rows, records.__getitem__, options)


def elements(
    chunks: Iterable[bytes], start: TextPosition, max_row_bytes: int, *, is_part: bool = False
) -> Iterator[Record]:
    """Yield the elements of the array; of an element longer than `max_row_bytes`, just over so many bytes.

    From byte 0 the chunks begin before the array, from any other byte at an element. With `is_part` they may also end
    after a comma. Raises InputError for data before or after the array, and for an array that does not end.
    """
    chunks, bom = without_bom(chunks) if start.byte == 0 else (chunks, 0)
    pending = _Pending(start.row, start.line, start.byte + bom, max_row_bytes)
    inside, ended = start.byte > 0, False
    for text, mark in _pieces(chunks, int(inside)):
        pending.add(text)
        if inside and mark:
            inside, ended = mark == b",", mark == b"]"
            if not (ended and pending.is_blank() and pending.is_first):
                yield pending.take()
        elif mark or (not inside and not pending.is_blank()):
            if ended or mark != b"[" or not pending.is_blank():
                hint = "write one array, or JSON Lines: one record on each line"
                raise InputError(_OUTSIDE, code="json.syntax", at=pending.location(), hint=hint)
            inside = True
        if mark:
            pending.skip(len(mark))
    if not ended and not (is_part and inside and pending.is_blank()):
        hint = "download or write the file again"
        raise InputError("the array does not end", code="file.truncated", at=pending.location(), hint=hint)


_OUTSIDE = "data outside of the array of records"


class _Pending:
    """The bytes since the last bracket or comma, and the position of the next record."""

    def __init__(self, row: int, line: int, byte: int, limit: int) -> None:
        self.row, self.line, self.byte, self.limit = row, line, byte, limit
        self.parts: list[bytes] = []
        self.size = self.lines = 0
        self.is_first = True

    def add(self, text: bytes) -> None:
        if self.size <= self.limit:
            self.parts.append(text)
        self.size += len(text)
        self.lines += text.count(b"\n")

    def is_blank(self) -> bool:
        return not any(part.strip(_SPACE) for part in self.parts)

    def take(self) -> Record:
        raw = b"".join(self.parts)
        text = raw.lstrip(_SPACE)
        lead = len(raw) - len(text)
        record = Record(text.rstrip(_SPACE), self.row, self.line + raw.count(b"\n", 0, lead), self.byte + lead)
        self.row, self.is_first = self.row + 1, False
        return record

    def skip(self, mark: int) -> None:
        self.byte, self.line = self.byte + self.size + mark, self.line + self.lines
        self.parts, self.size, self.lines = [], 0, 0

    def location(self) -> Location:
        return Location(line=self.line + self.lines, byte=self.byte + self.size)


def _pieces(chunks: Iterable[bytes], depth: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the text before each bracket or comma of the outer level, with that byte, or none at the end of a chunk."""
    state = ScanState(depth=depth)
    for chunk in chunks:
        octets = np.frombuffer(chunk, np.uint8)
        found, depths, state = structure(octets, state)
        comma = octets[found] == ord(",")
        opens = (octets[found] == ord("[")) | (octets[found] == ord("{"))
        outer = found[(depths <= 0) | ((depths == 1) & (comma | opens))].tolist()
        done = 0
        for place in outer:
            yield chunk[done:place], chunk[place : place + 1]
            done = place + 1
        yield chunk[done:], b""
