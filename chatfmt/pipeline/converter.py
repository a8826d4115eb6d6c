"""Convert Arrow record batches one by one, for data pipelines with an engine of their own."""

from __future__ import annotations

import pyarrow as pa

from ..errors import UsageError
from ..json_columns import JSON, TEXT, is_turns
from ..recipe import Recipe, required
from ..schema import ROW
from .conversion.renaming import renamed
from .conversion.row_counts import RowCounts
from .conversion.stages import Conversion
from .planning.jobs import load_template, to_checked_job
from .planning.target import Target, target_of


class Converter:
    """Convert record batches as `chatfmt convert` converts a Parquet file with the same columns.

    The dialect is detected from the first batch unless the recipe names it; the recipe's source is not read.
    `counts` has the row counts. Raises RowError for the first bad row, numbered by its position in the batch, and
    UsageError for recipes that compare rows (`dedup`, `shuffle`, `test_fraction`, weights).
    """

    def __init__(self, recipe: Recipe) -> None:
        required(recipe, "Converter")
        if recipe.reorders_rows:
            raise UsageError(
                "a converter sees one batch at a time, and this recipe compares all rows", hint="use `chatfmt.convert`"
            )
        self.recipe, self.counts = recipe, RowCounts()
        self._template = load_template(recipe)
        self._target: Target = target_of(None, "jsonl", None)
        self._conversion: Conversion | None = None

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the output rows of a batch, in order; JSON columns are `string`."""
        source = to_source_batch(batch)
        if self._conversion is None:
            job, _ = to_checked_job(self.recipe, [source], self._template, self._target, nulls=True)
            self._conversion = Conversion(job)
        outputs = list(self._conversion.convert(source, "batch", self.counts))
        return with_json_as_text(renamed(outputs[0], self.recipe.rename)) if outputs else pa.RecordBatch.from_pydict({})


def to_source_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a source batch with the columns of a record batch: rows numbered, every type of text as `string`."""
    columns = {name: as_text(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    columns.pop(ROW, None)
    return pa.RecordBatch.from_pydict({ROW: pa.array(range(len(batch)), pa.int64()), **columns})


def as_text(column: pa.Array) -> pa.Array:
    """Return the column with each type of text as `string`, also inside lists and structs."""
    data_type = plain_type(column.type)
    return column if data_type == column.type else column.cast(data_type)


def plain_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type with each type of text as `string` and each type of list as `list`."""
    if pa.types.is_dictionary(data_type):
        return plain_type(data_type.value_type)
    if pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
        return TEXT
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type):
        return pa.list_(plain_type(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in data_type])
    return data_type


def with_json_as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with its JSON columns as text, for readers outside chatfmt."""
    columns = [
        column.cast(TEXT) if column.type == JSON else _turns_with_json_as_text(column) for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _turns_with_json_as_text(column: pa.Array) -> pa.Array:
    if not is_turns(column.type):
        return column
    fields = [pa.field(field.name, TEXT if field.type == JSON else field.type) for field in column.type.value_type]
    return column.cast(pa.list_(pa.struct(fields)))
