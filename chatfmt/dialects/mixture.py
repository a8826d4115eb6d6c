"""Files whose rows speak different dialects: each row is read by the one that fits it, and the order is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from .. import schema
from ..errors import DialectError, Location, NoDialect
from .columns import Columns, Record, records_of
from .detect import Dialect, Reading, admissible, reading_of
from .output import encode_rows

Parts = tuple[tuple[str, str], ...]


def mixed(registry: Mapping[str, Dialect]) -> Dialect:
    """The dialect that reads each row by the first of `registry` that fits it; errors name the row of the batch."""
    summary = "rows that speak different dialects"
    return Dialect(partial(by_fit, registry), partial(_any, registry), summary, _all_parts(registry), asked=True)


def by_fit(registry: Mapping[str, Dialect], batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Each row as the dialect that fits it makes it; raises DialectError `col.missing` where none does."""
    candidates = admissible(registry, columns)
    groups: dict[tuple[str, Parts], list[int]] = {}
    for row, record in enumerate(records_of(batch)):
        name, found_parts = _reading(record, candidates, columns, row)
        groups.setdefault((name, tuple(sorted(found_parts.items()))), []).append(row)
    if len(groups) == 1:
        (name, parts), _ = next(iter(groups.items()))
        return registry[name].convert(batch, columns.adding(dict(parts)))
    found: dict[int, list[dict[str, Any]]] = {}
    for (name, parts), rows in groups.items():
        converted = _convert(registry[name], batch.take(pa.array(rows)), columns.adding(dict(parts)), rows)
        numbers = dict(zip(batch.column(schema.ROW).take(pa.array(rows)).to_pylist(), rows, strict=True))
        for record in _records(converted):
            found.setdefault(numbers[record["row"]], []).append(record)
    return _together([record for row in sorted(found) for record in found[row]])


def _any(registry: Mapping[str, Dialect], record: Record, columns: Columns) -> Mapping[str, str] | None:
    reading = reading_of(record, admissible(registry, columns), columns)
    return None if reading is None else {}


def _all_parts(registry: Mapping[str, Dialect]) -> frozenset[str]:
    return frozenset().union(*(dialect.parts for dialect in registry.values()))


def _reading(record: Record, candidates: Mapping[str, Dialect], columns: Columns, row: int) -> Reading:
    try:
        found = reading_of(record, candidates, columns)
    except NoDialect as error:
        raise DialectError(error.message, hint=error.hint, at=Location(row=row), code="col.ambiguous") from None
    if found is None:
        raise DialectError(
            "no dialect fits the row",
            hint="map its columns with --map, or leave it out with --on-error skip",
            at=Location(row=row),
            code="col.missing",
        )
    return found


def _convert(dialect: Dialect, batch: pa.RecordBatch, columns: Columns, rows: Sequence[int]) -> pa.RecordBatch:
    try:
        return dialect.convert(batch, columns)
    except DialectError as error:
        if error.at.row is not None:
            error.at = replace(error.at, row=rows[error.at.row])
        raise


def _records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return schema.decode_objects(dict(zip(batch.schema.names, batch.columns, strict=True)))


def _together(records: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """One CONVERSATIONS batch of records that have different columns."""
    kept = list(dict.fromkeys(name for record in records for name in record if name not in schema.CONVERSATIONS))
    fields = {"row": pa.array([record["row"] for record in records], pa.int64()), **encode_rows(records)}
    fields |= schema.encode_objects([{name: record[name] for name in kept if name in record} for record in records])
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))
