"""Stream rows to stdout, a device or a named pipe as they are converted: in constant memory, never resumed.

Rows are converted and encoded in a worker process that sends their bytes back, so that a crash in native code becomes
an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from io import BytesIO

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import executors, writers
from ...errors import ChatfmtError, DataProblem
from ...manifest import Reject, Shard
from ...recipe import Recipe, Run
from ...sources import InputSplit
from ...stores import is_remote, shown
from ...writers import Stream
from ..conversion.job import Job, RowRange
from ..conversion.output.columns import renamed
from ..conversion.output.schema import Types, merge_types, types_of
from ..conversion.rejects import to_reject
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import get_conversion, output_batches
from ..planning.plan import Plan, split_locator
from ..schedule import run_tasks
from .destinations import open_stream
from .max_bad import check_max_bad
from .progress import OnProgress, Reached
from .rejects import is_of_template, offer_remedy, open_rejects
from .summary import Summary, late_notes, summarise, with_last_notes


class StreamTask(Struct, frozen=True):
    """A job, and the inputs of each of its shards."""

    job: Job
    shards: tuple[tuple[InputSplit, ...], ...]
    suspect: RowRange | None = None
    """The rows to convert one by one, to find the one that crashes the process."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The local files that have to be where the task runs."""
        return tuple(split.uri for shard in self.shards for split in shard if not is_remote(split.uri))

    def row_by_row(self, position: RowRange) -> StreamTask:
        """Return the same task, with the rows at `position` converted one by one."""
        return replace(self, suspect=position)


class StreamChunk(Struct, frozen=True):
    """The next bytes of the stream, the rows rejected since the last chunk, and the counts of the task so far."""

    data: bytes
    counts: RowCounts
    rejects: list[Reject] = field(default_factory=list)
    types: Types = field(default_factory=dict)
    """The types of the columns so far."""


def stream_rows(plan: Plan, run: Run, on_progress: OnProgress) -> Summary:
    """Write the rows of a plan to its stream, in order."""
    stream, counts, types, refused = open_stream(plan.target), RowCounts(), Types(), None
    with open_rejects(run.rejects) as write_rejects:
        for chunks in chunks_of_tasks(plan, run):
            for chunk in chunks:
                refused = refused or next(filter(is_of_template, chunk.rejects), None)
                write_rejects(chunk.rejects)
                stream.write(chunk.data)
                stream.flush()
                on_progress(reached(counts, chunk.counts))
            types = merge_types(types, chunk.types)
            counts.add(chunk.counts)  # there is always one, the last with the counts of the whole task
    try:
        return summarise_stream(plan.recipe, run, counts, stream, (*plan.notes, *late_notes(types)))
    except DataProblem as problem:
        offer_remedy(problem, plan.sources[0].job, refused)
        raise


def chunks_of_tasks(plan: Plan, run: Run) -> Iterator[Iterable[StreamChunk]]:
    """Yield the chunks of each task: one for each source in a worker, or one for each shard on other machines."""
    if not executors.executor(run.executor).elsewhere:
        for source in plan.sources:
            task = StreamTask(source.job, source.shards)
            with closing(executors.in_worker(convert_to_chunks, task)) as chunks:
                yield chunks
        return
    tasks = [
        StreamTask(source.job, (tuple(map(locate, shard)),))
        for source in plan.sources
        for locate in [split_locator(source)]
        for shard in source.shards
    ]
    with closing(run_tasks(collect_chunks, tasks, run)) as collected:
        for found, error in collected:
            yield found
            if error is not None:
                raise error


def collect_chunks(task: StreamTask) -> tuple[list[StreamChunk], ChatfmtError | None]:
    """Return all chunks of a task, and the error that ended it, if any."""
    chunks: list[StreamChunk] = []
    try:
        chunks.extend(convert_to_chunks(task))
    except ChatfmtError as error:
        return chunks, error
    return chunks, None


def reached(*parts: RowCounts) -> Reached:
    """Return how far a stream is by the counts of its parts."""
    rows, size, rejected = (sum(getattr(part, name) for part in parts) for name in ("read", "bytes", "rejected"))
    return Reached(rows, size, rejected)


def convert_to_chunks(task: StreamTask) -> Iterator[StreamChunk]:
    """Yield the chunks of a task, in order; what came before an error is yielded before it is raised."""
    conversion, counts, rejects = get_conversion(task.job), RowCounts(), list[Reject]()
    on_rejects = (lambda rows: rejects.extend(map(to_reject, rows))) if task.job.skip_bad else None
    batches = (
        batch
        for inputs in task.shards
        for batch in output_batches(inputs, conversion, counts, on_rejects, task.suspect)
    )
    yield from encode_to_chunks(batches, conversion, counts, rejects)


def encode_to_chunks(
    batches: Iterable[pa.RecordBatch], conversion: Conversion, counts: RowCounts, rejects: list[Reject]
) -> Iterator[StreamChunk]:
    """Yield a chunk for each output batch, with the counts and rejects so far, and one for the end or before an error.

    Converting the batches fills `counts` and `rejects`.
    """
    job, sink, types = conversion.job, BytesIO(), Types()
    encoder = writers.FORMATS[job.format](sink, pa.schema([]), job.compression, explicit_nulls=job.nulls)

    def next_chunk() -> StreamChunk:
        chunk = StreamChunk(sink.getvalue(), counts, rejects.copy(), types)
        sink.seek(0)
        sink.truncate()
        rejects.clear()
        return chunk

    try:
        for batch in batches:
            encoder.write(renamed(batch, job.rename))
            types = merge_types(types, types_of(batch, typed=job.nulls))
            yield next_chunk()
    except ChatfmtError:
        yield next_chunk()
        raise
    conversion.report(counts)
    encoder.close()
    yield next_chunk()


def summarise_stream(recipe: Recipe, run: Run, counts: RowCounts, stream: Stream, notes: Sequence[str]) -> Summary:
    """Return the summary of what went to a stream; raises DataProblem if too many rows were rejected."""
    counts.check_balance()
    shard = Shard(name="-", bytes=stream.bytes, **counts.to_shard())
    check_max_bad(recipe, [shard], rejects=run.rejects, resumable=False)
    summary = with_last_notes(summarise([shard], "-", notes), recipe)
    return replace(summary, rejects=shown(run.rejects)) if run.rejects and summary.rejected else summary
