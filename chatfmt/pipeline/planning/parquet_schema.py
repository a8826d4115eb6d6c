"""Find the one schema that all Parquet shards of a plan share, before the first is written.

Columns of fixed types are known from the first rows. Others are not, so their sources are read once more, and up to the
shard of the first row that is converted if none of the first rows is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from msgspec.structs import replace

from ...features import declared_features, fits, with_feature
from ...json_columns import JSON, TEXT, is_turns
from ...manifest import fingerprint
from ...schema import CONVERSATION_COLUMNS
from ..conversion.job import Job, Task
from ..conversion.output.schema import OBJECTS, Types, merge_types, schema_of, types_of
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import ignore_rejects, survey_task
from ..schedule import run_tasks
from .source_plan import SourcePlan

if TYPE_CHECKING:
    from ...dialects import Columns
    from ...recipe import Run


def find_schema(sources: Sequence[SourcePlan], tasks: Sequence[Task], run: Run) -> pa.Schema:
    """Return the schema of the output of all sources."""
    first = [(source, first_output(source)) for source in sources]
    known = [types_of(batch, typed=source.job.nulls) for source, batches in first for batch in batches]
    if not known:
        with closing(run_tasks(survey_task, tasks, run)) as found:
            known = [next(filter(None, found), Types())]
    types = reduce(merge_types, known, Types())
    if any(needs_survey(source, batches) for source, batches in first):
        survey = [replace(task, job=survey_job(task.job)) for task in tasks]
        types = reduce(merge_types, run_tasks(survey_task, survey, run), types)
    packing = sources[0].job.packing if sources else None
    types = {**types, **packing.added_types} if types and packing else types
    return with_source_features(schema_of(types), sources)


def with_source_features(schema: pa.Schema, sources: Sequence[SourcePlan]) -> pa.Schema:
    """Return the schema with the features that the sources declare for kept columns: labels with names, images."""
    declared: dict[str, Any] = {}
    for source in sources:
        keep = source.job.columns.keep
        if source.first_rows is not None:
            found = declared_features(source.first_rows.schema)
            declared = {name: value for name, value in found.items() if keep == "all" or name in keep} | declared
    return pa.schema([
        with_feature(field, declared[field.name]) if fits(field.type, declared.get(field.name)) else field
        for field in schema
    ])  # fmt: skip


def first_output(source: SourcePlan) -> list[pa.RecordBatch]:
    """Return the output for the first rows of a source.

    Rendered columns have the same types for every row, so the first row that can be converted shows them.
    """
    job, rows = source.job, source.first_rows
    if rows is None:
        return []
    conversion = Conversion(job)
    conversion.folder = source.shards[0][0].folder
    step = 1 if job.template is not None and not job.whole_file else len(rows)
    for row in range(0, len(rows), step):
        found = list(conversion.convert(rows.slice(row, step), source.source.shown, RowCounts(), ignore_rejects))
        if found:
            return found
    return []


def needs_survey(source: SourcePlan, output: Sequence[pa.RecordBatch]) -> bool:
    """Return whether the types of the output may differ between batches; `output` is that of the first rows.

    They may in pass-through columns and conversations of JSON sources. Those of Parquet and Arrow sources have the
    types of the source, unless they hold JSON, are parsed from text, have keys of which a batch may have no value, or
    have media, for which text becomes parts.
    """
    job = source.job
    if not job.nulls or not output:
        return job.template is None or bool(job.columns.keep) or bool(job.media)
    if any(holds_json(field) for batch in output for field in batch.schema):
        return True
    if job.media and (job.template is None or any(job.columns.path(name) is None for name in job.media)):
        return True
    if job.template is not None or source.first_rows is None:
        return False
    return may_add_keys(job) or varies(source.first_rows.schema, job.columns)


PLAIN = frozenset({
    "messages", "conversational", "preference", "unpaired-preference", "prompt-only", "prompt-completion", "alpaca",
    "dolly", "multiple-choice", "squad", "text",
})  # fmt: skip
"""Dialects whose turns have the keys that the types of the source name, whatever the texts in it."""
ADDING = frozenset({"reasoning", "call_ids", "user_after_tool"})
"""Transforms that give some turns a key that others lack."""


def may_add_keys(job: Job) -> bool:
    """Return whether later rows may have turns with other keys than the first: a call or reasoning in a text."""
    parts = [job.columns.path(part) for part in ("reasoning", "tool_calls")]
    return job.dialect not in PLAIN or any(part is not None for part in parts) or bool(ADDING & {*job.transforms})


def holds_json(field: pa.Field) -> bool:
    """Return whether a column of the output holds JSON whose type its values determine."""
    inner = [item.type for item in field.type.value_type] if is_turns(field.type) else []
    return field.name not in OBJECTS and JSON in (field.type, *inner)


def varies(schema: pa.Schema, columns: Columns) -> bool:
    """Return whether conversations are parsed from text, or their turns are more than role and content, both text."""
    lists = [columns.path(part) for part in ("messages", "chosen", "rejected")]
    if any(name in schema.names and schema.field(name).type == TEXT for name in lists):
        return True
    paths = [columns.path(part) for part in CONVERSATION_COLUMNS]
    types = [schema.field(name).type for name in paths if name in schema.names]
    return any(is_turns(type) and [field.type for field in type.value_type] != [TEXT, TEXT] for type in types)


def survey_job(job: Job) -> Job:
    """Return the job without what it renders."""
    view = None if job.template is not None else job.view
    return replace(job, key=f"{job.key}-survey", template=None, view=view, mask=None)


def set_schema(job: Job, schema: pa.Schema) -> Job:
    """Return the job with a schema for its output."""
    return replace(job, schema=schema, key=f"{job.key}-{fingerprint({'schema': str(schema)})}")
