"""A conversion for people who have their own engine: one Arrow record batch in, one out."""

from __future__ import annotations

import pyarrow as pa

from ..errors import UsageError
from ..json_columns import JSON, TEXT, is_turns
from ..recipe import Recipe, required
from ..schema import ROW
from .conversion.row_counts import RowCounts
from .conversion.stages import Conversion
from .planning.plan import load_template, to_job
from .planning.target import Target, target_of


class Converter:
    """Converts record batches as `chatfmt convert` would convert a Parquet file of the same columns.

    The dialect is found from the first batch unless the recipe names it; the recipe's own source is not read.
    `books` counts what became of the rows. Raises RowError for the first bad row, its number that in the batch, and
    UsageError for recipes that compare rows (`dedup`, `shuffle`, `test_fraction`, weights).
    """

    def __init__(self, recipe: Recipe) -> None:
        required(recipe, "Converter")
        if recipe.reorders_rows:
            raise UsageError("a converter sees one batch, and the recipe compares rows", hint="use `chatfmt.convert`")
        self.recipe, self.books = recipe, RowCounts()
        self._template = load_template(recipe)
        self._target: Target = target_of(None, "jsonl", None)
        self._conversion: Conversion | None = None

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The output rows of a batch, in order; columns that are JSON text by nature are `string`."""
        source = with_rows(batch)
        if self._conversion is None:
            job, _ = to_job(self.recipe, [source], self._template, self._target, nulls=True)
            self._conversion = Conversion(job)
        made = list(self._conversion.convert(source, "batch", self.books))
        return stored(made[0]) if made else pa.RecordBatch.from_pydict({})


def with_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A source batch of any record batch: rows numbered, every kind of text as `string`."""
    columns = {name: as_text(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    columns.pop(ROW, None)
    return pa.RecordBatch.from_pydict({ROW: pa.array(range(len(batch)), pa.int64()), **columns})


def as_text(column: pa.Array) -> pa.Array:
    """The column with each kind of Arrow text as `string`, also inside lists and structs."""
    kind = plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with each kind of text as `string` and each kind of list as `list`."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return TEXT
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    return kind


def stored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its JSON columns as text, for readers outside of chatfmt."""
    columns = [column.cast(TEXT) if column.type == JSON else _stored_turns(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _stored_turns(column: pa.Array) -> pa.Array:
    if not is_turns(column.type):
        return column
    fields = [pa.field(field.name, TEXT if field.type == JSON else field.type) for field in column.type.value_type]
    return column.cast(pa.list_(pa.struct(fields)))
