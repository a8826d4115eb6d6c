"""Find the one schema that all Parquet shards of a plan share, before the first is written.

Columns of fixed types are known from the sample. Pass-through columns and conversations of JSON sources are not, so
those sources are read once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from ...manifest import fingerprint
from ..conversion.job import Job, Task
from ..conversion.output_schema import Types, merge_types, schema_of, types_of
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import ignore_reject, survey_task
from ..schedule import run_tasks
from .source_plan import SourcePlan

if TYPE_CHECKING:
    from ...recipe import Run


def find_schema(sources: Sequence[SourcePlan], tasks: Sequence[Task], run: Run) -> pa.Schema:
    """Return the schema of the output of all sources."""
    types = reduce(merge_types, map(types_of_first_rows, sources), Types())
    if any(needs_survey(source.job) for source in sources):
        survey = [replace(task, job=survey_job(task.job)) for task in tasks]
        types = reduce(merge_types, run_tasks(survey_task, survey, run), types)
    return schema_of(types)


def types_of_first_rows(source: SourcePlan) -> Types:
    """Return the types of the output columns for the first rows of a source.

    Rendered columns have the same types for every row, so the first row that can be converted shows them.
    """
    job, rows, types = source.job, source.first_rows, Types()
    if rows is None:
        return types
    conversion = Conversion(job)
    step = 1 if job.template is not None and not job.whole_file else len(rows)
    for row in range(0, len(rows), step):
        for output in conversion.convert(rows.slice(row, step), source.source.shown, RowCounts(), ignore_reject):
            types = merge_types(types, types_of(output, typed=job.nulls))
        if types:
            break
    return types


def needs_survey(job: Job) -> bool:
    """Return whether output types may differ between batches: pass-through columns or conversations of JSON sources."""
    varies = job.template is None or bool(job.columns.keep)
    return varies and not job.nulls


def survey_job(job: Job) -> Job:
    """Return the job without what it renders."""
    view = None if job.template is not None else job.view
    return replace(job, key=f"{job.key}-survey", template=None, view=view, mask=None)


def set_schema(job: Job, schema: pa.Schema) -> Job:
    """Return the job with a schema for its output."""
    return replace(job, schema=schema, key=f"{job.key}-{fingerprint({'schema': str(schema)})}")
