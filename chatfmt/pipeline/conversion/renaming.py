"""`--rename`: columns get their names in the output when rows are written; all stages before know their own names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from ... import views
from ...errors import UnknownName, UsageError
from .job import Job
from .kept_columns import added_columns

if TYPE_CHECKING:
    from ...recipe import Recipe

Columns = TypeVar("Columns", pa.RecordBatch, pa.Schema)
RESERVED = "#"
"""How the names of chatfmt's own columns begin."""


def renamed(columns: Columns, names: Mapping[str, str]) -> Columns:
    """Return a batch or a schema with the columns in `names` renamed; raises UsageError if two would have one name."""
    if names.keys().isdisjoint(columns.names if isinstance(columns, pa.Schema) else columns.schema.names):
        return columns
    schema = columns if isinstance(columns, pa.Schema) else columns.schema
    schema = pa.schema([field.with_name(names.get(field.name, field.name)) for field in schema], schema.metadata)
    _refuse_twice(schema.names)
    return schema if isinstance(columns, pa.Schema) else pa.RecordBatch.from_arrays(columns.columns, schema=schema)


def _refuse_twice(names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UsageError(f"`--rename` gives the name `{name}` to two columns", hint="choose another name for one")


def check_renames(recipe: Recipe, job: Job, sample: Sequence[pa.RecordBatch]) -> None:
    """Raise UsageError for a renamed column that the output does not have, or for a name that it has already."""
    if not recipe.rename:
        return
    known = dict.fromkeys(output_columns(job, sample))
    for name, new in recipe.rename.items():
        if name not in known:
            raise UnknownName.of("column", name, known)
        if not new or new.startswith(RESERVED):
            raise UsageError(f"`--rename {name}={new}`: a column cannot have that name", hint="choose another")
        if recipe.trainer is not None and name in views.VIEWS[str(job.view)].columns:
            hint = "leave out --rename, or --for"
            raise UsageError(f"`--for {recipe.trainer}` reads the column `{name}` under that name", hint=hint)
    _refuse_twice([recipe.rename.get(name, name) for name in known])


def output_columns(job: Job, sample: Sequence[pa.RecordBatch]) -> list[str]:
    """Return the names of the columns that the output may have, as far as the sample shows them."""
    own = views.written_columns(str(job.view), rendered=job.template is not None)
    keep = [name for batch in sample for name in batch.schema.names] if job.columns.keep == "all" else job.columns.keep
    read = {job.columns.path(part) for part in job.columns.fields}
    kept = [name for name in keep if not name.startswith(RESERVED) and (job.columns.keep != "all" or name not in read)]
    made = ["final_answer"] if job.transforms.get("final_answer") == "column" else []
    return [*own, *sorted(added_columns(job)), *job.media, *made, *(kept)]
