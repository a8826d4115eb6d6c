"""Convert Arrow record batches and tables one by one, for data pipelines with an engine of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
from msgspec.structs import replace

from .. import transforms
from ..errors import InputError, Location, UsageError, located
from ..json_columns import JSON, TEXT, columns_of, is_turns, json_or_null
from ..recipe import Recipe, required
from ..schema import KEYS
from ..sources import to_source_batch
from ..sources.model import DEFAULT_READ
from ..turn_columns import IntArray, fields_of, rows_of_turns, struct_of, with_turns
from .conversion.job import Job
from .conversion.output.columns import renamed
from .conversion.output.schema import Types
from .conversion.rejects import OnRejects, Rejected
from .conversion.row_counts import RowCounts
from .conversion.stages import Conversion
from .conversion.task import arranged, convert_sample
from .planning.inputs import SAMPLE_ROWS
from .planning.jobs import to_checked_job
from .planning.options import check_rendered, check_tokens
from .planning.templates import load_template

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)
SHOWN = "batch"
"""Stands for the file in errors, where there is none."""
REJECTS = pa.schema([("row", pa.int64()), ("message", pa.int64()), ("code", TEXT), ("detail", TEXT), ("raw", TEXT)])
"""The columns of rejects: the row in what was given and the message in it, both from 0, and the row as JSON."""
REFUSED = {
    "limit": "counts the rows of a source",
    "skip": "counts the rows of a source",
    "group_by": "joins rows from anywhere in a source",
    "from_rejects": "reads a file of chatfmt",
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
        rejects: list[Rejected] = []
        output = self._convert(rows, rejects.extend)
        rejects.sort(key=lambda rejected: rejected.order)
        return output, pa.Table.from_pylist([*map(to_record, rejects)], REJECTS)

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
        check_arrow(rows)
        sample = list(source_batches(rows.slice(0, SAMPLE_ROWS)))
        if not sample:
            raise InputError("no rows to decide by", code="file.empty", hint="chatfmt.Converter(recipe, sample)")
        job, detection = to_checked_job(self.recipe, sample, self._template, nulls=True)
        if job.whole_file:
            text = f"the dialect `{detection.dialect}` reads all rows of a file together"
            raise UsageError(text, hint="use `chatfmt.convert`")
        if job.media and self.recipe.embed_media:
            raise refused("embed_media")
        found, _, bad = convert_sample(job, sample, SHOWN)
        if not found and not bad and job.mapping is not None:  # `where` keeps none of these rows
            found, _, bad = convert_sample(replace(job, mapping=replace(job.mapping, where=None)), sample, SHOWN)
        if not found:
            raise (
                bad[0] if bad else InputError("no row of the sample is in the output", hint="give `Converter` another")
            )
        self._types = types_of_all(arranged(iter(found), job, RowCounts()))
        self._job = job

    def _convert(self, rows: Rows, on_rejects: OnRejects | None) -> Rows:
        check_arrow(rows)
        if self._job is None:
            self._decide(rows)
        assert self._job is not None
        if self._conversion is None:
            self._conversion = Conversion(self._job)
        converted = (
            output
            for batch in source_batches(rows)
            for output in self._conversion.convert(batch, SHOWN, self.counts, on_rejects)
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


def check_batchwise(recipe: Recipe) -> None:
    """Raise UsageError for a recipe that cannot be carried out on one batch after another."""
    transforms.check_settings(recipe.transforms)
    check_tokens(recipe)
    check_rendered(recipe)
    if recipe.reorders_rows:
        raise UsageError(
            "a converter sees one batch at a time, and this recipe compares all rows", hint="use `chatfmt.convert`"
        )
    for key in REFUSED:
        by_trainer = key == "embed_media" and recipe.trainer is not None  # about rows that have media
        if getattr(recipe, key) != getattr(Recipe, key) and not by_trainer:
            raise refused(key)


def refused(key: str) -> UsageError:
    """Return the error for a setting that a converter cannot carry out."""
    text = f"a converter sees one batch at a time, and `{key}` {REFUSED[key]}"
    return UsageError(text, hint=f"leave out `{key}`, or use `chatfmt.convert`")


def check_arrow(rows: Any) -> None:
    """Raise UsageError for rows that are not Arrow."""
    if not isinstance(rows, pa.RecordBatch | pa.Table):
        raise UsageError(
            f"a converter takes a pyarrow RecordBatch or Table, not {type(rows).__name__}",
            hint='datasets: .with_format("arrow"); Polars: .to_arrow(); pandas: pyarrow.Table.from_pandas',
        )


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


def to_record(rejected: Rejected) -> dict[str, Any]:
    """Return the columns of a rejected row."""
    error, raw = rejected.error, rejected.raw
    values = (rejected.row, error.at.message, error.code, error.message, raw and raw.decode())
    return dict(zip(REJECTS.names, values, strict=True))


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


def types_of_all(batches: Iterable[pa.RecordBatch]) -> Types:
    """Return the columns of all batches with types that hold the values of each, in order of first appearance."""
    types = Types()
    for batch in batches:
        for field in batch.schema:
            types[field.name] = _merged(types.get(field.name, pa.null()), field.type)
    return types


def _merged(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the type that holds values of both, and the first one where there is none."""
    if pa.types.is_null(first):
        return _without_keys(second)
    if is_turns(first) and is_turns(second):
        one, other = ({field.name: field.type for field in type.value_type} for type in (first, second))
        names = [name for name in dict.fromkeys((*one, *other)) if name != KEYS]
        fields = [(name, _merged(one.get(name, pa.null()), other.get(name, pa.null()))) for name in names]
        return pa.list_(pa.struct(fields))
    return JSON if {first, second} == {JSON, TEXT} else first


