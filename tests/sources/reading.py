"""Helpers that read bytes as a source, for the tests of the readers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chatfmt.errors import RowError
from chatfmt.json_columns import decode_objects
from chatfmt.schema import ROW
from chatfmt.sources import DEFAULTS, InputSplit, ParseOptions, plan_splits, read, resolve


def rows_of(batches: Any) -> list[dict[str, Any]]:
    """The records of source batches, as plain data."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        assert isinstance(batch, pa.RecordBatch) and batch.schema.names[0] == ROW
        batch.validate(full=True)
        columns = dict(zip(batch.schema.names[1:], batch.columns[1:], strict=True))
        rows += decode_objects(columns) if columns else [{} for _ in range(batch.num_rows)]
    return rows


def numbers_of(batches: Any) -> list[int]:
    return [row for batch in batches for row in batch.column(0).to_pylist()]


def written(folder: Path, content: bytes, name: str = "x.jsonl") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def pieces(path: str, split: str | None = None, options: ParseOptions = DEFAULTS, **plan: int) -> list[InputSplit]:
    return [piece for shard in plan_splits(resolve(path, options=options), split, **plan) for piece in shard]


def read_all(path: str, options: ParseOptions = DEFAULTS, **plan: int) -> list[dict[str, Any]]:
    return [row for piece in pieces(path, options=options, **plan) for row in rows_of(read(piece))]


def bad_rows(path: str, options: ParseOptions = DEFAULTS) -> tuple[list[dict[str, Any]], list[tuple[str, Any, bytes]]]:
    """The good records of a file, and code, place and bytes of the bad ones."""
    bad: list[tuple[str, Any, bytes]] = []

    def tell(error: RowError, raw: bytes) -> None:
        bad.append((error.code, (error.at.row, error.at.line, error.at.byte), raw))

    good = [row for piece in pieces(path, options=options) for row in rows_of(read(piece, on_bad=tell))]
    return good, bad


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def sizes(path: str) -> list[int]:
    """The rows of each batch of a file that is one piece."""
    ((piece,),) = plan_splits(resolve(path))
    return [len(batch) for batch in read(piece)]
