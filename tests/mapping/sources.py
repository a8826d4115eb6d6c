"""Source batches from plain rows, as a JSON source and as a Parquet source would hand them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import pyarrow as pa

from chatfmt import json_columns, mapping, schema


def from_json(rows: Sequence[Mapping[str, Any]], first: int = 0) -> pa.RecordBatch:
    """The batch of a JSON source: text, turns and JSON text."""
    fields = json_columns.encode_objects(rows)
    numbers = pa.array(range(first, first + len(rows)), pa.int64())
    return pa.RecordBatch.from_arrays([numbers, *fields.values()], names=[schema.ROW, *fields])


def from_arrow(rows: Sequence[Mapping[str, Any]], first: int = 0) -> pa.RecordBatch:
    """The batch of a Parquet source: native types, every row with every column."""
    return pa.RecordBatch.from_pylist([{schema.ROW: first + place, **row} for place, row in enumerate(rows)])


def template(source: str) -> Callable[[Mapping[str, Any]], Any]:
    return jinja2.Environment(keep_trailing_newline=True).from_string(source).render


def expression(source: str) -> Callable[[Mapping[str, Any]], Any]:
    compiled = jinja2.Environment().compile_expression(source)
    return lambda row: compiled(**row)


def run(batch: pa.RecordBatch, fields: Mapping[str, str], **plan: Any) -> mapping.Mapped:
    """The batch after the mapping that those flags ask for."""
    return mapping.mapper(mapping.plan(fields, **plan), template, expression)(batch)


def values(batch: pa.RecordBatch, name: str) -> list[Any]:
    """One column as plain data, None for null."""
    return [row.get(name) for row in json_columns.decode_objects({name: batch.column(name)})]
