"""One task: read its input splits, convert them, write one shard with its rejects and its receipt."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from ... import executors, sources, writers
from ...errors import ChatfmtError, RowError
from ...escaped_texts import remember
from ...manifest import Shard
from ...sources import InputSplit
from .job import Job, RowRange, Task
from .media_files import with_bytes
from .output.blocks import in_blocks
from .output.columns import renamed
from .output.packing import pack
from .output.schema import Types, merge_types, types_of, types_to_text
from .rejects import OnRejects, RejectBuffer, Rejected, ignore_rejects, to_reject
from .row_counts import RowCounts
from .source_rows import merge_batches, row_number, split_rows
from .stages import Conversion


def run_task(task: Task) -> Shard:
    """Write the shard of a task with its receipt, and return it. Same task, same bytes: no clock, no randomness."""
    conversion, counts = get_conversion(task.job), RowCounts()
    if task.suspect is not None:
        return convert_row_by_row(task, conversion)
    with writers.RejectWriter(writers.rejects_path(task.state, task.name)) as rejects, shard_writer(task) as writer:
        on_rejects = (lambda rows: rejects.write(map(to_reject, rows))) if task.job.skip_bad else None
        types = Types()
        for batch in output_batches(task.inputs, conversion, counts, on_rejects):
            for part in with_bytes(batch) if task.job.embed_media else (batch,):
                writer.write(renamed(part, task.job.rename))
            if task.job.reports_types:
                types = merge_types(types, types_of(batch, typed=task.job.nulls))
    types.pop(writers.TAG, None)
    if types and task.job.packing is not None:
        types |= task.job.packing.added_types
    conversion.report(counts)
    counts.check_balance()
    shard = Shard(
        name=task.name,
        split=task.split,
        bytes=writer.bytes,
        arrow_bytes=writer.arrow_bytes,
        sha256=writer.sha256,
        reject_bytes=rejects.bytes,
        reject_sha256=rejects.sha256,
        types=types_to_text(types),
        **counts.to_shard(),
    )
    writers.write_receipt(task.state, shard, task.fingerprint)
    return shard


def shard_writer(task: Task) -> writers.ShardWriter:
    """Return the writer of the shard of a task, for batches whose columns are renamed."""
    job, path = task.job, writers.staged_path(task.state, task.name)
    schema = renamed(job.schema or pa.schema([]), job.rename)
    return writers.ShardWriter(path, job.format, schema, job.compression, explicit_nulls=job.nulls)


def convert_row_by_row(task: Task, conversion: Conversion) -> Shard:
    """Convert without writing, the suspect rows one by one, so that the last position reported is the row that crashes.

    Returns an empty shard if nothing crashes.
    """
    on_rejects: OnRejects | None = ignore_rejects if task.job.skip_bad else None
    for _ in output_batches(task.inputs, conversion, RowCounts(), on_rejects, task.suspect):
        pass
    return Shard(task.name)


def survey_task(task: Task) -> Types:
    """Return the types of the output columns of a task; nothing is rendered or written."""
    conversion, types = get_conversion(task.job), Types()
    on_rejects: OnRejects | None = ignore_rejects if task.job.skip_bad else None
    for batch in output_batches(task.inputs, conversion, RowCounts(), on_rejects):
        types = merge_types(types, types_of(batch, typed=task.job.nulls))
    return types


def convert_sample(
    job: Job, sample: Iterable[pa.RecordBatch], file: str
) -> tuple[list[pa.RecordBatch], RowCounts, list[RowError]]:
    """Return what the sampled rows become, the row counts, and the errors of those that cannot be converted."""
    conversion, counts, errors = Conversion(job), RowCounts(), list[RowError]()

    def on_rejects(rows: Sequence[Rejected]) -> None:
        errors.extend(each.error for each in rows)

    outputs = [output for batch in sample for output in conversion.convert(batch, file, counts, on_rejects)]
    return outputs, counts, errors


def get_conversion(job: Job) -> Conversion:
    """Return the conversion of a job, made once per thread and kept with its programs and caches."""
    if job.key not in _kept.conversions:
        _kept.conversions[job.key] = Conversion(job)
    return _kept.conversions[job.key]


def forget_conversions() -> None:
    """Drop the conversions of this thread: the next run has their memory, and reports nothing that they have seen."""
    _kept.conversions.clear()
    remember(())


class _Kept(threading.local):
    """The conversions of a thread by the keys of their jobs: a conversion serves one batch at a time."""

    def __init__(self) -> None:
        self.conversions: dict[str, Conversion] = {}


_kept = _Kept()


def output_batches(
    inputs: tuple[InputSplit, ...],
    conversion: Conversion,
    counts: RowCounts,
    on_rejects: OnRejects | None,
    suspect: RowRange | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the output batches of the input splits, in order; without `on_rejects` the first bad row is raised."""
    return arranged(converted_batches(inputs, conversion, counts, on_rejects, suspect), conversion.job, counts)


