"""Join Parquet files by copying their pages and rewriting the footer: nothing is decoded.

pyarrow (26) can only decode and encode again, 0.58 s instead of 0.015 s for 25 MB; its `append_row_groups` is for
`_metadata` files, whose row groups stay in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ...errors import OutputError
from ..encoders import Sink
from .footer import (
    BLOOM_FILTER,
    CHUNK_OFFSET,
    COLUMN_INDEX,
    COLUMNS,
    DATA_PAGE,
    DICTIONARY_PAGE,
    GROUP_OFFSET,
    INDEX_PAGE,
    MAGIC,
    META_DATA,
    NUM_ROWS,
    OFFSET_INDEX,
    ORDINAL,
    ROW_GROUPS,
    mapped,
    read_footer,
)
from .thrift import I16, I64, LIST, STRUCT, ThriftStruct, write_struct

MAX_ORDINALS = 1 << 15
COPY = 4 << 20


def join_parquet(parts: Sequence[Path], sink: Sink) -> None:
    """Write Parquet files of one schema as one file into `sink`: all pages unchanged, then one footer.

    Raises OutputError if the schemas differ.
    """
    sink.write(MAGIC)
    offset, joined = len(MAGIC), None
    for part in parts:
        with part.open("rb") as file, mapped(part) as data:
            footer, end = read_footer(data)
            joined = joined or {**footer, NUM_ROWS: (I64, 0), ROW_GROUPS: (LIST, (STRUCT, []))}
            _append(joined, footer, offset - len(MAGIC), part.name)
            _copy(file, len(MAGIC), end, sink)
            offset += end - len(MAGIC)
    tail = write_struct(joined or {})
    sink.write(tail + len(tail).to_bytes(4, "little") + MAGIC)


def _append(joined: ThriftStruct, footer: ThriftStruct, shift: int, name: str) -> None:
    """Add the row groups of `footer`, moved by `shift` bytes, to those of `joined`."""
    if any(joined.get(key) != value for key, value in footer.items() if key not in (NUM_ROWS, ROW_GROUPS)):
        raise OutputError(
            f"the part `{name}` has other columns than those before it",
            hint="write JSON Lines, or name the columns with `--keep`",
            code="output.schema",
        )
    groups: list[ThriftStruct] = joined[ROW_GROUPS][1][1]
    for group in footer[ROW_GROUPS][1][1]:
        groups.append(_move_group(group, shift, len(groups)))
    joined[NUM_ROWS] = (I64, joined[NUM_ROWS][1] + footer[NUM_ROWS][1])


def _move_group(group: ThriftStruct, shift: int, ordinal: int) -> ThriftStruct:
    kind, chunks = group[COLUMNS][1]
    columns = (LIST, (kind, [_move_chunk(chunk, shift) for chunk in chunks]))
    moved = _move({**group, COLUMNS: columns}, shift, GROUP_OFFSET)
    if ORDINAL in moved and ordinal < MAX_ORDINALS:
        return {**moved, ORDINAL: (I16, ordinal)}
    return {key: value for key, value in moved.items() if key != ORDINAL}


def _move_chunk(chunk: ThriftStruct, shift: int) -> ThriftStruct:
    kind, column = chunk[META_DATA]
    column = _move(column, shift, DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, BLOOM_FILTER)
    return _move({**chunk, META_DATA: (kind, column)}, shift, CHUNK_OFFSET, OFFSET_INDEX, COLUMN_INDEX)


def _move(fields: ThriftStruct, shift: int, *offsets: int) -> ThriftStruct:
    """Return the struct with `shift` added to the fields `offsets`; 0 means that the writer left an offset out."""
    return {
        number: (kind, value + shift) if number in offsets and value else (kind, value)
        for number, (kind, value) in fields.items()
    }


def _copy(file: BinaryIO, start: int, end: int, sink: Sink) -> None:
    file.seek(start)
    while start < end:
        chunk = file.read(min(COPY, end - start))
        sink.write(chunk)
        start += len(chunk)
