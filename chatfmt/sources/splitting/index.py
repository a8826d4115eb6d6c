"""Count the records of a file and find where they start, without parsing them if possible."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import located
from ..bytes.compression import CHUNK
from ..bytes.text import content, is_seekable
from ..formats.arrow import arrow_rows
from ..formats.columnar import open_parquet
from ..formats.csv import read_header, read_records
from ..formats.json_array import elements
from ..formats.json_document import document_records
from ..formats.jsonl import TextPosition, line_blocks, without_bom
from ..json.record_batch import Record
from ..json.strings import find_all
from ..model import InputSplit, LineRun, ParseOptions, SourceFile

_SPACE = b" \t\r\n"
_SPACES = np.isin(np.arange(256), list(_SPACE))


class RecordIndex(Struct, frozen=True):
    """Positions of some records (`marks`), in order, and the number of `rows`, up to where counting stopped.

    A file that cannot be read from the middle (compressed, recoded, a document) has no marks.
    """

    marks: tuple[TextPosition, ...]
    rows: int
    columns: tuple[str, ...] | None = None


def index_file(file: SourceFile, options: ParseOptions, limit: int | None = None) -> RecordIndex:
    """Index a text file, or count the rows of any other; counting may stop at `limit` rows."""
    if file.format == "parquet":
        with open_parquet(file.uri, file.shown) as opened:
            return RecordIndex((), opened.metadata.num_rows)
    if file.format == "arrow":
        return RecordIndex((), arrow_rows(file.uri, file.shown))
    if file.format == "jsonl" and options.field is None:
        marks, rows = _line_marks(content(file, options), options.max_row_bytes, limit)
        return RecordIndex(tuple(marks) if is_seekable(file, options) else (), rows)
    with located(file.shown):
        starts, columns = _record_starts(file, options)
        marks, rows = _sparse(islice(starts, limit))
    return RecordIndex(tuple(marks) if is_seekable(file, options) else (), rows, columns)


def find_record(file: SourceFile, options: ParseOptions, found: RecordIndex, row: int) -> TextPosition:
    """The position of record `row`, one of those counted; of the next good one, or the end, if it is damaged."""
    mark = found.marks[bisect_right(found.marks, row, key=lambda start: start.row) - 1]
    if mark.row == row:
        return mark
    with located(file.shown):
        starts = (start for start in positions_from(file, options, mark) if start.row >= row)
        return next(starts, TextPosition(found.rows, byte=file.size))


def record_positions(file: SourceFile | InputSplit, options: ParseOptions) -> Iterator[TextPosition]:
    """Yield where the records of a text file begin; those of a document have only their numbers."""
    if file.format == "jsonl" and options.field is None:
        chunks, bom = without_bom(content(file, options))
        return _line_starts(chunks, TextPosition(byte=bom), options.max_row_bytes)
    return _record_starts(file, options)[0]


def positions_from(file: SourceFile | InputSplit, options: ParseOptions, mark: TextPosition) -> Iterator[TextPosition]:
    """Yield where the records of a text file begin, from one that begins at `mark` on."""
    chunks = content(file, options, mark.byte)
    if file.format == "jsonl":
        return _line_starts(chunks, mark, options.max_row_bytes)
    if file.format == "json":
        found = elements(chunks, mark, options.max_row_bytes)
        return map(_position, found)
    records = read_records(chunks, mark, format=file.format, options=options, on_bad=_ignore)
    return (_position(record_of()) for _, record_of in records)


def _record_starts(
    file: SourceFile | InputSplit, options: ParseOptions
) -> tuple[Iterator[TextPosition], tuple[str, ...] | None]:
    if options.field is not None:
        return (
            TextPosition(row) for row, _ in enumerate(document_records(content(file, options), file, options.field))
        ), None
    chunks = content(file, options)
    if file.format == "json":
        found = elements(chunks, TextPosition(), options.max_row_bytes)
        return map(_position, found), None
    start = TextPosition(-1 if options.header else 0)
    records = read_records(chunks, start, format=file.format, options=options, on_bad=_ignore)
    columns, records = read_header(records, options)
    return (_position(record_of()) for _, record_of in records), columns


def line_runs(chunks: Iterable[bytes], start: TextPosition, longest: int) -> Iterator[LineRun]:
    """Yield the runs of the records of JSON Lines, which end at blank lines."""
    row, line = start.row, start.line
    for block, too_long in line_blocks(chunks, longest):
        starts = np.zeros(1, np.int64) if too_long else _starts(block)
        first = 0
        for blank in (*([] if too_long else _blank_lines(block, starts)), len(starts)):
            if blank > first:
                yield LineRun(row, line + first, blank - first)
                row += blank - first
            first = blank + 1
        line += len(starts)


def _position(record: Record) -> TextPosition:
    return TextPosition(record.row, record.line, record.byte)


def _ignore(error: object, raw: bytes) -> None:
    return None


def _sparse(starts: Iterable[TextPosition]) -> tuple[list[TextPosition], int]:
    """A mark about every 4 MiB, and the number of records."""
    marks: list[TextPosition] = []
    rows = 0
    for start in starts:
        rows = start.row + 1
        if not marks or start.byte >= marks[-1].byte + CHUNK:
            marks.append(start)
    return marks, rows


def _line_marks(chunks: Iterable[bytes], longest: int, limit: int | None) -> tuple[list[TextPosition], int]:
    """A mark about every 4 MiB, and the number of records: lines that are not blank."""
    chunks, bom = without_bom(chunks)
    marks: list[TextPosition] = []
    row, line, byte = 0, 1, bom
    for block, too_long in line_blocks(chunks, longest):
        if limit is not None and row >= limit:
            break
        marks.append(TextPosition(row, line, byte))
        starts = np.zeros(1, np.int64) if too_long else _starts(block)
        blank = 0 if too_long else len(_blank_lines(block, starts))
        row, line, byte = row + len(starts) - blank, line + len(starts), byte + (too_long or len(block))
    return marks, row if limit is None else min(row, limit)


def _starts(block: bytes) -> npt.NDArray[np.int64]:
    """Offsets of the lines of `block`."""
    starts = np.concatenate([[0], find_all(np.frombuffer(block, np.uint8), b"\n") + 1])
    return starts[:-1] if starts[-1] == len(block) else starts


def _blank_lines(block: bytes, starts: npt.NDArray[np.int64]) -> list[int]:
    """The lines of `block` that are blank, by number."""
    lines = np.flatnonzero(_SPACES[np.frombuffer(block, np.uint8)[starts]]).tolist()
    return [line for line in lines if _is_blank(block, int(starts[line]))]


def _is_blank(block: bytes, start: int) -> bool:
    end = block.find(b"\n", start)
    return not block[start : None if end < 0 else end].strip(b" \t\r")


def _line_starts(chunks: Iterable[bytes], mark: TextPosition, longest: int) -> Iterator[TextPosition]:
    row, line, byte = mark.row, mark.line, mark.byte
    for block, too_long in line_blocks(chunks, longest):
        starts = [0] if too_long else _starts(block).tolist()
        for start in starts:
            if too_long or block[start] not in _SPACE or not _is_blank(block, start):
                yield TextPosition(row, line, byte + start)
                row += 1
            line += 1
        byte += too_long or len(block)
