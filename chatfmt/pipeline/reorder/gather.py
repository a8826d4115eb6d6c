"""Rows in an order that only all of them together decide: the tasks write parts, `select` chooses, shards gather.

tasks ──▶ STATE/parts/… ──select──▶ GatherTask, GatherTask, … ──▶ Shard, Shard, …

Selecting needs 40 bytes of memory a row, gathering a few blocks of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import executors, writers
from ...manifest import SUMS, Shard, totals
from ..conversion.job import Task
from ..conversion.task import run_missing
from ..planning.plan import Plan
from .selection import Numbers, Selection, joined, select, to_conversations

BLOCK_BYTES = 32 << 20
BLOCK_ROWS = 1 << 14
OPEN_PARTS = 200
"""Parts that are open at a time: each takes a file descriptor."""


class GatherTask(Struct, frozen=True, eq=False):
    """Rows of parts to one output shard; same task, same bytes."""

    name: str
    state: Path
    fingerprint: str
    parts: tuple[Path, ...]
    starts: Numbers
    """The number of the first row of each part."""
    rows: Numbers
    """The numbers of the rows to take, in the order of the output."""
    block: int
    """Rows to hold in memory at a time."""
    format: str
    compression: str | None
    schema: pa.Schema
    shard: Shard
    """What is known of the shard before it is written."""
    rejects: tuple[Path, ...] = ()


def first_tasks(plan: Plan, state: Path) -> tuple[list[Task], Path]:
    """The tasks that read the input, and the folder where they leave what they wrote: the shards, or parts of them."""
    if not plan.recipe.reorders_rows:
        return plan.tasks(state), state
    parts = writers.parts_folder(state)
    if writers.run_fingerprint(parts) != plan.fingerprint:
        writers.prepare(parts, plan.fingerprint)
    return [to_part_task(task) for task in plan.tasks(parts)], parts


def to_part_task(task: Task) -> Task:
    """The task that writes a part instead of a shard."""
    job = task.job
    return replace(
        task, job=replace(job, key=job.key + "-part", tagged=True, format=f"{job.format}-part", compression=None)
    )


def gathered(plan: Plan, state: Path, parts: Sequence[Shard], run: executors.Executor, workers: int) -> list[Shard]:
    """The shards of the plan, made of the `parts` that its tasks wrote."""
    tasks = gather_tasks(plan, state, parts)
    return list(run_missing(run_gather, tasks, writers.finished(state, plan.fingerprint), run, workers))


def gather_tasks(plan: Plan, state: Path, parts: Sequence[Shard]) -> list[GatherTask]:
    """The tasks that make shards of parts, in the order of the output; raises nothing for no parts."""
    if not parts:
        return []
    folder = writers.parts_folder(state)
    splits, selection = chosen(plan, folder, parts)
    cuts = cut(plan, parts, splits, selection.rows)
    paths = tuple(writers.staged_path(folder, part.name) for part in parts)
    shared = GatherTask(
        "", state, plan.fingerprint, paths, first_rows(parts), np.empty(0, np.int64), block_rows(parts),
        plan.target.format, plan.target.compression,
        writers.parquet_schema(plan.parts[0].job.schema or pa.schema([])), Shard(""),
    )  # fmt: skip
    counts = iter(booked([len(rows) for _, _, rows in cuts], total(parts, selection)))
    tasks = [
        replace(shared, name=name, rows=rows, shard=replace(next(counts), name=name, split=split))
        for name, split, rows in cuts
    ]
    rejects = tuple(writers.rejects_path(folder, part.name) for part in parts if part.reject_sha256)
    return [replace(tasks[0], rejects=rejects), *tasks[1:]]


def chosen(plan: Plan, folder: Path, parts: Sequence[Shard]) -> tuple[list[str], Selection]:
    """The splits of the parts, in order, and what the recipe chooses of their rows."""
    splits = list(dict.fromkeys(part.split for part in parts))
    sources = {task.name: task.source for task in plan.tasks(folder)}
    found = []
    for part, first in zip(parts, first_rows(parts), strict=True):
        with writers.read_part(writers.staged_path(folder, part.name)) as batches:
            tags = [batch.column(writers.TAG) for batch in batches]
            found.append(to_conversations(tags, int(first), splits.index(part.split), sources[part.name]))
    return splits, select(plan.recipe, splits, joined(found))


def first_rows(parts: Sequence[Shard]) -> Numbers:
    counts = [part.rows for part in parts]
    return np.cumsum([0, *counts[:-1]], dtype=np.int64)


def block_rows(parts: Sequence[Shard]) -> int:
    """How many rows are about BLOCK_BYTES."""
    size = sum(part.bytes for part in parts) / max(1, sum(part.rows for part in parts))
    return max(1, min(BLOCK_ROWS, int(BLOCK_BYTES / max(size, 1))))


def cut(
    plan: Plan, parts: Sequence[Shard], splits: Sequence[str], rows: Mapping[str, Numbers]
) -> list[tuple[str, str, Numbers]]:
    """Name, split and rows of each shard: `--rows-per-shard`, or shards of about as many rows as the parts have."""
    size = plan.recipe.rows_per_shard
    usual = max(1.0, sum(part.rows for part in parts) / len(parts))
    found = []
    for split, numbers in rows.items():
        if not len(numbers) and split not in splits:
            continue
        count = max(1, -(-len(numbers) // size) if size else round(len(numbers) / usual))
        steps = np.arange(1, count) * size if size else np.arange(1, count) * len(numbers) // count
        for index, piece in enumerate(np.split(numbers, steps)):
            found.append((f"data/{split}-{index:05d}-of-{count:05d}{plan.target.ending}", split, piece))
    return found


def total(parts: Sequence[Shard], selection: Selection) -> Shard:
    """What became of all rows: the sums over the parts, and what the selection did."""
    sums = totals(parts)
    counts = {name.removeprefix("counts."): n for name, n in sums.items() if name.startswith("counts.")}
    chosen = selection.counts
    added = {"added": chosen.added, "filtered": chosen.filtered, "duplicates": chosen.duplicates}
    known: dict[str, Any] = {name: sums[name] + added.get(name, 0) for name in SUMS if name != "bytes"}
    return Shard("", counts=counts, **{**known, "rows": sum(map(len, selection.rows.values()))})


def booked(rows: Sequence[int], whole: Shard) -> list[Shard]:
    """The counts of shards of so many rows: each has read what it holds, the first all that is in none of them."""
    shards, read, added = [], whole.rows_in, whole.added
    for count in rows[1:]:
        own = min(count, read)
        shards.append(Shard("", rows=count, rows_in=own, added=count - own))
        read, added = read - own, added - (count - own)
    return [replace(whole, rows=rows[0], rows_in=read, added=added), *shards]


def run_gather(task: GatherTask) -> Shard:
    """The shard that the task wrote, whole and with its receipt."""
    writer = writers.ShardWriter(writers.staged_path(task.state, task.name), task.format, task.schema, task.compression)
    with writer, Parts(task.parts, task.starts) as parts:
        for start in range(0, len(task.rows), task.block):
            for batch in parts.take(task.rows[start : start + task.block]):
                writer.write(batch)
    shard = replace(task.shard, bytes=writer.bytes, sha256=writer.sha256)
    if task.rejects:
        with writers.AtomicFile(writers.rejects_path(task.state, task.name)) as file:
            for path in task.rejects:
                writers.copy(path, file)
        shard = replace(shard, reject_bytes=file.bytes, reject_sha256=file.sha256)
    writers.write_receipt(task.state, shard, task.fingerprint)
    return shard


class Parts:
    """Parts mapped into memory, a limited number of them at a time."""

    def __init__(self, paths: Sequence[Path], starts: Numbers) -> None:
        self._paths, self._starts = paths, starts
        self._open: dict[int, tuple[ExitStack, list[pa.RecordBatch], Numbers]] = {}

    def take(self, rows: Numbers) -> Iterator[pa.RecordBatch]:
        """The rows with these numbers, in their order, without their tags; more than one batch where they are large."""
        order = np.argsort(rows, kind="stable")
        pieces = list(self._pieces(rows[order]))
        if sum(piece.nbytes for piece in pieces) > 8 * BLOCK_BYTES and len(rows) > 1:
            for half in np.array_split(rows, 2):
                yield from self.take(half)
            return
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        whole = pa.Table.from_batches(pieces).drop_columns([writers.TAG]).combine_chunks()
        yield whole.to_batches()[0].take(pa.array(back))

    def _pieces(self, rows: Numbers) -> Iterator[pa.RecordBatch]:
        """The rows, whose numbers rise, batch by batch of the parts they lie in."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for part, mine in runs(owners, rows - self._starts[owners]):
            batches, starts = self._part(part)
            places = np.searchsorted(starts, mine, side="right") - 1
            for number, inside in runs(places, mine - starts[places]):
                yield batches[number].take(pa.array(inside))

    def _part(self, number: int) -> tuple[list[pa.RecordBatch], Numbers]:
        if number not in self._open:
            if len(self._open) == OPEN_PARTS:
                self._open.pop(next(iter(self._open)))[0].close()
            stack = ExitStack()
            batches = stack.enter_context(writers.read_part(self._paths[number]))
            starts = np.cumsum([0, *(len(batch) for batch in batches[:-1])], dtype=np.int64)
            self._open[number] = stack, batches, starts
        return self._open[number][1:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._open:
            self._open.popitem()[1][0].close()


def runs(keys: Numbers, values: Numbers) -> Iterator[tuple[int, Numbers]]:
    """The values of each run of equal keys."""
    ends = np.flatnonzero(np.diff(keys)) + 1
    for piece, found in zip(np.split(keys, ends), np.split(values, ends), strict=True):
        if len(piece):
            yield int(piece[0]), found
