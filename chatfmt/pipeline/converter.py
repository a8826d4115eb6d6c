"""Convert Arrow record batches and tables one by one, for data pipelines with an engine of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import pyarrow as pa
from msgspec.structs import replace

from .. import transforms
from ..errors import InputError, RowError, UsageError, located
from ..json_columns import JSON, TEXT, is_turns
from ..recipe import Recipe, required
from ..sources import to_source_batch
from ..sources.model import DEFAULT_READ
from .conversion.fixed_schema import empty_batch, types_of_all, with_types
from .conversion.job import Job
from .conversion.output_schema import Types
from .conversion.renaming import renamed
from .conversion.row_counts import RowCounts
from .conversion.source_rows import row_order
from .conversion.stages import Conversion, OnReject
from .conversion.task import arranged, to_reject
from .planning.inputs import SAMPLE_ROWS
from .planning.jobs import check_rendered, check_tokens, to_checked_job
from .planning.target import target_of
from .planning.templates import load_template

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)
SHOWN = "batch"
"""Stands for the file in errors, where there is none."""
REJECTS = pa.schema(
    [("row", pa.int64()), ("message", pa.int64()), ("code", TEXT), ("detail", TEXT), ("raw", TEXT)],
)
"""The columns of rejects: the row in what was given and the message in it, both from 0, and the row as JSON."""
REFUSED = {
    "limit": "counts the rows of a source",
    "skip": "counts the rows of a source",
    "group_by": "joins rows from anywhere in a source",
    "embed_media": "reads files beside a source",
}
"""The settings of a recipe that a converter cannot carry out."""


class Converter:
    """Convert record batches or tables as `chatfmt convert` converts a Parquet file with the same columns.

    What is decided once for a source (its dialect, its columns, their types) is decided by the first 1,000 rows of
    `sample`, without one by those of the first call. Then the converter can be pickled, so that all workers of an
    engine agree, and every output has the columns of `schema`, with rows or without; JSON columns are `string`. The
    source of the recipe is not read. `counts` has the row counts of this process.

    Raises RowError for the first bad row, by its position in what was given; NoDialect or UsageError for a sample that
    cannot be read without loss; UsageError for recipes that compare, count or join rows (`dedup`, `shuffle`, `limit`,
    `group_by`, …), and for rows that have no place in `schema`.
    """

    def __init__(self, recipe: Recipe, sample: pa.RecordBatch | pa.Table | None = None) -> None:
        required(recipe, "Converter")
        check_batchwise(recipe)
        self.recipe, self.counts = recipe, RowCounts()
        self._template = load_template(recipe)
        self._job: Job | None = None
        self._types = Types()
        self._conversion: Conversion | None = None
        if sample is not None:
            self._decide(sample)

    def __call__(self, rows: Rows) -> Rows:
        """Return the output rows, in order, as what was given: a record batch or a table."""
        if self.recipe.on_error == "skip":
            text = "a call returns no rejected rows, and `on_error` is `skip`"
            raise UsageError(text, hint="`Converter.with_rejects` returns both")
        return self._convert(rows, None)

    def with_rejects(self, rows: Rows) -> tuple[Rows, pa.Table]:
        """Return the output rows, and the rejected ones: `row`, `message`, `code`, `detail`, `raw` (its JSON text)."""
        rejects: list[tuple[RowError, bytes | None]] = []
        output = self._convert(rows, lambda error, raw: rejects.append((error, raw)))
        rejects.sort(key=lambda reject: row_order(reject[0].at))
        return output, pa.Table.from_pylist([to_record(*reject) for reject in rejects], REJECTS)

    @property
    def schema(self) -> pa.Schema:
        """The columns of every output, with their types. Raises UsageError if no rows were seen yet."""
        self._check_decided()
        return self._finished([]).schema

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without programs and counts, which each process has of its own."""
        self._check_decided()
        return {**vars(self), "counts": RowCounts(), "_conversion": None}

    def _check_decided(self) -> None:
        if self._job is None:
            raise UsageError("the converter has not seen any rows", hint="chatfmt.Converter(recipe, sample)")

    def _decide(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Make the job and the types of the output from the first rows."""
        sample = list(source_batches(rows.slice(0, SAMPLE_ROWS)))
        if not sample:
            raise InputError("no rows to decide by", code="file.empty", hint="chatfmt.Converter(recipe, sample)")
        target = target_of(None, "jsonl", None)
        job, detection = to_checked_job(self.recipe, sample, self._template, target, nulls=True)
        if job.whole_file:
            text = f"the dialect `{detection.dialect}` reads all rows of a file together"
            raise UsageError(text, hint="use `chatfmt.convert`")
        bad = list[RowError]()
        found = converted(sample, job, bad)
        if not found and not bad and job.mapping is not None:  # `where` keeps none of these rows
            found = converted(sample, replace(job, mapping=replace(job.mapping, where=None)), bad)
        if not found:
            raise (
                bad[0] if bad else InputError("no row of the sample is in the output", hint="give `Converter` another")
            )
        self._types = types_of_all(arranged(iter(found), job, RowCounts()))
        self._job = job

    def _convert(self, rows: Rows, on_reject: OnReject | None) -> Rows:
        if self._job is None:
            self._decide(rows)
        assert self._job is not None
        if self._conversion is None:
            self._conversion = Conversion(self._job)
        converted = (
            output
            for batch in source_batches(rows)
            for output in self._conversion.convert(batch, SHOWN, self.counts, on_reject)
        )
        output = self._finished(list(arranged(converted, self._job, self.counts)))
        return output if isinstance(rows, pa.Table) else to_record_batch(output)

    def _finished(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        """Return output batches as a table with the columns of the schema."""
        typed, made = list[pa.RecordBatch](), 0
        for batch in batches:
            with located("output", range(made, made + len(batch))):
                typed.append(with_types(batch, self._types))
            made += len(batch)
        typed = typed or [empty_batch(self._types)]
        named = [renamed(with_json_as_text(batch), self.recipe.rename) for batch in typed]
        return pa.Table.from_batches(named)


def converted(sample: Sequence[pa.RecordBatch], job: Job, bad: list[RowError]) -> list[pa.RecordBatch]:
    """Return the output of the rows of a sample; errors of rows are added to `bad`."""
    conversion = Conversion(job)
    return [
        output
        for batch in sample
        for output in conversion.convert(batch, SHOWN, RowCounts(), lambda error, _: bad.append(error))
        if len(output)
    ]


def check_batchwise(recipe: Recipe) -> None:
    """Raise UsageError for a recipe that cannot be carried out on one batch after another."""
    transforms.check_settings(recipe.transforms)
    check_tokens(recipe)
    check_rendered(recipe)
    if recipe.reorders_rows:
        raise UsageError(
            "a converter sees one batch at a time, and this recipe compares all rows", hint="use `chatfmt.convert`"
        )
    for key, does in REFUSED.items():
        if getattr(recipe, key) != getattr(Recipe, key):
            text = f"a converter sees one batch at a time, and `{key}` {does}"
            raise UsageError(text, hint=f"leave out `{key}`, or use `chatfmt.convert`")


def source_batches(rows: pa.RecordBatch | pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows as source batches, numbered by their position."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    first = 0
    for batch in table.to_batches(max_chunksize=DEFAULT_READ.batch_rows):
        if len(batch):
            yield to_source_batch(batch, SHOWN, first)
        first += len(batch)


def to_record_batch(table: pa.Table) -> pa.RecordBatch:
    """Return the rows of a table as one record batch."""
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    return next(iter(table.combine_chunks().to_batches()), empty_batch(types))


def to_record(error: RowError, raw: bytes | None) -> dict[str, Any]:
    """Return the columns of a rejected row."""
    reject = to_reject(error, raw)
    return {name: getattr(reject, name) for name in REJECTS.names[:-1]} | {"raw": raw and raw.decode()}


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
