"""Read a Parquet file back after it was written, page by page, without decompressing anything."""

from __future__ import annotations

import zlib
from pathlib import Path

from .footer import (
    COLUMNS,
    DATA_PAGE,
    DICTIONARY_PAGE,
    GROUP_ROWS,
    MAGIC,
    META_DATA,
    NUM_ROWS,
    NUM_VALUES,
    ROW_GROUPS,
    SIZE,
    mapped,
    read_footer,
)
from .thrift import ThriftReader, ThriftStruct

PAGE_SIZE, CRC = 3, 4  # of PageHeader
DATA_HEADERS = (5, 8)  # of PageHeader: DataPageHeader and DataPageHeaderV2, whose field 1 is the number of values


def find_damage(path: Path, rows: int) -> str:
    """Describe the damage in a Parquet file that should have `rows` rows; empty if there is none.

    Checks the bytes of each page against their checksum, the number of values, and that the pages follow each other
    without a gap from the start to the footer. Page headers and the footer have no checksum of their own.
    """
    try:
        with mapped(path) as data:
            return _find_damage(data, rows)
    except (ValueError, KeyError, TypeError) as error:
        return f"its structure is broken: {error}"


def _find_damage(data: memoryview, rows: int) -> str:
    footer, end = read_footer(data)
    groups: list[ThriftStruct] = footer[ROW_GROUPS][1][1]
    if sum(group[GROUP_ROWS][1] for group in groups) != rows or footer[NUM_ROWS][1] != rows:
        return f"it has {footer[NUM_ROWS][1]} rows, not {rows}"
    offset = len(MAGIC)
    for group in groups:
        for chunk in group[COLUMNS][1][1]:
            column: ThriftStruct = chunk[META_DATA][1]
            start = _first_page(column)
            if start != offset:
                return f"a column begins at byte {start}, not {offset}"
            offset += column[SIZE][1]
            if damage := _find_page_damage(data[:offset], start, column[NUM_VALUES][1]):
                return damage
    return "" if offset == end else f"{end - offset} bytes lie between the pages and the footer"


def _first_page(column: ThriftStruct) -> int:
    """Return where the pages of a column chunk begin: at its dictionary, if it has one."""
    return int(column[DICTIONARY_PAGE][1] if DICTIONARY_PAGE in column else column[DATA_PAGE][1])


def _find_page_damage(data: memoryview, offset: int, values: int) -> str:
    """Check the pages of a column chunk, from `offset` to the end of `data`, which should hold `values` values."""
    while offset < len(data):
        reader = ThriftReader(data, offset)
        header = reader.struct()
        page = data[reader.offset : reader.offset + header[PAGE_SIZE][1]]
        if CRC not in header or zlib.crc32(page) != header[CRC][1] & 0xFFFFFFFF:
            return f"the page at byte {offset} differs from its checksum"
        values -= sum(header[kind][1][1][1] for kind in DATA_HEADERS if kind in header)
        offset = reader.offset + len(page)
    return f"{values} values of a column are missing" if values else ""