def arranged(batches: Iterator[pa.RecordBatch], job: Job, counts: RowCounts) -> Iterator[pa.RecordBatch]:
    """Yield the rows of converted batches as they are written: in blocks, packed, or as they come."""
    if job.tagged:  # they are selected and ordered first
        return batches
    if job.packing is not None:
        return pack(batches, job.packing, counts)
    return in_blocks(batches) if job.in_blocks else batches


LINE_BYTES = 12 << 20
"""Bytes of JSON Lines that are converted at a time to JSON Lines: a third as many take a tenth more CPU time. To
Parquet it is fewer, for the row groups end where batches do, and stay as they are."""


def converted_batches(
    inputs: tuple[InputSplit, ...],
    conversion: Conversion,
    counts: RowCounts,
    on_rejects: OnRejects | None,
    suspect: RowRange | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the output batches of the input splits as they are converted."""
    for split in inputs:
        conversion.folder = split.folder
        lines = sources.LineFinder(split)
        rejects = RejectBuffer(on_rejects, counts, split.shown, lines)
        batches = sources.read(
            split, columns=conversion.job.read, skip=conversion.job.skip, on_bad=rejects.on_unreadable,
            line_bytes=LINE_BYTES if conversion.job.format == "jsonl" else None,
            on_lines=lines.add,
        )  # fmt: skip
        if conversion.job.whole_file:
            batches = merge_batches(batches)
        batches = with_position(batches, split, suspect, counts)
        try:
            yield from convert_batches(batches, conversion, split.shown, counts, rejects)
        except ChatfmtError as error:
            error.at = lines.with_line(error.at)
            raise


def convert_batches(
    batches: Iterator[pa.RecordBatch], conversion: Conversion, file: str, counts: RowCounts, rejects: RejectBuffer
) -> Iterator[pa.RecordBatch]:
    """Yield the output batches of the batches of a file, and pass on the rejects of each before the next is read."""
    for batch in batches:
        yield from conversion.convert(batch, file, counts, rejects.on_bad)
        rejects.flush()
    rejects.flush()


def with_position(
    batches: Iterator[pa.RecordBatch],
    split: InputSplit,
    suspect: RowRange | None = None,
    counts: RowCounts | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the batches, reporting each row range to the parent process first so that a crash can be located.

    The batch that starts at `suspect` is yielded row by row. With `counts` the bytes of the batches are added to them.
    """
    counts, row = RowCounts() if counts is None else counts, split.first_row
    while True:
        executors.report_position(RowRange(split.shown, row, None, counts.bytes, counts.rejected))
        batch = next(batches, None)
        if batch is None:
            return
        is_suspect = suspect is not None and suspect.file == split.shown and row_number(batch, 0) == suspect.first
        for part in split_rows(batch) if is_suspect else (batch,):
            first, row = row_number(part, 0), row_number(part, -1) + 1
            counts.bytes += part.nbytes
            executors.report_position(RowRange(split.shown, first, row, counts.bytes, counts.rejected))
            yield part
