"""Second pass for dedup, shuffle, weights and the test split: collect the selected rows of part files into shards.

tasks ──▶ STATE/parts/… ──select──▶ GatherTask, GatherTask, … ──▶ Shard, Shard, …

Selecting takes up to 200 bytes of memory per row, gathering a few blocks of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ... import writers
from ...errors import UsageError
from ...manifest import SUMS, Shard, totals
from ...recipe import Run
from ...tokens import SCHEMA
from ...turn_columns import IntArray
from ..conversion.job import Job, Task
from ..conversion.output.columns import renamed
from ..conversion.output.packing import Packing, pack
from ..conversion.output.schema import merged_types, types_to_text
from ..conversion.row_counts import RowCounts
from ..planning.plan import Plan
from ..schedule import run_missing_tasks
from .selection import Selection, concat_conversations, select, to_conversations

BLOCK_BYTES = 32 << 20
BLOCK_ROWS = 1 << 14
OPEN_PARTS = 200
"""Part files open at a time: each takes a file descriptor."""


class GatherTask(Struct, frozen=True, eq=False):
    """Rows of part files to write to one output shard; same task, same bytes."""

    name: str
    state: Path
    fingerprint: str
    parts: tuple[Path, ...]
    starts: IntArray
    """The number of the first row of each part file."""
    rows: IntArray
    """The numbers of the rows to write, in order."""
    block: int
    """Rows to hold in memory at a time."""
    format: str
    compression: str | None
    schema: pa.Schema
    shard: Shard
    """The shard as far as it is known before it is written."""
    rejects: tuple[Path, ...] = ()
    packing: Packing | None = None
    rename: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """A file that has to be where the task runs, as all others that it reads and writes."""
        return tuple(map(str, self.parts[:1]))


def first_tasks(plan: Plan, state: Path) -> tuple[list[Task], Path]:
    """Return the tasks that read the input, and the folder they write to: shards, or part files to reorder."""
    if not plan.recipe.reorders_rows:
        return plan.tasks(state), state
    parts = state / writers.PARTS
    if writers.run_fingerprint(parts) != plan.fingerprint:
        writers.prepare_state(parts, plan.fingerprint)
    return [to_part_task(task) for task in plan.tasks(parts)], parts


def to_part_task(task: Task) -> Task:
    """Return the task, changed to write a part file instead of a shard."""
    job, format, schema = task.job, f"{task.job.format}-part", task.job.schema
    if job.packing is not None:  # rows are packed after they are selected, so they stay columns
        format, schema = "parquet-part", SCHEMA
    part = replace(job, key=job.key + "-part", tagged=True, format=format, compression=None, schema=schema)
    part = part if has_lines(job) else replace(part, rename={})
    return replace(task, job=part)


def has_lines(job: Job) -> bool:
    """Return whether part files hold lines of JSON, whose columns have their names in the output already."""
    return job.format == "jsonl" and job.packing is None


OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, and how many of how many rows are done."""


def gather_shards(
    plan: Plan, state: Path, parts: Sequence[Shard], run: Run, on_stage: OnStage,
    store: writers.StoreFolder | None = None,
) -> list[Shard]:  # fmt: skip
    """Write the shards of a plan from the part files that its tasks wrote, and upload them if there is a store."""
    on_stage("selecting", 0, sum(part.rows for part in parts))
    tasks = gather_tasks(plan, state, parts)
    done, total = 0, sum(len(task.rows) for task in tasks)
    on_stage("gathering", done, total)
    shards: list[Shard] = []
    finished = writers.finished_shards(state, plan.fingerprint) if store is None else store.finished()
    fn = run_gather_task if store is None else writers.uploading(run_gather_task, store.url)
    with closing(run_missing_tasks(fn, tasks, finished, run)) as written:
        for task, shard in zip(tasks, written, strict=True):
            shards.append(shard)
            done += len(task.rows)
            on_stage("gathering", done, total)
    return shards


def gather_tasks(plan: Plan, state: Path, parts: Sequence[Shard]) -> list[GatherTask]:
    """Return the tasks that write shards from part files, in order; none without part files."""
    if not parts:
        return []
    folder = state / writers.PARTS
    splits, selection, tokens = select_rows(plan, folder, parts)
    shards = divide_into_shards(plan, parts, splits, selection.rows, tokens)
    paths = tuple(writers.staged_path(folder, part.name) for part in parts)
    job = plan.sources[0].job
    shared = GatherTask(
        "", state, plan.fingerprint, paths, part_starts(parts), np.empty(0, np.int64), rows_per_block(parts),
        plan.target.format, plan.target.compression,
        writers.parquet_schema(renamed(job.schema or pa.schema([]), job.rename)), Shard(""),
        rename={} if has_lines(job) else job.rename, packing=job.packing,
    )  # fmt: skip
    counted = iter(share_counts([len(rows) for _, _, rows in shards], total_counts(parts, selection)))
    size = arrow_bytes_per_row(parts)
    tasks = [
        replace(shared, name=name, rows=rows, shard=replace(
            next(counted), name=name, split=split, arrow_bytes=round(size * len(rows)),
        ))
        for name, split, rows in shards
    ]  # fmt: skip
    rejects = tuple(writers.rejects_path(folder, part.name) for part in parts if part.reject_sha256)
    return [replace(tasks[0], rejects=rejects), *tasks[1:]]


