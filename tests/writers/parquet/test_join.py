"""Parquet files joined by copying their pages."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.errors import OutputError
from chatfmt.writers import ShardWriter
from chatfmt.writers.parquet import check, footer, join

from ..samples import batch


def parquet_part(path: Path, rows: pa.RecordBatch) -> Path:
    with ShardWriter(path, "parquet", rows.schema) as writer:
        writer.write(rows)
    return path


def test_parquet_parts_are_joined_without_being_decoded(tmp_path: Path) -> None:
    parts = [parquet_part(tmp_path / f"{place}", batch(place * 500, 500)) for place in range(20)]
    parts.append(parquet_part(tmp_path / "none", batch(0, 0)))
    with (tmp_path / "x").open("wb") as sink:
        join.join_parquet(parts, sink)
    assert check.find_damage(tmp_path / "x", 10_000) == ""
    file = pq.ParquetFile(tmp_path / "x", page_checksum_verification=True)
    table = file.read()
    table.validate(full=True)
    assert table.equals(pa.concat_tables([pq.ParquetFile(part).read() for part in parts]))
    assert file.schema_arrow.equals(pq.ParquetFile(parts[0]).schema_arrow)
    assert file.num_row_groups == 20
    bytes_of_pages = [footer.read_footer(memoryview(part.read_bytes()))[1] - 4 for part in parts]
    joined = (tmp_path / "x").read_bytes()
    assert footer.read_footer(memoryview(joined))[1] - 4 == sum(bytes_of_pages)
    assert joined[4 : 4 + bytes_of_pages[0]] == parts[0].read_bytes()[4 : 4 + bytes_of_pages[0]]


def test_one_part_joined_is_the_part(tmp_path: Path) -> None:
    part = parquet_part(tmp_path / "part", batch(0, 100))
    sink = io.BytesIO()
    join.join_parquet([part], sink)
    assert sink.getvalue() == part.read_bytes()


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    parts = [parquet_part(tmp_path / "a", batch()), parquet_part(tmp_path / "b", pa.record_batch({"n": [1]}))]
    with pytest.raises(OutputError, match="the part `b` has other columns than those before it"):
        join.join_parquet(parts, io.BytesIO())
