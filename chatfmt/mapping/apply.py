"""Apply a field mapping to batches: explode, then filter rows, then fill the mapped fields."""

from __future__ import annotations

from collections import Counter, abc
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from ..errors import located
from ..json_columns import TEXT, encode_column
from ..schema import SourceRow
from .names import names_needed
from .plan import Constant, FieldMapping, FieldSource, TextTemplate
from .rows import explode, label_rows, printable, read_rows, render_rows, where_mask, with_columns
from .turns import split_transcripts, zip_lists

Compile = abc.Callable[[str], abc.Callable[[SourceRow], Any]]
"""Compiles the source of a template or expression into a function of the row."""
Mapper = abc.Callable[[pa.RecordBatch], "Mapped"]


class Mapped(Struct, frozen=True):
    """A mapped batch, and row counts: `filtered` dropped by `--where`, `unfilled` by `--explode` (an empty list),
    `exploded` made by it.
    """

    batch: pa.RecordBatch
    counts: Counter[str] = field(default_factory=Counter)


def mapper(mapping: FieldMapping, template: Compile, expression: Compile, *, nulls: bool = False) -> Mapper:
    """Return the function that maps source batches; templates and expressions are compiled here, once.

    With `nulls` a null of the source is a value (Parquet, Arrow, CSV), which `--where` reads as None; without, it is an
    absent key (JSON). Errors name the index of the row in the source batch.
    """
    makes = {name: template(part.text) for name, part in mapping.fields if isinstance(part, TextTemplate)}
    keeps = expression(mapping.where) if mapping.where else None

    def apply(batch: pa.RecordBatch) -> Mapped:
        counts: Counter[str] = Counter()
        origin = np.arange(len(batch))
        if mapping.explode is not None:
            before, (batch, origin) = len(batch), explode(batch, mapping.explode)
            counts.update(exploded=len(batch), unfilled=before - len(np.unique(origin)))
        if keeps is not None and mapping.where is not None:
            with located(rows=origin):
                mask = where_mask(read_rows(batch, mapping.where, nulls=nulls), keeps)
            counts["filtered"] = len(batch) - mask.true_count
            batch, origin = batch.filter(mask), origin[mask.to_numpy(zero_copy_only=False)]
        with located(rows=origin):
            return Mapped(_fill_fields(batch, mapping, makes), counts)

    return apply


def _fill_fields(
    batch: pa.RecordBatch, mapping: FieldMapping, makes: abc.Mapping[str, abc.Callable[[SourceRow], Any]]
) -> pa.RecordBatch:
    if not mapping.fields:
        return batch
    made = {name: _column(name, batch, part, makes.get(name)) for name, part in mapping.fields}
    zipped = {name: made.pop(name) for name, _ in mapping.zipped}
    if zipped:
        made["messages"] = zip_lists(zipped)
    if "transcript" in made:
        made["messages"] = split_transcripts(made.pop("transcript"), mapping.markers)
    return with_columns(batch, made)


def _column(
    name: str, batch: pa.RecordBatch, part: FieldSource, make: abc.Callable[[SourceRow], Any] | None
) -> pa.Array:
    if isinstance(part, Constant):
        return _repeat(part.value, len(batch))
    if isinstance(part, TextTemplate) and make is not None:
        rows = printable(read_rows(batch, part.text))
        return (
            label_rows(rows, make, names_needed(part.text, expression=False))
            if name == "label"
            else render_rows(rows, make)
        )
    return part.column(batch) if not isinstance(part, TextTemplate) else pa.nulls(len(batch), TEXT)


def _repeat(value: Any, length: int) -> pa.Array:
    if isinstance(value, bool):
        return pa.repeat(pa.scalar(value), length)
    return encode_column([value] * length)
