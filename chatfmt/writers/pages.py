"""Reads a Parquet file back right after it was written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def page_problem(path: Path, rows: int) -> str:
    """What is wrong with a Parquet file that should have `rows` rows, in words; empty where every page is right."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group, use_threads=False)
            found = file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        return str(error)
    return "" if found == rows else f"it has {found} rows, not {rows}"
