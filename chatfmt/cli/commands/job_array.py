"""`chatfmt plan`, `run` and `commit`: convert in parts, for job arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import UsageError
from ...recipe import Run
from .. import options, terminal
from ..dry_run import needs_lines
from ..options import Sources
from ..requests import to_recipe
from ..schedulers import to_part
from ..summary import print_summary
from ..values import to_values
from ..workers import worker_processes

RUN = {key: options.RUN[key] for key in ("out", "workers", "executor", "on_error", "max_bad", "resume", "overwrite")}
PART = {key: options.RUN[key] for key in ("workers", "executor")}
PLAN_FILE = options.value("FILE", "Also write the plan to this file.", "--plan")
TASK = options.value("I/N", "Part to run, 1/8 to 8/8; default: from the job array, or all.", "--task")


@options.declare(options.CONVERSION, RUN, options.REPORT, plan=PLAN_FILE)
@worker_processes()
def plan(source: Sources, **given: Any) -> None:
    """Write a plan, to be executed in parts by `chatfmt run` and published by `chatfmt commit`.

    chatfmt plan data/ -t chatml -o out/ · chatfmt run out/ --task 1/8 … 8/8 · chatfmt commit out/
    """
    from ... import pipeline

    copy = given.pop("plan")
    recipe, run, _ = to_recipe(source, given)
    if run.dry_run:
        raise UsageError("the recipe sets `dry_run`, which writes no plan", hint="use `chatfmt convert` to show it")
    target = pipeline.target_of(run.out, recipe.format, recipe.compression)
    pipeline.check_place(target)
    with pipeline.scratch_for(target) as scratch:
        made = pipeline.plan(recipe, target, scratch, run)
        notes = [
            *made.notes,
            *needs_lines(made),
            *([f"to write the rejects: chatfmt commit {target} --rejects {run.rejects}"] if run.rejects else ()),
        ]
        for note in notes:
            terminal.print_note(note)
        path = pipeline.write_plan(made, scratch, run, None if copy is None else Path(copy))
    print_plan_file(path, str(target), len(made.names), len(made.files_to_write), made.fingerprint, run)


def print_plan_file(path: Path | str, out: str, shards: int, final: int, fingerprint: str, run: Run) -> None:
    """Print where the plan is and how to run it; the commit may cut their rows into other `final` shards."""
    if run.json:
        terminal.print_json({"schema": 1, "plan": str(path), "shards": shards, "fingerprint": fingerprint})
    elif not run.quiet:
        cut = f"; the commit cuts the rows into {terminal.counted(final, 'shard')}" if final != shards else ""
        terminal.print_err(f"planned {terminal.counted(shards, 'task' if cut else 'shard')} in `{path}`{cut}")
        last = f", and so on to {shards}/{shards}" if shards > 1 else ""
        terminal.print_err(f"run them with: chatfmt run {out} --task 1/{shards}{last}")


@options.declare(PART, options.REPORT, task=TASK)
@worker_processes()
def run(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The plan file, or the output that was planned.")],
    **given: Any,
) -> None:
    """Run one part of a plan: shards I, I+N, I+2N, …; finished shards are kept.

    Parts may run at the same time, on machines that share the disk, or that reach the store of the output.
    """
    from ... import pipeline

    index, count = to_part(given.pop("task"), os.environ)
    how = Run(**to_values(given))
    with terminal.progress(None, quiet=how.quiet) as advance:
        done = pipeline.published(plan) or pipeline.run_part(pipeline.find_plan(plan), index, count, how, advance)
    if done.already_complete:
        print_summary(done, how)
    elif how.json:
        terminal.print_json({**done.to_json(), "part": [index, count]})
    elif not how.quiet:
        shards, rows = terminal.counted(done.shards, "shard"), terminal.counted(done.rows, "row")
        terminal.print_err(f"part {index} of {count}: {shards}, {rows}")


@options.declare({**PART, "rejects": options.RUN["rejects"]}, options.REPORT)
@worker_processes()
def commit(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The output of a plan whose parts have all run.")],
    **given: Any,
) -> None:
    """Check that every part of a plan has run, and publish the output."""
    from ... import pipeline

    how = Run(**to_values(given))
    with terminal.progress(None, quiet=how.quiet) as advance:
        summary = pipeline.commit(out, how, advance)
    print_summary(summary, how)
