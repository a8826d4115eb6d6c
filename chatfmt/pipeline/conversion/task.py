"""One task: read its input splits, convert them, write one shard with its rejects and its receipt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol, TypeVar

import pyarrow as pa
from msgspec.structs import replace

from ... import executors, sources, writers
from ...errors import Location, RowError
from ...json_columns import decode_objects, encode_objects
from ...manifest import Reject, Shard
from ...schema import ROW
from ...sources import InputSplit
from .job import Job, RowRange, Task
from .output_schema import Types, merge_types, types_of
from .row_counts import RowCounts
from .stages import Conversion, OnReject


class Named(Protocol):
    """A task that makes one shard."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)
A = TypeVar("A")
R = TypeVar("R")


def run_task(task: Task) -> Shard:
    """The shard that the task wrote, whole and with its receipt. Same task, same bytes: no clock, no chance."""
    conversion, counts = ready(task.job), RowCounts()
    if task.suspect is not None:
        return search(task, conversion)
    with (
        writers.RejectWriter(writers.rejects_path(task.state, task.name)) as rejects,
        writers.ShardWriter(
            writers.staged_path(task.state, task.name),
            task.job.format,
            task.job.schema or pa.schema([]),
            task.job.compression,
            explicit_nulls=task.job.nulls,
        ) as writer,
    ):
        on_reject = (lambda error, raw: rejects.add(to_reject(error, raw))) if task.job.skip_bad else None
        for batch in output_batches(task.inputs, conversion, counts, on_reject):
            writer.write(batch)
    conversion.report(counts)
    counts.check_balance()
    shard = to_shard(task.name, task.split, counts, writer, rejects)
    writers.write_receipt(task.state, shard, task.fingerprint)
    return shard


def search(task: Task, conversion: Conversion) -> Shard:
    """Do the task without writing, row by row where it is suspect; the worker that this ends says where it was."""
    ignore: OnReject | None = (lambda error, raw: None) if task.job.skip_bad else None
    for _ in output_batches(task.inputs, conversion, RowCounts(), ignore, task.suspect):
        pass
    return Shard(task.name)


def run_missing(
    fn: Callable[[T], Shard],
    tasks: Sequence[T],
    found: Mapping[str, Shard],
    executor: executors.Executor,
    workers: int,
    on_position: executors.OnPosition[T] = executors.ignore_position,
) -> Generator[Shard, None, None]:
    """The shards of the tasks, in order: those that an earlier try left whole (`found`), and those made now."""
    left = [task for task in tasks if task.name not in found]
    with closing(run_tasks(fn, left, executor, workers, on_position)) as made:
        for task in tasks:
            yield found[task.name] if task.name in found else next(made)


def run_tasks(
    fn: Callable[[A], R],
    tasks: Sequence[A],
    executor: executors.Executor,
    workers: int,
    on_position: executors.OnPosition[A] = executors.ignore_position,
) -> Generator[R, None, None]:
    """The results of the tasks, in order: from other processes where those cost little or there is enough to do."""
    apart = executors.has_fork_server() or (workers > 1 and len(tasks) > 1)
    yield from (executor.run(fn, tasks, workers, on_position) if apart else executors.serial(fn, tasks, 1, on_position))


def ready(job: Job) -> Conversion:
    """The conversion of a job, made once in each process and kept with its programs and caches."""
    if job.key not in _READY:
        _READY[job.key] = Conversion(job)
    return _READY[job.key]


_READY: dict[str, Conversion] = {}


def output_batches(
    inputs: tuple[InputSplit, ...],
    conversion: Conversion,
    counts: RowCounts,
    on_reject: OnReject | None,
    suspect: RowRange | None = None,
) -> Iterator[pa.RecordBatch]:
    """Output batches of the input splits, in order; without `on_reject` the first bad row is raised."""
    for split in inputs:
        refused = RejectBuffer(on_reject, counts, split.shown)
        on_bad = refused.read if on_reject is not None else None
        batches = sources.read(split, columns=conversion.job.read, on_bad=on_bad)
        for batch in with_position(whole(batches) if conversion.job.whole_file else batches, split, suspect):
            yield from conversion.convert(batch, split.shown, counts, refused.add if on_reject is not None else None)
            refused.hand_over()
        refused.hand_over()


