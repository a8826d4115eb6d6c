"""The names of output columns: those of the view, those passed through (`--keep`), and new ones (`--rename`).

Columns get new names when rows are written; all stages before know their own names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from .... import dialects, tokens, views
from ....dialects import Detection
from ....dialects.kit.names import LABELS, REASONING, SYSTEM
from ....dialects.kit.output import name_is_taken, rename_flag
from ....errors import UnknownName, UsageError
from ....json_columns import message_columns, with_column
from ....mapping import FieldMapping
from ....render.safety.control_tokens import ESCAPES
from ....schema import CONVERSATION_COLUMNS, CONVERSATIONS, KEYS, TRAIN_KEYS
from ....turn_columns import without_field
from ....views import VIEWS
from ....views.batch import Fields
from ...ledger.ledger import PRINTED
from ..job import Job
from ..train_keys import SPAN_WEIGHTS

if TYPE_CHECKING:
    from ....recipe import Recipe


def is_kept(recipe: Recipe, name: str) -> bool:
    """Return whether a column that a mapping creates is only passed through, with no role in the conversation."""
    return name not in dialects.known_parts() and (name in recipe.keep or "all" in recipe.keep)


def dropped_columns(recipe: Recipe, fields: FieldMapping) -> tuple[str, ...]:
    """Return the columns that are taken away before a dialect reads the rows; what a mapping makes stays.

    They are those that `--drop` names, and labels, system texts and reasoning that `--map` puts into a turn.
    """
    once = {name for name in fields.spoken if name.lower() in (*LABELS, *SYSTEM, *REASONING)}.difference(recipe.keep)
    return tuple(name for name in (*recipe.drop, *sorted(once)) if name not in fields.columns)


def without_columns(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Return the batch without those of the named columns that it has."""
    return batch.drop_columns(list({*names}.intersection(batch.schema.names))) if names else batch


def without_turn_keys(batch: pa.RecordBatch, job: Job) -> pa.RecordBatch:
    """Return a CONVERSATIONS batch without the keys of turns that `--drop` names, as in `messages.lang`.

    Before the dot is a column that is read or written.
    `messages.*` names all keys besides role, content, calls, reasoning and those that select turns for training.
    """
    read = {*PRINTED, *TRAIN_KEYS, KEYS}
    named = [name.replace("[]", "").split(".") for name in job.drop if name.count(".") == 1]
    keys = [key for column, key in named if column in columns_of_turns(job)] if named else []
    for name, column in message_columns(batch) if keys else ():
        inside = [each.name for each in column.type.value_type if each.name not in read]
        for key in keys if "*" not in keys else inside:
            column = without_field(column, key)
        batch = with_column(batch, name, column)
    return batch


def columns_of_turns(job: Job) -> Container[str]:
    """Return the columns before the dot in `--drop messages.lang`: those that are read, and those that are written."""
    fields = job.columns.fields
    roots = job.mapping.roots if job.mapping is not None else ()
    names = [path.partition(".")[0].partition("[")[0] for part, path in fields.items() if "." not in part]
    return {*CONVERSATION_COLUMNS, *roots, *names}


def added_columns(job: Job) -> frozenset[str]:
    """Return the columns that the options of a job add to its output."""
    view = VIEWS.get(job.view or "")
    added = {*view.columns} - {*CONVERSATIONS} if view else set()
    added |= {"assistant_spans"} if job.mask is not None and view and view.takes_mask else set()
    added |= {SPAN_WEIGHTS} if job.weighted else set()
    if job.tokenizer is not None:
        added |= set(tokens.SCHEMA.names if view and view.is_tokenized else ("num_tokens",))
    return frozenset(added | ({ESCAPES} if job.control_tokens == "escape" else set()))


def mark_overwritten_columns(job: Job, detection: Detection, sample: Sequence[pa.RecordBatch]) -> Detection:
    """Mark sample columns as unused if the view or the options of the job need their names, and no others."""
    added = added_columns(job) - {*detection.used, *detection.unused}
    names = dict.fromkeys(name for batch in sample for name in batch.schema.names if name in added)
    mapped = () if job.mapping is None else job.mapping.columns
    free = {*CONVERSATIONS} - {*job.columns.taken, *mapped} if job.columns.keep == "all" else set()
    return replace(detection, unused=(*(name for name in detection.unused if name not in free), *names))


def kept_notes(job: Job, detection: Detection) -> Iterator[str]:
    """Yield a note on the columns of the sample that `--keep all` leaves out.

    Raises UsageError for a column that is kept by name but that the output overwrites.
    """
    added = added_columns(job)
    if job.columns.keep != "all":
        for name in job.columns.keep:
            if name in added:
                raise name_is_taken(name)
        return
    if detection.unused:
        names = ", ".join(f"`{name}`" for name in detection.unused)
        flags = " ".join(map(rename_flag, detection.unused))
        yield f"`--keep all` leaves out {names}, since the output needs the names: keep them with {flags}"


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
        if recipe.trainer is not None and name in VIEWS[str(job.view)].columns:
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


def output_batch(fields: Fields, kept: Fields, rows: int) -> pa.RecordBatch:
    """Join the columns of the view with the kept ones, repeated if the view makes several rows of one."""
    count = len(next(iter(fields.values()))) if fields else rows
    if count != rows:
        origin = pa.array(np.repeat(np.arange(rows), count // rows))
        kept = {name: column.take(origin) for name, column in kept.items()}
    columns = {**kept, **fields}
    names = [*fields, *(name for name in kept if name not in fields)]
    return pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)
