"""Inspect sources by a sample of their rows: columns, dialect, roles, lengths, findings."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
from msgspec import Struct, field, to_builtins
from msgspec.structs import asdict, replace

from ...dialects import Columns, Detection
from ...dialects.detection.rows_as_turns import rows_as_turns
from ...errors import ChatfmtError, NoDialect, RowError, UsageError
from ...recipe import Recipe, required
from ...sources import Source, SourceFile
from ..conversion.job import Job
from ..conversion.output.columns import kept_notes
from ..conversion.row_counts import RowCounts
from ..conversion.source_rows import column_names, to_json, to_records
from ..conversion.task import convert_sample
from ..planning.inputs import header_checked, open_source, unrendered
from ..planning.jobs import has_nulls, to_job
from ..planning.left_behind import refuse_suspects
from ..planning.matching import Window
from ..planning.notes import name_notes
from ..planning.scratch import Scratch
from .columns import describe_columns
from .command import convert_command, error_arguments, refuse_unprinted, template_arguments, working_arguments
from .statistics import Spread, count_characters, count_roles, count_turns, to_spread


class Inspection(Struct, frozen=True):
    """The content of a sample and how it is read.

    If it cannot be read, or not without loss, `problem` says why and there is no `command`; if no dialect fits,
    `detection` is None.
    """

    source: str
    kind: str
    dataset: str | None
    revision: str | None
    subset: str | None
    licence: str | None
    splits: Mapping[str, int]
    """The number of files of each split."""
    rows_seen: int
    columns: Sequence[Mapping[str, Any]]
    detection: Mapping[str, Any] | None = None
    problem: str | None = None
    hint: str | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    turns: Spread | None = None
    characters: Spread | None = None
    findings: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """The notes that converting it prints first, and what is wrong with the first row that is rejected."""
    left_columns: Sequence[str] = ()
    left_keys: Sequence[str] = ()
    """The leaves that converting it leaves behind, as in the summary of a conversion."""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data, keys in order."""
        return {"schema": 1, **to_builtins(self)}


def inspect(recipe: Recipe) -> list[Inspection]:
    """Return what is in each source of the recipe and how chatfmt reads it, by up to 1000 of its rows.

    Raises UsageError, InputError if a source cannot be read.
    """
    required(recipe, "inspect")
    found = []
    with Scratch() as scratch:
        for spec in recipe.read_apart:
            with open_source(recipe, spec, scratch) as reader:
                sample = in_window(recipe, reader.source, reader.sample)
                inspection = inspect_source(recipe, reader.source, sample, reader.unreadable)
                grouped = None if inspection.detection else inspect_grouped(recipe, reader.source, sample, scratch)
                found.append(grouped or reading_rendered(recipe, inspection, reader.source, sample))
    return found


def inspect_grouped(
    recipe: Recipe, source: Source, sample: Sequence[pa.RecordBatch], scratch: Scratch
) -> Inspection | None:
    """Inspect the conversations of rows that are turns, by those of the sample; None if they are not, or do not fit."""
    records = [record for batch in sample for record in to_records(batch)]
    columns = Columns({name: path for name, path in recipe.map.items() if "." in name}, recipe.role_names)
    turns = None if recipe.groups_rows else rows_as_turns(column_names(sample), records, columns)
    if turns is None or turns.key is None or turns.speakers:
        return None
    path = scratch.folder / "sample.jsonl"
    path.write_bytes(b"".join(row + b"\n" for batch in sample for row in to_json(batch) if row is not None))
    files = {"train": (SourceFile(str(path), source.shown, "jsonl", None, path.stat().st_size),)}
    for order in dict.fromkeys((turns.order, None)):
        tried = dataclasses.replace(recipe, group_by=(turns.key,), order_by=order, split=None)
        with suppress(ChatfmtError):
            one = Source(source.shown, source.kind, files, source.dataset_id, subset=source.subset)
            with open_source(tried, recipe.source[0], scratch, one) as reader:
                found = inspect_source(tried, reader.source, reader.sample)
            if found.command:
                seen = _describe(source, sample)
                notes = ["each row is one turn, and the command makes conversations of them", *found.notes]
                return replace(found, splits=seen.splits, columns=seen.columns, rows_seen=seen.rows_seen, notes=notes)
    return None


