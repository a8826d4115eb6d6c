"""stdin to stdout: rows as they come, in constant memory; the first row leaves before the last has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import pyarrow as pa

from ... import sources, writers
from ...errors import UsageError
from ...recipe import Recipe
from ...writers import Stream
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion, OnReject
from ..conversion.task import RejectBuffer
from ..planning import notes
from ..planning.inputs import parse_options, slice_of
from ..planning.plan import load_template, to_job
from ..planning.scratch import stdin_bytes
from ..planning.target import Target

OnNote = Callable[[str], None]


def convert_piped(
    recipe: Recipe, target: Target, stream: Stream, on_reject: OnReject | None, counts: RowCounts, on_note: OnNote
) -> str:
    """Convert stdin to `stream` and keep the `counts`; returns the dialect, found from the first rows that came.

    `on_note` is told what the user should hear before the first row leaves.
    """
    if recipe.split not in (None, "train"):
        raise UsageError("stdin has no splits", hint="leave --split out; --limit takes the first rows")
    refused = RejectBuffer(on_reject, counts, "-")
    options = parse_options(recipe)
    read = sources.read_stream(stdin_bytes(), "-", options, on_bad=refused.read if on_reject else None)
    batches = _window(read, recipe.skip, recipe.limit)
    first = next(batches, None)
    if first is None:
        refused.hand_over()
        if slice_of(recipe) and not counts.rejected and not recipe.allow_empty:
            raise sources.no_records("-", f"train{slice_of(recipe)}")
        return "none"
    template = load_template(recipe)
    job, detection = to_job(recipe, [first], template, target, nulls=False)
    said = (notes.of_job(job, detection), notes.of_system([(job, detection)]), notes.of_template(template, recipe))
    for note in chain.from_iterable(said):
        on_note(note)
    conversion = Conversion(job)
    encoder = writers.FORMATS[target.format](stream, pa.schema([]), target.compression)
    for batch in chain([first], batches):
        for made in conversion.convert(batch, "-", counts, refused.add if on_reject else None):
            encoder.write(made)
        refused.hand_over()
        stream.flush()
    refused.hand_over()
    encoder.close()
    conversion.report(counts)
    return detection.dialect


def _window(batches: Iterator[pa.RecordBatch], skip: int, limit: int | None) -> Iterator[pa.RecordBatch]:
    """The rows of the batches from `skip` on, `limit` of them; reads no further than it must."""
    left = limit
    for batch in batches:
        kept = batch.slice(skip)
        skip -= len(batch) - len(kept)
        kept = kept if left is None else kept.slice(0, left)
        left = None if left is None else left - len(kept)
        if len(kept):
            yield kept
        if left == 0:
            return
