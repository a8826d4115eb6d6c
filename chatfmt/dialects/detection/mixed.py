"""The dialect `mixed`: rows in different dialects, each converted by the one that fits it, in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import pyarrow as pa

from ... import json_columns, schema
from ...errors import DialectError, NoDialect, RowError, located, map_rows, raise_first, refuse_rows
from ...turn_columns import concat
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, records_of
from ..kit.output import dropped_rows, encode_rows, kept_name, unused_parts, with_dropped
from .detect import detectable
from .record_reader import Reading, RecordReader


def mixed(registry: Mapping[str, Dialect]) -> Dialect:
    """Return the dialect that converts each row with the first of `registry` that fits it."""
    parts = frozenset[str]().union(*(dialect.parts for dialect in registry.values()))
    return Dialect(
        partial(_convert, registry),
        partial(_find_parts, registry),
        "rows in different dialects",
        rank=600,
        parts=parts,
        opt_in=True,
    )


def _convert(registry: Mapping[str, Dialect], batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Convert each row with the dialect that fits it; raises DialectError `col.missing` if none does."""
    reader = RecordReader(detectable(registry, columns), columns)
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
    for row, (name, found_parts) in enumerate(map_rows(partial(_read_row, reader), records_of(batch))):
        groups.setdefault((name, tuple(sorted(found_parts.items()))), []).append(row)
    numbers = {number: row for row, number in enumerate(batch.column(schema.ROW).to_pylist())}
    if len(groups) == 1:
        ((name, parts),) = groups
        return _as_type(registry[name].convert(batch, columns.adding(dict(parts))), columns.type, numbers)
    found: dict[int, list[dict[str, Any]]] = {}
    dropped: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    errors: list[RowError] = []
    for (name, parts), rows in groups.items():
        try:
            with located(rows=rows):
                some = json_columns.with_own_types(batch.take(pa.array(rows)))
                converted = registry[name].convert(some, columns.adding(dict(parts)))
            dropped, unused = dropped + dropped_rows(converted), unused + unused_parts(converted)
            converted = _as_type(converted, columns.type, numbers)
        except RowError as error:
            errors += (error, *error.others)
            continue
        for record in _records(converted):
            found.setdefault(numbers[record["row"]], []).append(record)
    raise_first(errors)
    return with_dropped(_to_batch([record for row in sorted(found) for record in found[row]]), dropped, unused)


def _as_type(batch: pa.RecordBatch, wanted: str, numbers: Mapping[int, int]) -> pa.RecordBatch:
    """Return the conversations as the dataset type `wanted` (any, if empty), prompt and completion joined.

    Raises DialectError `row.type` for rows of another type; `numbers` has their indices in the source batch.
    """
    names = set(batch.schema.names)
    column = next((name for name in TYPE_BY_COLUMN if name in names), "row")
    found = TYPE_BY_COLUMN.get(column, "language-modeling")
    if wanted and found != wanted and len(batch):
        text, hint = f"the row is {found} data, the others are {wanted} data", "--on-error skip drops such rows"
        rows = batch.filter(batch.column(column).is_valid()).column("row").unique().to_pylist()
        refuse_rows(map(numbers.__getitem__, rows), lambda row: DialectError(text, hint=hint, code="row.type"))
    if wanted != "language-modeling" or "messages" in names or not {"prompt", "completion"} <= names:
        return batch
    fields = json_columns.columns_of(batch)
    joined = {"row": fields.pop("row"), "messages": concat(fields.pop("prompt"), fields.pop("completion")), **fields}
    return pa.RecordBatch.from_arrays(list(joined.values()), names=list(joined))


TYPE_BY_COLUMN = {
    "chosen": "preference", "label": "unpaired-preference", "completions": "stepwise", "segments": "segments",
    "messages": "language-modeling", "completion": "language-modeling", "prompt": "prompt-only", "text": "text",
}  # fmt: skip
"""The dataset type of a batch, by the first of these columns that it has."""


def _find_parts(registry: Mapping[str, Dialect], record: SourceRow, columns: Columns) -> Mapping[str, str] | None:
    return None if RecordReader(detectable(registry, columns), columns)(record) is None else {}


def _read_row(reader: RecordReader, record: SourceRow) -> Reading:
    try:
        found = reader(record)
    except NoDialect as error:
        raise DialectError(error.message, hint=error.hint, code="col.ambiguous") from None
    if found is None:
        raise DialectError(
            "no dialect fits the row",
            hint="map its columns with --map, or drop it with --on-error skip",
            code="col.missing",
        )
    return found


def _records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    fields = json_columns.columns_of(batch)
    names = [name for name in fields if name not in schema.CONVERSATIONS]
    kept = {name.removeprefix(schema.KEPT): fields.pop(name) for name in names}  # `#keys` has their own names
    others = json_columns.decode_objects(kept) or repeat(dict[str, Any]())
    return [
        own | {kept_name(name): value for name, value in other.items()}
        for own, other in zip(json_columns.decode_objects(fields), others, strict=False)
    ]


def _to_batch(records: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return one CONVERSATIONS batch of conversations with different columns."""
    kept = list(dict.fromkeys(name for record in records for name in record if name not in schema.CONVERSATIONS))
    fields = {"row": pa.array([record["row"] for record in records], pa.int64()), **encode_rows(records)}
    others = [{name.removeprefix(schema.KEPT): record[name] for name in kept if name in record} for record in records]
    fields |= {kept_name(name): column for name, column in json_columns.encode_objects(others).items()}
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))
