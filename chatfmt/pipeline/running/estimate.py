"""Estimate what a conversion takes, by converting the first rows of its first task: for `--dry-run`."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from msgspec import Struct

from ... import executors, writers
from ...errors import ChatfmtError
from ...manifest import Shard
from ...recipe import Run
from ..conversion.job import Task
from ..conversion.output.columns import renamed
from ..conversion.rejects import ignore_rejects
from ..conversion.row_counts import RowCounts
from ..conversion.source_rows import to_json
from ..conversion.task import forget_conversions, get_conversion, output_batches, shard_writer
from ..planning.plan import Plan
from ..planning.scratch import Scratch
from ..planning.source_plan import SourcePlan
from ..reorder.gather import first_tasks, gather_tasks, run_gather_task

WORTHWHILE = 50_000
"""Rows below which a conversion takes seconds, and is not estimated."""
WARM_UP, MEASURED = 500, 16_000
"""Rows that are converted: first to start what starts once, then to measure. Half as many show a fifth less memory."""


class Estimate(Struct, frozen=True):
    """The estimated cost of a conversion, from converting `measured` of its `rows`.

    `seconds` are those of one worker that converts all rows on a machine that does nothing else, in both passes where
    rows are reordered; `written` and `memory`, which each worker needs, are bytes.
    """

    rows: int
    measured: int
    tasks: int
    workers: int
    seconds: float
    written: int
    memory: int

    @property
    def elapsed(self) -> float:
        """The seconds that all workers take together, if none has to wait."""
        return self.seconds / max(1, min(self.workers, self.tasks))


def estimate(plan: Plan, run: Run) -> Estimate | None:
    """Return what the conversion of a plan takes; None if that is seconds, or cannot be known from the first rows."""
    rows = plan.rows if plan.rows is not None else rows_by_size(plan.sources)
    if rows is None or rows < WORTHWHILE:
        return None
    with suppress(ChatfmtError), Scratch() as scratch:  # the conversion reports the error
        writers.prepare_state(scratch.folder, plan.fingerprint)
        task = first_tasks(plan, scratch.folder)[0][0]
        convert_first(task, WARM_UP)
        start = perf_counter() - seconds_waited()
        measured, shard = convert_first(task, MEASURED)
        written = shard.bytes
        if plan.recipe.reorders_rows:
            written = sum(run_gather_task(each).bytes for each in gather_tasks(plan, scratch.folder, [shard]))
        seconds = perf_counter() - seconds_waited() - start
        forget_conversions()
        return Estimate(
            rows=rows,
            measured=measured,
            tasks=len(plan.names),
            workers=executors.cores() if run.workers is None else run.workers,
            seconds=round(seconds * rows / measured, 1),
            written=written * rows // measured,
            memory=peak_memory(),
        )
    return None


def convert_first(task: Task, rows: int) -> tuple[int, Shard]:
    """Convert about so many rows of a task and write them; return the rows that were read, and the shard."""
    counts, on_rejects = RowCounts(), ignore_rejects if task.job.skip_bad else None
    with shard_writer(task) as made:
        for batch in output_batches(task.inputs, get_conversion(task.job), counts, on_rejects):
            made.write(renamed(batch, task.job.rename))
            if counts.read >= rows:
                break
    return counts.read, Shard(task.name, task.split, made.rows, bytes=made.bytes, arrow_bytes=made.arrow_bytes)


def rows_by_size(sources: tuple[SourcePlan, ...]) -> int | None:
    """Return about how many rows the sources have, by the size of the first ones as JSON; None without any size."""
    rows = 0
    for source in sources:
        files = source.source.files
        if source.first_rows is None or any(file.size is None or file.compression for file in files):
            return None
        lengths = [len(text) for text in to_json(source.first_rows) if text is not None]
        rows += sum(file.size or 0 for file in files) * len(lengths) // max(1, sum(lengths))
    return rows


def seconds_waited() -> float:
    """Return how long this thread has waited for a core that others used, where Linux counts it."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes; a worker of the same job has no more."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
