"""A plan at work: explode, then leave out rows, then fill the mapped fields."""

from __future__ import annotations

from collections import Counter, abc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import RowError
from ..json_columns import TEXT, encode_objects
from . import rows as r
from .plan import Constant, Mapping, Part, Template
from .turns import cut_transcripts, zip_lists

Row = abc.Mapping[str, Any]
Compile = abc.Callable[[str], abc.Callable[[Row], Any]]
"""Turns the source of a template or expression into a function of the row."""
Mapper = abc.Callable[[pa.RecordBatch], "Mapped"]
Origin = np.ndarray[Any, Any]


class Mapped(Struct, frozen=True):
    """What a mapping made of a batch, and of how many rows it made none: `filtered` by `--where`, `unfilled` by
    `--explode` (an empty list); `exploded` counts the rows that came out of it.
    """

    batch: pa.RecordBatch
    counts: Counter[str] = field(default_factory=Counter)


def mapper(mapping: Mapping, template: Compile, expression: Compile, *, nulls: bool = False) -> Mapper:
    """The function that maps source batches; templates and expressions are compiled here, once.

    `nulls` says that a null of the source is a null (Parquet, Arrow, CSV) and not an absent key (JSON): `--where` sees
    None for it, else nothing. Errors of rows carry the index of the row in the batch that was given.
    """
    makes = {name: template(part.text) for name, part in mapping.fields if isinstance(part, Template)}
    keeps = expression(mapping.where) if mapping.where else None

    def apply(batch: pa.RecordBatch) -> Mapped:
        counts: Counter[str] = Counter()
        origin: Origin = np.arange(len(batch))
        if mapping.explode is not None:
            given, (batch, origin) = len(batch), r.explode(batch, mapping.explode)
            counts.update(exploded=len(batch), unfilled=given - len(np.unique(origin)))
        with _rows_from(origin):
            if keeps is not None and mapping.where is not None:
                mask = r.where_mask(r.read_rows(batch, mapping.where, nulls=nulls), keeps)
                counts["filtered"] = len(batch) - mask.true_count
                batch, origin = batch.filter(mask), origin[mask.to_numpy(zero_copy_only=False)]
        with _rows_from(origin):
            return Mapped(_filled(batch, mapping, makes), counts)

    return apply


@contextmanager
def _rows_from(origin: Origin) -> Iterator[None]:
    """Turn the row of a RowError raised inside into the index of the row it came from."""
    try:
        yield
    except RowError as error:
        if error.at.row is not None:
            error.at = replace(error.at, row=int(origin[error.at.row]))
        raise


def _filled(
    batch: pa.RecordBatch, mapping: Mapping, makes: abc.Mapping[str, abc.Callable[[Row], Any]]
) -> pa.RecordBatch:
    if not mapping.fields:
        return batch
    made = {name: _column(batch, part, makes.get(name)) for name, part in mapping.fields}
    zipped = {name: made.pop(name) for name, _ in mapping.zipped}
    if zipped:
        made["messages"] = zip_lists(zipped)
    if "transcript" in made:
        made["messages"] = cut_transcripts(made.pop("transcript"), mapping.markers)
    return r.with_columns(batch, made)


def _column(batch: pa.RecordBatch, part: Part, make: abc.Callable[[Row], Any] | None) -> pa.Array:
    if isinstance(part, Constant):
        return _repeated(part.value, len(batch))
    if isinstance(part, Template) and make is not None:
        return r.render_rows(r.printable(r.read_rows(batch, part.text)), make)
    return part.column(batch) if not isinstance(part, Template) else pa.nulls(len(batch), TEXT)


def _repeated(value: Any, length: int) -> pa.Array:
    if isinstance(value, bool):
        return pa.repeat(pa.scalar(value), length)
    return encode_objects([{"": value}] * length)[""] if length else pa.nulls(0, TEXT)