def select_rows(plan: Plan, folder: Path, parts: Sequence[Shard]) -> tuple[list[str], Selection, IntArray]:
    """Return the splits of the part files, in order, the rows that the recipe selects, and the tokens of all rows."""
    splits = list(dict.fromkeys(part.split for part in parts))
    sources = {task.name: task.source for task in plan.tasks(folder)}
    found, tokens = [], [np.empty(0, np.int64)]
    for part, first in zip(parts, part_starts(parts), strict=True):
        with closing(writers.PartFile(writers.staged_path(folder, part.name))) as file:
            tags = [batch.column(writers.TAG) for batch in file.batches]
            if plan.recipe.tokens_per_shard is not None:
                tokens += [writers.token_counts(tag).astype(np.int64) for tag in tags]
            found.append(to_conversations(tags, int(first), splits.index(part.split), sources[part.name]))
    conversations = concat_conversations(found)
    del found  # as large
    selection = select(plan.recipe, splits, conversations, in_blocks=plan.sources[0].job.in_blocks)
    return splits, selection, np.concatenate(tokens)


def part_starts(parts: Sequence[Shard]) -> IntArray:
    """Return the number of the first row of each part file."""
    counts = [part.rows for part in parts]
    return np.cumsum([0, *counts[:-1]], dtype=np.int64)


def rows_per_block(parts: Sequence[Shard]) -> int:
    """Return the number of rows that take about BLOCK_BYTES."""
    size = sum(part.bytes for part in parts) / max(1, sum(part.rows for part in parts))
    return max(1, min(BLOCK_ROWS, int(BLOCK_BYTES / max(size, 1))))


def arrow_bytes_per_row(parts: Sequence[Shard]) -> float:
    """Return the average size of the rows of part files in Arrow, without their tags."""
    rows, tag = sum(part.rows for part in parts), int(writers.TAG_TYPE.byte_width)
    return max(0.0, sum(part.arrow_bytes for part in parts) / max(1, rows) - tag)


def divide_into_shards(
    plan: Plan, parts: Sequence[Shard], splits: Sequence[str], rows: Mapping[str, IntArray], tokens: IntArray
) -> list[tuple[str, str, IntArray]]:
    """Return name, split and rows of each shard; `tokens` has those of each row if shards are divided by them."""
    found = []
    for split, numbers in rows.items():
        if not len(numbers) and split not in splits:
            continue
        check_shard_count(plan, split, len(numbers))
        divided = np.split(numbers, shard_starts(plan, parts, numbers, tokens))
        names = writers.shard_names(plan.recipe.shard_name, split, len(divided), plan.target.ending)
        found += [(name, split, mine) for name, mine in zip(names, divided, strict=True)]
    return found


MOST_EMPTY = 1_000


def check_shard_count(plan: Plan, split: str, rows: int) -> None:
    """Raise UsageError if `--shards` would write more than 1,000 shards without rows."""
    shards = plan.recipe.shards
    if shards is not None and shards - rows > MOST_EMPTY:
        raise UsageError(
            f"`--shards {shards}` is more than the rows of `{split}`: {rows:,}", hint=f"--shards {max(1, rows)}"
        )


def shard_starts(plan: Plan, parts: Sequence[Shard], numbers: IntArray, tokens: IntArray) -> IntArray:
    """Return where each shard of a split begins among its rows, except for the first.

    `--shards` divides the rows equally, the first shards having one more, and `--tokens-per-shard` begins a shard where
    the last would have more tokens. By default a shard has about as many rows as a part file.
    """
    recipe, count = plan.recipe, len(numbers)
    if recipe.shards is not None:
        return np.cumsum([count // recipe.shards + (each < count % recipe.shards) for each in range(recipe.shards - 1)])
    if recipe.tokens_per_shard is not None:
        return token_starts(tokens[numbers], recipe.tokens_per_shard)
    if size := recipe.rows_per_shard:
        return np.arange(size, count, size)
    average = max(1.0, sum(part.rows for part in parts) / len(parts))
    shards = max(1, round(count / average))
    return np.arange(1, shards) * count // shards


def token_starts(tokens: IntArray, limit: int) -> IntArray:
    """Return where runs of up to `limit` tokens begin, except for the first; each has one row at least."""
    ends, starts = np.cumsum(tokens), list[int]()
    start = before = 0
    while (start := max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))) < len(tokens):
        starts.append(start)
        before = int(ends[start - 1])
    return np.array(starts, np.int64)


