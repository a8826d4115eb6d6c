"""Run a plan: its tasks on an executor, their shards to the destination, the manifest last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from msgspec.structs import replace

from ... import executors, writers
from ...errors import DataProblem, UsageError
from ...manifest import DATA, Shard, card_change
from ...recipe import Recipe, Run, required
from ...sources import url_of_kept
from ...stores import shown
from ..conversion.job import Task
from ..conversion.task import forget_conversions, run_task
from ..planning.plan import Plan, plan
from ..planning.scratch import scratch_for
from ..planning.target import target_of
from ..reorder.gather import first_tasks, gather_shards
from ..schedule import run_missing_tasks
from .destinations import Destination, open_destination
from .max_bad import check_max_bad, check_max_bad_so_far
from .progress import OnProgress, Progress, Reached, ignore_progress
from .rejects import (
    check_rejects,
    copy_published_rejects,
    first_of_template,
    join_rejects,
    kept_rejects,
    offer_remedy,
    with_rejects,
)  # fmt: skip
from .stdin_stdout import is_piped, pipe
from .stream import stream_rows
from .summary import Summary, summarise_plan


def convert(
    recipe: Recipe,
    out: Path | str | None = None,
    *,
    executor: str = "processes",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rejects: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Summary:
    """Convert the sources of a recipe and write them to `out`: a folder of shards, one file, a dataset on the Hub
    (`hf://datasets/OWNER/NAME`), a folder or a file on a store (`s3://BUCKET/PREFIX`), or stdout (None, `-`).

    The same recipe and input give the same bytes, whatever the executor and the number of workers. A folder or file
    appears complete or not at all; `resume` continues an interrupted run. `on_progress` is called with the number of
    rows read so far, which never decreases.

    Raises ChatfmtError: UsageError, InputError, RowError for the first bad row (unless `on_error` is `skip`),
    DataProblem if more rows are rejected than `max_bad` allows, OutputError, TemplateError.
    """
    required(recipe, "convert")
    if workers is not None and workers < 1:
        raise UsageError(
            f"`workers` must be a positive integer, not `{workers}`", hint="workers=2, or leave it out for one per core"
        )
    run = Run(executor=executor, workers=workers, resume=resume, overwrite=overwrite, rejects=rejects)
    target = target_of(out, recipe.format, recipe.compression)
    if is_piped(recipe, target):
        return pipe(recipe, target, run)
    with scratch_for(target) as scratch:
        return run_plan(plan(recipe, target, scratch, run), run, rows_only(on_progress))


def rows_only(on_rows: Callable[[int], None] | None) -> OnProgress:
    """Return a function that passes on the rows of the source that were read."""
    if on_rows is None:
        return ignore_progress
    return lambda reached: on_rows(reached.rows) if reached.total is None else None


def run_plan(plan: Plan, run: Run, on_progress: OnProgress = ignore_progress) -> Summary:
    """Run the tasks of a plan and publish what they write; see `convert`."""
    return run_plans([(plan, run)], on_progress)[0]


def run_plans(planned: Sequence[tuple[Plan, Run]], on_progress: OnProgress = ignore_progress) -> list[Summary]:
    """Run plans one after the other; nothing is published before all that they write is complete.

    Only one can go to a stream, by itself: its rows are written as they are converted.
    """
    first, run = planned[0]
    if first.target.kind == "stream" and not first.recipe.reorders_rows:
        check_output(first, run)
        try:
            return [stream_rows(first, run, on_progress)]
        finally:
            forget_conversions()
    planned = [(plan, with_rejects(plan, run)) for plan, run in planned]
    for each in planned:
        check_output(*each)
        executors.executor(each[1].executor)  # raises UnknownName before anything is written
    with ExitStack() as stack:
        stack.callback(forget_conversions)
        opened = [(*each, stack.enter_context(open_destination(*each))) for each in planned]
        written = [
            None if destination.published is not None else write_shards(plan, run, destination, on_progress)
            for plan, run, destination in opened
        ]
        return [publish(*each, shards) for each, shards in zip(opened, written, strict=True)]


def publish(plan: Plan, run: Run, destination: Destination, shards: Sequence[Shard] | None) -> Summary:
    """Publish the shards of a plan and return the summary; without shards the plan was published before."""
    kept = kept_rejects(run, plan.target)
    if shards is not None:
        return summarise_plan(plan, shards, rejects=kept, size=destination.commit(plan, shards))
    assert destination.published is not None
    copy_published_rejects(destination.state.parent, destination.published, run.rejects)
    done = plan.target.kind != "hub"  # which is pushed now
    summary = summarise_plan(plan, destination.published.shards, rejects=kept, already_complete=done)
    card = card_change(destination.state.parent, destination.published)
    return replace(summary, notes=(*summary.notes, card)) if card else summary


def check_output(plan: Plan, run: Run) -> None:
    """Raise UsageError if the output or the rejects file is one of the inputs, also through links."""
    rejects = run.rejects
    inputs = {Path(file.uri).resolve() for source in plan.sources for file in source.source.files_as_found}
    rejects_read = {Path(spec.source).resolve() for spec in plan.recipe.source if plan.recipe.from_rejects}
    if rejects is not None and rejects.resolve() in inputs | rejects_read:
        raise UsageError(f"`{shown(rejects)}` is an input", hint="choose another file for --rejects")
    if rejects is not None and plan.target.is_file and rejects.resolve() == plan.target.path.resolve():
        raise UsageError(f"`{shown(rejects)}` is the output", hint="choose another file for --rejects")
    check_rejects(run)
    check_store_output(plan)
    if plan.target.kind not in ("folder", "file"):
        return
    out = plan.target.path.resolve()
    inside = {out / DATA: inputs, out: rejects_read} if plan.target.kind == "folder" else {}
    if out in inputs | rejects_read or any(folder in path.parents for folder in inside for path in inside[folder]):
        raise UsageError(f"the output `{plan.target.path}` is its own input", hint="choose another OUT")


def check_store_output(plan: Plan) -> None:
    """Raise UsageError if an output on a store is one of the inputs."""
    inside = {"store": f"{plan.target}/{DATA}/", "store-file": str(plan.target)}.get(plan.target.kind)
    files = [url_of_kept(file.uri) for source in plan.sources for file in source.source.files_as_found]
    if inside is not None and any(file == inside or file.startswith(f"{inside.rstrip('/')}/") for file in files):
        raise UsageError(f"the output `{plan.target}` is its own input", hint="choose another OUT")


def write_shards(plan: Plan, run: Run, destination: Destination, on_progress: OnProgress) -> list[Shard]:
    """Return the shards in order, those of an earlier run included; write the rejects if the user asked.

    Raises DataProblem if too many rows are rejected; the rejects so far are written all the same.
    """
    tasks, folder = first_tasks(plan, destination.state)
    parts, elsewhere = folder != destination.state, executors.executor(run.executor).elsewhere
    store = destination.store if elsewhere or not parts else None
    finished = writers.finished_shards(folder, plan.fingerprint) if store is None else store.finished(parts=parts)
    shards: list[Shard] = []
    try:
        with closing(run_shard_tasks(tasks, finished, run, on_progress, store, parts=parts)) as written:
            for shard in written:
                shards.append(shard)
                check_max_bad_so_far(plan.recipe, shards, run.rejects)
        check_max_bad(plan.recipe, shards, rejects=run.rejects)
    except DataProblem as problem:
        offer_remedy(problem, plan.sources[0].job, first_of_template(folder, shards))
        write_rejects(folder, store, shards, run, parts=parts)
        raise
    write_rejects(folder, store, shards, run, parts=parts)
    if not parts:
        return shards
    if store is not None:  # the parts were written elsewhere, and are here now
        store.fetch_parts(destination.state)
        run = dataclasses.replace(run, executor="processes", workers=None)
    on_stage = lambda stage, rows, total: on_progress(Reached(rows, stage=stage, total=total))  # noqa: E731
    return gather_shards(plan, destination.state, shards, run, on_stage, destination.store)


def write_rejects(
    state: Path, store: writers.StoreFolder | None, shards: Sequence[Shard], run: Run, *, parts: bool
) -> None:
    """Write the rejects of the shards, or of parts, to the file that the user named, if any."""
    if store is not None and run.rejects is not None:
        store.fetch_rejects(shards, state, parts=parts)
    join_rejects(state, shards, run.rejects)


def run_shard_tasks(
    tasks: Sequence[Task],
    finished: Mapping[str, Shard],
    run: Run,
    on_progress: OnProgress,
    store: writers.StoreFolder | None = None,
    *,
    parts: bool = False,
) -> Generator[Shard, None, None]:
    """Yield the shards of the tasks in order, and report progress while they are written, or uploaded to a store."""
    progress = Progress(on_progress)
    fn = run_task if store is None else writers.uploading(run_task, store.url, parts=parts)
    tasks = tasks if store is None else [replace(task, state=Path()) for task in tasks]  # each makes one of its own
    with closing(run_missing_tasks(fn, tasks, finished, run, progress.on_position)) as shards:
        for shard in shards:
            progress.on_shard(shard)
            yield shard
