"""Pipe stdin to a stream in constant memory: the first row is written before the last one has been read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from ... import sources
from ...errors import UsageError
from ...manifest import Reject
from ...recipe import Recipe, Run
from ...sources.bytes.compression import reading
from ...sources.discovery.sniff import format_of_content
from ..conversion.job import Job
from ..conversion.output.schema import Types
from ..conversion.rejects import RejectBuffer, to_reject
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import arranged, convert_batches
from ..planning import notes
from ..planning.inputs import parse_options, row_slice
from ..planning.jobs import to_checked_job
from ..planning.matching import Window
from ..planning.options import check_embedding
from ..planning.plan import check_options
from ..planning.scratch import stdin_bytes
from ..planning.target import Target
from ..planning.templates import load_template
from .destinations import open_stream
from .progress import OnProgress, ignore_progress
from .rejects import check_rejects, open_rejects
from .stream import StreamChunk, encode_to_chunks, reached, summarise_stream
from .summary import Summary, late_notes

OnNote = Callable[[str], None]


def is_piped(recipe: Recipe, target: Target) -> bool:
    """Return whether rows go from stdin straight to a stream."""
    in_order = not recipe.reorders_rows and not recipe.from_rejects and not recipe.groups_rows
    piped = in_order and target.kind == "stream" and [spec.source for spec in recipe.source] == ["-"]
    return piped and not (recipe.field is None and is_document(stdin_bytes()))


def is_document(stream: BinaryIO) -> bool:
    """Return whether a stream begins as a JSON object over several lines does; nothing is read from it."""
    with reading(stream, "-"):
        head = stream.peek(1) if hasattr(stream, "peek") else b""
    whole_line = b"\n" in head.strip()
    return whole_line and head.lstrip().startswith(b"{") and format_of_content(head, "-", sources.DEFAULTS) == "json"


def pipe(
    recipe: Recipe,
    target: Target,
    run: Run,
    on_note: OnNote = lambda note: None,
    on_progress: OnProgress = ignore_progress,
) -> Summary:
    """Convert stdin to a stream; `on_note` receives each note before the first row is written."""
    check_options(recipe, target, run)
    check_rejects(run)
    counts, stream, noted, types = RowCounts(), open_stream(target), list[str](), Types()

    def add_note(note: str) -> None:
        noted.append(note)
        on_note(note)

    with open_rejects(run.rejects) as write_rejects:
        for chunk in _convert_stdin(recipe, target, counts, write_rejects, add_note):
            stream.write(chunk.data)
            stream.flush()
            types = chunk.types
            on_progress(reached(counts))
    for note in late_notes(types):
        add_note(note)
    summary = summarise_stream(recipe, run, counts, stream, tuple(noted))
    for note in summary.notes[len(noted) :]:
        on_note(note)
    return summary


def _convert_stdin(
    recipe: Recipe,
    target: Target,
    counts: RowCounts,
    write_rejects: Callable[[Iterable[Reject]], None],
    on_note: OnNote,
) -> Iterator[StreamChunk]:
    """Yield stdin, converted, batch by batch; the dialect is detected from the rows that arrive first.

    Rejects are written at once, and are in no chunk: between two chunks there may be any number of bad rows.
    """
    if recipe.split not in (None, "train"):
        raise UsageError("stdin has no splits", hint="leave --split out; --limit takes the first rows")
    on_rejects = (lambda rows: write_rejects(map(to_reject, rows))) if recipe.on_error == "skip" else None
    buffer = RejectBuffer(on_rejects, counts, "-")
    rows = sources.read_stream(
        stdin_bytes(), "-", parse_options(recipe), on_bad=buffer.on_unreadable, spool_limit=recipe.spool_limit
    )
    batches = _cut(rows, Window(recipe, nulls=False), counts)
    first = next(batches, None)
    if first is None:
        buffer.flush()
        if row_slice(recipe) and not counts.rejected and not recipe.allow_empty:
            raise sources.no_records_error("-", f"train{row_slice(recipe)}")
        yield StreamChunk(b"", counts)
        return
    conversion = Conversion(_plan(recipe, first, target, on_note))
    converted = convert_batches(chain([first], batches), conversion, "-", counts, buffer)
    yield from encode_to_chunks(arranged(converted, conversion.job, counts), conversion, counts, [])


def _plan(recipe: Recipe, first: pa.RecordBatch, target: Target, on_note: OnNote) -> Job:
    """Return the job that fits the first rows, and note what there is to say about it."""
    template = load_template(recipe)
    job, detection = to_checked_job(recipe, [first], template, target, nulls=False)
    check_embedding(recipe, job, target)
    for note in chain(
        notes.job_notes(first, job, detection, recipe),
        notes.recipe_notes(recipe, target, [(job, detection)], template),
    ):
        on_note(note)
    return job


def _cut(batches: Iterator[pa.RecordBatch], window: Window, counts: RowCounts) -> Iterator[pa.RecordBatch]:
    """Yield the rows inside the window, and count their bytes; read no further than that takes."""
    for batch in batches:
        part = window.cut(batch)
        counts.bytes += part.nbytes
        if len(part):
            yield part
        if window.is_complete:
            return
