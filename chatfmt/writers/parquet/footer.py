"""The footer of a Parquet file, read without pyarrow so that it can be checked and rewritten field by field.

Layout (apache/parquet-format, README and parquet.thrift): `PAR1`, pages one after the other, the footer (a thrift
struct FileMetaData), its length in four bytes, `PAR1`. Each page is a thrift PageHeader and its compressed bytes,
whose CRC-32 the header holds. The footer holds the offset of each column chunk in the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .thrift import ThriftReader, ThriftStruct

MAGIC = b"PAR1"
NUM_ROWS, ROW_GROUPS = 3, 4  # of FileMetaData
COLUMNS, GROUP_ROWS, GROUP_OFFSET, ORDINAL = 1, 3, 5, 7  # of RowGroup
CHUNK_OFFSET, META_DATA, OFFSET_INDEX, COLUMN_INDEX = 2, 3, 4, 6  # of ColumnChunk
NUM_VALUES, SIZE, DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, BLOOM_FILTER = 5, 7, 9, 10, 11, 14  # of ColumnMetaData


def read_footer(data: memoryview) -> tuple[ThriftStruct, int]:
    """Return the FileMetaData of a Parquet file and the byte where it begins; raises ValueError for other files."""
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    if data[:4] != MAGIC or data[-4:] != MAGIC or start < len(MAGIC):
        raise ValueError("not a Parquet file")
    return ThriftReader(data[:-8], start).struct(), start


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Map a file into memory for the block."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as map:
        data = memoryview(map)
        try:
            yield data
        finally:
            data.release()