def total_counts(parts: Sequence[Shard], selection: Selection) -> Shard:
    """Return the counts of the whole run, as a Shard: the sums over the part files, and what the selection changed."""
    sums = totals(parts)
    counts = {name.removeprefix("counts."): n for name, n in sums.items() if name.startswith("counts.")}
    chosen = selection.counts
    added = {"added": chosen.added, "filtered": chosen.filtered, "duplicates": chosen.duplicates}
    known: dict[str, Any] = {name: sums[name] + added.get(name, 0) for name in SUMS if name != "bytes"}
    return Shard(
        "",
        counts=counts,
        types=types_to_text(merged_types(parts)),
        **{**known, "rows": sum(map(len, selection.rows.values()))},
    )


def share_counts(rows: Sequence[int], whole: Shard) -> list[Shard]:
    """Divide the counts of a run among shards of that many rows, so that each balances.

    Each shard has read the rows that it holds, the first one also those that are in no shard.
    """
    shards, read, added = [], whole.rows_in, whole.added
    for count in rows[1:]:
        own = min(count, read)
        shards.append(Shard("", rows=count, rows_in=own, added=count - own))
        read, added = read - own, added - (count - own)
    return [replace(whole, rows=rows[0], rows_in=read, added=added), *shards]


def run_gather_task(task: GatherTask) -> Shard:
    """Write the shard of a task with its receipt, and return it."""
    writer = writers.ShardWriter(writers.staged_path(task.state, task.name), task.format, task.schema, task.compression)
    counts = RowCounts()
    with writer, PartReader(task.parts, task.starts) as parts:
        blocks = (task.rows[start : start + task.block] for start in range(0, len(task.rows), task.block))
        batches = chain.from_iterable(map(parts.take, blocks))
        for batch in batches if task.packing is None else pack(batches, task.packing, counts):
            writer.write(renamed(batch, task.rename))
    shard = replace(with_packed(task.shard, counts), bytes=writer.bytes, sha256=writer.sha256)
    if task.format != "jsonl" or task.packing is not None:  # part files of JSON Lines hold text
        shard = replace(shard, arrow_bytes=writer.arrow_bytes)
    if task.rejects:
        with writers.AtomicFile(writers.rejects_path(task.state, task.name)) as file:
            for path in task.rejects:
                writers.copy(path, file)
        shard = replace(shard, reject_bytes=file.bytes, reject_sha256=file.sha256)
    writers.write_receipt(task.state, shard, task.fingerprint)
    return shard


def with_packed(shard: Shard, counts: RowCounts) -> Shard:
    """Return the shard with the changes that packing made to its counts."""
    changed = Shard("", **counts.to_shard())
    return replace(
        shard, rows=shard.rows + changed.rows, added=shard.added + changed.added, merged=shard.merged + changed.merged,
        counts={**shard.counts, **changed.counts},
    )  # fmt: skip


class PartReader:
    """Random access to the rows of part files, a limited number of them mapped into memory at a time."""

    def __init__(self, paths: Sequence[Path], starts: IntArray) -> None:
        self._paths, self._starts = paths, starts
        self._open: dict[int, tuple[writers.PartFile, IntArray]] = {}

    def take(self, rows: IntArray) -> Iterator[pa.RecordBatch]:
        """Yield the rows with these numbers, in order and without their tags; in several batches if they are large."""
        order = np.argsort(rows, kind="stable")
        batches = list(self._read_sorted(rows[order]))
        if sum(batch.nbytes for batch in batches) > 8 * BLOCK_BYTES and len(rows) > 1:
            for half in np.array_split(rows, 2):
                yield from self.take(half)
            return
        unsorted = np.empty(len(rows), np.int64)
        unsorted[order] = np.arange(len(rows))
        table = pa.Table.from_batches(batches).drop_columns([writers.TAG]).combine_chunks()
        yield table.to_batches()[0].take(pa.array(unsorted))

    def _read_sorted(self, rows: IntArray) -> Iterator[pa.RecordBatch]:
        """Yield rows whose numbers ascend, one batch per batch of a part file that holds some of them."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for number, mine in runs(owners, rows - self._starts[owners]):
            part, starts = self._open_part(number)
            numbers = np.searchsorted(starts, mine, side="right") - 1
            for index, inside in runs(numbers, mine - starts[numbers]):
                yield part.batches[index].take(pa.array(inside))
            part.release()

    def _open_part(self, number: int) -> tuple[writers.PartFile, IntArray]:
        if number not in self._open:
            if len(self._open) == OPEN_PARTS:
                self._open.pop(next(iter(self._open)))[0].close()
            part = writers.PartFile(self._paths[number])
            starts = np.cumsum([0, *(len(batch) for batch in part.batches[:-1])], dtype=np.int64)
            self._open[number] = part, starts
        return self._open[number]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._open:
            self._open.popitem()[1][0].close()


def runs(keys: IntArray, values: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each run of equal keys with its values."""
    ends = np.flatnonzero(np.diff(keys)) + 1
    for key, run in zip(np.split(keys, ends), np.split(values, ends), strict=True):
        if len(key):
            yield int(key[0]), run