def in_window(recipe: Recipe, source: Source, sample: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return those of the sampled rows that `--skip`, `--limit` and `--where` leave, or all if these are later ones."""
    if not recipe.limit:
        return sample
    window = Window(recipe, nulls=has_nulls(source))
    return [part for batch in sample if len(part := window.cut(batch))] or sample


def inspect_source(
    recipe: Recipe, source: Source, sample: Sequence[pa.RecordBatch], unreadable: Sequence[str] = ()
) -> Inspection:
    """Inspect a source by a sample of its rows; `unreadable` are the codes of those that cannot be read."""
    inspection = _describe(source, sample)
    nulls = has_nulls(source)

    def make_job(asked: Recipe) -> tuple[Job, Detection]:
        return to_job(unrendered(asked), sample, None, nulls=nulls)

    try:
        with header_checked(source, sample):
            job, detection = make_job(recipe)
    except NoDialect as error:
        return replace(inspection, problem=error.message, hint=error.hint)
    outputs, counts, errors = convert_sample(job, sample, source.shown)
    inspection = replace(
        inspection,
        detection=_detected(detection),
        roles=dict(sum((count_roles(batch) for batch in outputs), Counter[str]()).most_common()),
        turns=to_spread(count for batch in outputs for count in count_turns(batch)),
        characters=to_spread(count for batch in outputs for count in count_characters(batch)),
        findings={**counts.findings, **(reasons := counts.reasons + Counter(unreadable))},
        notes=[*source.notes, *name_notes([source], recipe), *kept_notes(job, detection), *_left_out(counts, errors)],
        **_left_behind(job),
    )
    try:
        refuse_suspects(recipe, job, lambda changed: make_job(changed)[0])
        if errors and len(errors) >= inspection.rows_seen:
            raise UsageError(f"no row can be converted: {errors[0].message}", hint=errors[0].hint)
        joined = bool(counts.changes["text_parts.join"])
        arguments = template_arguments(recipe, detection.type, outputs, media=job.media, joined=joined)
        rejected = counts.rejected + counts.findings["row.empty"]  # which a template rejects
        arguments, tried = working_arguments(recipe, sample, arguments, nulls=nulls, rejected=rejected)
        refuse_unprinted(recipe, sample, arguments, tried)
    except UsageError as error:
        return replace(inspection, problem=error.message, hint=error.hint)
    skipping = error_arguments(recipe, reasons, counts.findings, inspection.rows_seen + len(unreadable))
    command = convert_command(recipe, source, job.dialect, arguments, skipping)
    return replace(inspection, command=command, **_left_behind(tried or job))  # a text leaves more behind


def reading_rendered(recipe: Recipe, found: Inspection, source: Source, sample: Sequence[pa.RecordBatch]) -> Inspection:
    """Return an inspection whose command reads the turns of rendered questions, which it would render again."""
    detection = found.detection or {}
    if not (found.command and detection["rendered"]):
        return found
    how: dict[str, Any] = {"map": {"text": detection["rendered"]}, "transforms": {"empty_turns": "drop"}}
    command = inspect_source(dataclasses.replace(recipe, dialect="transcript", **how), source, sample).command
    is_prompt = command and detection["type"] == "prompt-only"
    return replace(found, command=f"{command} --to prompt" if is_prompt else command)


def _left_out(counts: RowCounts, errors: Sequence[RowError]) -> list[str]:
    """Return a note on the first rejected row, or that the options leave no row; nothing if all rows are rejected."""
    if not counts.written:
        return ["no sampled row is left to try the command on"] if counts.filtered else []
    return [f"{error.at.place}: {error.message}" + (f"; {error.hint}" if error.hint else "") for error in errors[:1]]


def _left_behind(job: Job) -> dict[str, list[str]]:
    """Return the leaves that a job leaves behind, as fields of an Inspection."""
    columns, keys = job.ledger.left_columns, job.ledger.left_keys
    return {"left_columns": [str(leaf) for leaf in columns], "left_keys": [str(leaf) for leaf in keys]}


def _detected(detection: Detection) -> dict[str, Any]:
    """Return a detection as plain data, with the column of each part and the role of each name."""
    columns = detection.columns
    return {**asdict(detection), "columns": dict(columns.fields), "roles": dict(columns.roles)}


def _describe(source: Source, sample: Sequence[pa.RecordBatch]) -> Inspection:
    """Return what is known about a source before its rows are converted."""
    return Inspection(
        source=source.shown,
        kind=source.kind,
        dataset=source.dataset_id,
        revision=source.revision,
        subset=source.subset,
        licence=source.licence,
        splits={split: len(files) for split, files in source.splits.items()},
        rows_seen=sum(len(batch) for batch in sample),
        columns=describe_columns(sample),
    )
