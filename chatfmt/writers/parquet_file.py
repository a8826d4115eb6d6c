"""Parquet files page by page: read back right after they were written, and joined without being decoded.

Layout (apache/parquet-format, README and parquet.thrift): `PAR1`, pages one after the other, the footer (a thrift
struct FileMetaData), its length in four bytes, `PAR1`. Each page is a thrift PageHeader and its compressed bytes,
whose CRC-32 the header holds. The footer says where each column chunk begins, from the start of the file.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError
from .encoders import Sink
from .thrift import I16, I64, LIST, STRUCT, Reader, Struct, write_struct

MAGIC = b"PAR1"
NUM_ROWS, ROW_GROUPS = 3, 4  # of FileMetaData
COLUMNS, GROUP_ROWS, GROUP_OFFSET, ORDINAL = 1, 3, 5, 7  # of RowGroup
CHUNK_OFFSET, META_DATA, OFFSET_INDEX, COLUMN_INDEX = 2, 3, 4, 6  # of ColumnChunk
NUM_VALUES, SIZE, DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, BLOOM_FILTER = 5, 7, 9, 10, 11, 14  # of ColumnMetaData
PAGE_SIZE, CRC = 3, 4  # of PageHeader
DATA_HEADERS = (5, 8)  # of PageHeader: DataPageHeader and DataPageHeaderV2, whose field 1 is the number of values
MOST_ORDINALS = 1 << 15
COPY = 4 << 20


def page_problem(path: Path, rows: int) -> str:
    """What is wrong with a Parquet file that should have `rows` rows, in words; empty where all is right.

    Looks at the bytes of each page against their checksum, the number of values, and that pages lie one after the
    other from the start to the footer. Nothing is decompressed; page headers and footer have no checksum of their own.
    """
    try:
        with _mapped(path) as data:
            return _problem(data, rows)
    except (ValueError, KeyError, TypeError) as error:
        return f"its structure is broken: {error}"


def _problem(data: memoryview, rows: int) -> str:
    footer, end = read_footer(data)
    groups: list[Struct] = footer[ROW_GROUPS][1][1]
    if sum(group[GROUP_ROWS][1] for group in groups) != rows or footer[NUM_ROWS][1] != rows:
        return f"it has {footer[NUM_ROWS][1]} rows, not {rows}"
    place = len(MAGIC)
    for group in groups:
        for chunk in group[COLUMNS][1][1]:
            meta: Struct = chunk[META_DATA][1]
            if _start(meta) != place:
                return f"a column begins at byte {_start(meta)}, not {place}"
            place += meta[SIZE][1]
            if problem := _chunk_problem(data[:place], _start(meta), meta[NUM_VALUES][1]):
                return problem
    return "" if place == end else f"{end - place} bytes lie between the pages and the footer"


def _start(meta: Struct) -> int:
    """Where the pages of a column chunk begin: its dictionary, if it has one."""
    return int(meta[DICTIONARY_PAGE][1] if DICTIONARY_PAGE in meta else meta[DATA_PAGE][1])


def _chunk_problem(data: memoryview, place: int, values: int) -> str:
    while place < len(data):
        reader = Reader(data, place)
        header = reader.struct()
        page = data[reader.place : reader.place + header[PAGE_SIZE][1]]
        if CRC not in header or zlib.crc32(page) != header[CRC][1] & 0xFFFFFFFF:
            return f"the page at byte {place} differs from its checksum"
        values -= sum(header[kind][1][1][1] for kind in DATA_HEADERS if kind in header)
        place = reader.place + len(page)
    return f"{values} values of a column are missing" if values else ""


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        data = memoryview(mapped)
        try:
            yield data
        finally:
            data.release()


def read_footer(data: memoryview) -> tuple[Struct, int]:
    """The FileMetaData of a Parquet file and the byte where it begins; raises ValueError for other files."""
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    if data[:4] != MAGIC or data[-4:] != MAGIC or start < len(MAGIC):
        raise ValueError("no Parquet file")
    return Reader(data[:-8], start).struct(), start


def join_parquet(parts: Sequence[Path], sink: Sink) -> None:
    """Write Parquet files of one schema as one file into `sink`: the pages as they are, and one footer for all.

    Raises OutputError where the schemas differ.
    """
    sink.write(MAGIC)
    place, whole = len(MAGIC), None
    for part in parts:
        with part.open("rb") as file, _mapped(part) as data:
            footer, end = read_footer(data)
            whole = whole or {**footer, NUM_ROWS: (I64, 0), ROW_GROUPS: (LIST, (STRUCT, []))}
            _append(whole, footer, place - len(MAGIC), part.name)
            _copy(file, len(MAGIC), end, sink)
            place += end - len(MAGIC)
    tail = write_struct(whole or {})
    sink.write(tail + len(tail).to_bytes(4, "little") + MAGIC)


def _append(whole: Struct, footer: Struct, shift: int, name: str) -> None:
    """Add the row groups of `footer` to those of `whole`, `shift` bytes further on."""
    if any(whole.get(key) != value for key, value in footer.items() if key not in (NUM_ROWS, ROW_GROUPS)):
        raise OutputError(
            f"the part `{name}` has other columns than those before it",
            hint="write JSON Lines, or name the columns with `--keep`",
            code="output.schema",
        )
    groups: list[Struct] = whole[ROW_GROUPS][1][1]
    for group in footer[ROW_GROUPS][1][1]:
        groups.append(_moved_group(group, shift, len(groups)))
    whole[NUM_ROWS] = (I64, whole[NUM_ROWS][1] + footer[NUM_ROWS][1])


def _moved_group(group: Struct, shift: int, ordinal: int) -> Struct:
    kind, chunks = group[COLUMNS][1]
    moved = _moved(
        {**group, COLUMNS: (LIST, (kind, [_moved_chunk(chunk, shift) for chunk in chunks]))}, shift, GROUP_OFFSET
    )
    if ORDINAL in moved and ordinal < MOST_ORDINALS:
        return {**moved, ORDINAL: (I16, ordinal)}
    return {key: value for key, value in moved.items() if key != ORDINAL}


def _moved_chunk(chunk: Struct, shift: int) -> Struct:
    kind, meta = chunk[META_DATA]
    meta = _moved(meta, shift, DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, BLOOM_FILTER)
    return _moved({**chunk, META_DATA: (kind, meta)}, shift, CHUNK_OFFSET, OFFSET_INDEX, COLUMN_INDEX)


def _moved(fields: Struct, shift: int, *offsets: int) -> Struct:
    """The struct with the named offsets moved on; 0 means that the writer left it out."""
    return {
        number: (kind, value + shift) if number in offsets and value else (kind, value)
        for number, (kind, value) in fields.items()
    }


def _copy(file: BinaryIO, start: int, end: int, sink: Sink) -> None:
    file.seek(start)
    while start < end:
        piece = file.read(min(COPY, end - start))
        sink.write(piece)
        start += len(piece)