def _without_keys(type: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([field for field in type.value_type if field.name != KEYS])) if is_turns(type) else type


def empty_batch(types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return a batch with these columns and no rows."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, type) for type in types.values()], names=list(types))


def with_types(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return the batch with exactly these columns; raises UsageError for columns and values without a place."""
    columns = columns_of(batch)
    for name in columns.keys() - types.keys():
        raise _no_place(name, columns[name])
    arrays = [_with_type(columns[name], type, name) if name in columns else pa.nulls(len(batch), type)
              for name, type in types.items()]  # fmt: skip
    return pa.RecordBatch.from_arrays(arrays, names=list(types))


def _with_type(column: pa.Array, type: pa.DataType, name: str) -> pa.Array:
    """Return a column with a type of `types_of_all`."""
    if column.type == type:
        return column
    if is_turns(column.type) and is_turns(type):
        return _turns_with_type(column, type, name)
    if column.type == TEXT and type == JSON:
        return json_or_null(column.to_pylist())
    if column.null_count == len(column):
        return pa.nulls(len(column), type)
    if not _keeps_values(column.type, type):
        raise _no_place(name, column)
    try:
        return column.cast(type)
    except pa.ArrowException:
        raise _no_place(name, column) from None


def _keeps_values(type: pa.DataType, other: pa.DataType) -> bool:
    """Return whether a cast between types gives equal values or fails: a number in a column of text would become text.

    Arrow leaves out fields, rounds to narrower floats, takes any number for true, and times without a zone for UTC.
    """
    if type == other or pa.types.is_null(type):
        return True
    if type.id == other.id and type.num_fields:
        parts, places = _parts(type), _parts(other)
        return all(name in places and _keeps_values(part, places[name]) for name, part in parts.items())
    if pa.types.is_timestamp(type) and pa.types.is_timestamp(other):
        return bool(type.tz == other.tz)
    numbers = all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in (type, other))
    return numbers and (pa.types.is_integer(type) or type.bit_width <= other.bit_width)


def _parts(type: pa.DataType) -> dict[str | int, pa.DataType]:
    """Return the types in a nested type: of a struct by name, of others by position."""
    fields = [type.field(part) for part in range(type.num_fields)]
    return {field.name if pa.types.is_struct(type) else part: field.type for part, field in enumerate(fields)}


def _turns_with_type(column: pa.ListArray, type: pa.ListType, name: str) -> pa.ListArray:
    turns = column.flatten()
    found = {key: values for key, values in fields_of(turns).items() if key != KEYS}
    wanted = {field.name: field.type for field in type.value_type}
    for key in found.keys() - wanted.keys():
        if found[key].null_count < len(turns):
            raise _no_place(f"{name}[].{key}", found[key], rows_of_turns(column))
    with located(rows=rows_of_turns(column)):
        fields = {
            key: _with_type(found[key], each, f"{name}[].{key}") if key in found else pa.nulls(len(turns), each)
            for key, each in wanted.items()
        }
    return with_turns(column, struct_of(fields, turns.is_null()))


def _no_place(name: str, column: pa.Array, rows: Sequence[int] | IntArray | None = None) -> UsageError:
    """Return the error for the first value of a column; `rows` are the rows of its values, by default their places."""
    first = column.is_valid().index(True).as_py()
    return UsageError(
        f"`{name}` has no place in the schema that the sample decided",
        hint="give `Converter` a sample that has such rows",
        at=Location(row=max(0, first if rows is None else int(rows[first]))),
        code="converter.schema",
    )