def with_position(
    batches: Iterator[pa.RecordBatch], split: InputSplit, suspect: RowRange | None = None
) -> Iterator[pa.RecordBatch]:
    """The batches; before each is read and given on, the process that watches over this one is told its rows.

    Those of the suspect place come row by row.
    """
    row = split.first_row
    while True:
        executors.report_position(RowRange(split.shown, row))
        batch = next(batches, None)
        if batch is None:
            return
        looked_at = suspect is not None and suspect.file == split.shown and row_at(batch, 0) == suspect.first
        for piece in singly(batch) if looked_at else (batch,):
            first, row = row_at(piece, 0), row_at(piece, -1) + 1
            executors.report_position(RowRange(split.shown, first, row))
            yield piece


def singly(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows of a batch, each as a batch."""
    return (batch.slice(row, 1) for row in range(len(batch)))


def row_at(batch: pa.RecordBatch, index: int) -> int:
    """The number in its file of a row of a source batch."""
    return int(batch.column(ROW)[index].as_py())


def order_of(at: Location) -> int:
    """What sorts places in a file by their rows, those of no row first."""
    return -1 if at.row is None else at.row


class RejectBuffer:
    """Bad rows, handed over in the order of the source: a batch is read whole before its first row is converted."""

    def __init__(self, on_reject: OnReject | None, counts: RowCounts, file: str) -> None:
        self._on_reject, self._counts, self._file = on_reject, counts, file
        self._waiting: list[tuple[RowError, bytes | None]] = []

    def read(self, error: RowError, raw: bytes) -> None:
        """Take a row that the reader could not read, which no batch holds."""
        self._counts.reject(error.code)
        error.at = replace(error.at, file=error.at.file or self._file)
        self.add(error, raw)

    def add(self, error: RowError, raw: bytes | None) -> None:
        self._waiting.append((error, raw))

    def hand_over(self) -> None:
        for error, raw in sorted(self._waiting, key=lambda item: order_of(item[0].at)):
            assert self._on_reject is not None
            self._on_reject(error, raw)
        self._waiting.clear()


def whole(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """All rows of a file as one batch, for dialects whose conversations are spread over rows."""
    found = list(batches)
    if found:
        yield pa.Table.from_batches(found).combine_chunks().to_batches()[0] if same(found) else rejoined(found)


def same(batches: list[pa.RecordBatch]) -> bool:
    """Whether the batches have one schema."""
    return all(batch.schema == batches[0].schema for batch in batches)


def rejoined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of JSON objects as one, encoded anew: their columns differ."""
    rows = [
        row for batch in batches for row in decode_objects(dict(zip(batch.schema.names, batch.columns, strict=True)))
    ]
    numbers = pa.array([row.pop(ROW) for row in rows], pa.int64())
    fields = {ROW: numbers, **encode_objects(rows)}
    return pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))


def survey_task(task: Task) -> Types:
    """The types that the output columns of the task ask for; nothing is written, nothing rendered."""
    conversion, types = ready(task.job), Types()
    ignore: OnReject | None = (lambda error, raw: None) if task.job.skip_bad else None
    for batch in output_batches(task.inputs, conversion, RowCounts(), ignore):
        types = merge_types(types, types_of(batch))
    return types


def to_reject(error: RowError, raw: bytes | None) -> Reject:
    """The line of the rejects file for a row that was left out."""
    at = error.at
    return Reject(error.code, error.message, at.file, at.row, at.message, at.line, at.byte, raw, csv=error.csv)


def to_shard(
    name: str, split: str, counts: RowCounts, writer: writers.ShardWriter, rejects: writers.RejectWriter
) -> Shard:
    """What a task says of its shard."""
    return Shard(
        name=name,
        split=split,
        bytes=writer.bytes,
        sha256=writer.sha256,
        reject_bytes=rejects.bytes,
        reject_sha256=rejects.sha256,
        **counts.to_shard(),
    )
