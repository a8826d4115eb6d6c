"""JSON Lines: one object per line, UTF-8; https://jsonlines.org.

A line ends only at `\\n`; U+2028, U+0085, U+000B and a lone CR do not end it. CRLF is accepted, and so is a byte order
mark at byte 0. A line of only spaces, tabs and CR is not a record, but counts as a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain

import pyarrow as pa
from msgspec import Struct

from ..json.record_batch import SHOWN_BYTES, Record, field_batch, object_batches, report_bad, too_large_error
from ..json.strict import BOM
from ..json.structure import Positions
from ..json.uniform_lines import line_ends, uniform_fields
from ..model import LineRun, ReadOptions


class TextPosition(Struct, frozen=True):
    """A position in a file where a record may begin: record number, line (from 1) and byte."""

    row: int = 0
    line: int = 1
    byte: int = 0


def read_lines(chunks: Iterable[bytes], start: TextPosition, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Yield source batches of the lines in `chunks`, at most `batch_rows` lines each."""
    longest = options.max_row_bytes
    chunks, bom = without_bom(chunks) if start.byte == 0 else (chunks, 0)
    row, line, byte = start.row, start.line, start.byte + bom
    misses = 0
    for block, too_long in line_blocks(chunks, longest):
        if too_long:
            report_bad(too_large_error(longest), Record(block, row, line, byte), options.on_bad)
            row, line, byte = row + 1, line + 1, byte + too_long
            continue
        for part, ends in _parts(block, options.batch_rows):
            is_worth_it = misses < _MISSES and _SMALL < len(part) <= longest
            found = uniform_fields(part, ends) if is_worth_it else None
            misses = 0 if found else misses + is_worth_it
            if found:
                records = lines = len(ends)
                batches = [field_batch(found, range(row, row + lines))]
            else:
                batches, records, lines = _batches(part, TextPosition(row, line, byte), options)
            if options.on_lines is not None and records == lines:
                options.on_lines(LineRun(row, line, records))
            row, line, byte = row + records, line + lines, byte + len(part)
            yield from batches


_SMALL = 32 << 10
"""Bytes of a part up to which the strict parser is faster, since `pyarrow.json` takes milliseconds to start."""
_MISSES = 3
"""After so many parts in a row that are not uniform, no more are tried: the strict parser alone is faster then."""


def _parts(block: bytes, lines: int) -> Iterator[tuple[bytes, Positions]]:
    """Yield the block in parts of at most so many lines, with the end of each line."""
    ends = line_ends(block)
    if len(ends) <= lines:
        yield block, ends
        return
    start = 0
    for first in range(0, len(ends), lines):
        some = ends[first : first + lines]
        stop = int(some[-1]) + 1
        yield block[start:stop], some - start
        start = stop


def without_bom(chunks: Iterable[bytes]) -> tuple[Iterator[bytes], int]:
    """Strip a leading byte order mark; return the chunks and its length."""
    rest, head = iter(chunks), b""
    while len(head) < len(BOM) and (chunk := next(rest, b"")):
        head += chunk
    bom = len(BOM) if head.startswith(BOM) else 0
    return chain([head[bom:]], rest), bom


def _batches(part: bytes, start: TextPosition, options: ReadOptions) -> tuple[list[pa.RecordBatch], int, int]:
    """The batches of some lines, and the numbers of records and of lines."""
    lines = part.split(b"\n")
    if not lines[-1]:
        lines.pop()
    places = [index for index, line in enumerate(lines) if not _is_blank(line)]
    raws = lines if len(places) == len(lines) else [lines[index] for index in places]
    starts: list[int] = []

    def record_at(index: int) -> Record:
        if not starts:
            starts.extend(accumulate((len(line) + 1 for line in lines), initial=start.byte))
        place = places[index]
        return Record(raws[index].removesuffix(b"\r"), start.row + index, start.line + place, starts[place])

    rows = range(start.row, start.row + len(raws))
    return object_batches(raws, rows, record_at, options), len(raws), len(lines)


def _is_blank(line: bytes) -> bool:
    return line[:1] in _BLANKS and not line.strip(b" \t\r")


_BLANKS = (b"", b" ", b"\t", b"\r")


def line_blocks(chunks: Iterable[bytes], max_row_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole lines, each with 0; for a line that is too long, its beginning and its length in bytes."""
    parts: list[bytes] = []
    held = skipped = 0
    for chunk in chunks:
        if skipped:
            end = chunk.find(b"\n") + 1
            skipped += end or len(chunk)
            if not end:
                continue
            yield parts[0], skipped
            parts, held, skipped, chunk = [], 0, 0, chunk[end:]
        end = chunk.rfind(b"\n") + 1
        if end and end == len(chunk) and not held:
            yield chunk, 0
            continue
        if end:
            yield b"".join([*parts, memoryview(chunk)[:end]]), 0
            parts, held, chunk = [], 0, chunk[end:]
        parts.append(chunk)
        held += len(chunk)
        if held > max_row_bytes:
            parts, skipped = [b"".join(parts)[:SHOWN_BYTES]], held
    if skipped:
        yield parts[0], skipped
    elif held:
        yield b"".join(parts), 0
