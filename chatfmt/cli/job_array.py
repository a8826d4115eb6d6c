"""`chatfmt plan`, `run` and `commit`: a conversion in parts, for job arrays."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..recipe import Run
from . import options, terminal
from .convert import Sources, or_fit, report, template_needs, to_recipe, worker_processes

RUN = {key: options.RUN[key] for key in ("out", "workers", "executor", "on_error", "max_bad", "resume", "overwrite")}
PART = {key: options.RUN[key] for key in ("workers", "executor")}
PLAN_FILE = Annotated[str | None, typer.Option("--plan", help="Write the plan to this file, too.", metavar="FILE")]
TASK = Annotated[
    str | None,
    typer.Option("--task", metavar="I/N", help="Which part: 1/8 to 8/8; from SLURM's variables if not given."),
]
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT")


@options.takes(options.CONVERSION, RUN, options.REPORT, plan=PLAN_FILE)
@worker_processes()
def plan(source: Sources, **given: Any) -> None:
    """Write the plan of a conversion, for `chatfmt run` to do in parts and `chatfmt commit` to publish.

    chatfmt plan data/ -t chatml -o out/ · chatfmt run out/ --task 1/8 … 8/8 · chatfmt commit out/
    """
    from .. import pipeline

    copy = given.pop("plan")
    recipe, run, _ = to_recipe(source, given)
    if run.dry_run:
        raise UsageError("the recipe says `dry_run`, which writes no plan", hint="show it with `chatfmt convert`")
    target = pipeline.target_of(run.out, recipe.format, recipe.compression)
    if target.kind == "stream":
        raise UsageError("the parts of a plan need a place to write to", hint="name a folder or a file with -o")
    with pipeline.Scratch() as scratch:
        made = pipeline.plan(recipe, target, scratch, run)
        notes = [
            *made.notes,
            *(f"data that is not plain text may need {or_fit(flag)}" for flag in template_needs(made)),
            *([f"for the rejects: chatfmt commit {run.out} --rejects {run.rejects}"] if run.rejects else ()),
        ]
        for note in notes:
            terminal.say(f"note: {note}")
        path = pipeline.write_plan(made, scratch, run, None if copy is None else Path(copy))
    tell(path, len(made.names), made.fingerprint, run)


def tell(path: Path, shards: int, fingerprint: str, run: Run) -> None:
    """Say what was planned and how to go on."""
    if run.json:
        found = {"schema": 1, "plan": str(path), "shards": shards, "fingerprint": fingerprint}
        terminal.print_out(json.dumps(found, ensure_ascii=False))
    elif not run.quiet:
        terminal.say(f"planned {terminal.counted(shards, 'shard')} in `{path}`")
        terminal.say(f"do them with: chatfmt run {run.out} --task 1/{shards}")


@options.takes(PART, options.REPORT, task=TASK)
@worker_processes()
def run(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The file of the plan, or the output it is for.")],
    **given: Any,
) -> None:
    """Do one part of a plan: shards I, I+N, I+2N, …; what is done already is left alone.

    Parts may run at the same time, on machines that share the disk.
    """
    from .. import pipeline

    index, count = to_part(given.pop("task"), os.environ)
    how = to_run(given)
    with terminal.progress(None, quiet=how.quiet) as advance:
        done = pipeline.run_part(pipeline.find_plan(Path(plan)), index, count, how, advance)
    if how.json:
        terminal.print_out(json.dumps({**done.to_json(), "part": [index, count]}, ensure_ascii=False))
    elif not how.quiet:
        shards, rows = terminal.counted(done.shards, "shard"), terminal.counted(done.rows, "row")
        terminal.say(f"part {index} of {count}: {shards}, {rows}")


def to_run(given: Mapping[str, Any]) -> Run:
    """How to run, as the options say."""
    return Run(**options.to_values(given))


def to_part(task: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """The part that `--task I/N` names, that of this job of a Slurm array, else the whole."""
    if task is not None:
        found = re.fullmatch(r"(\d+)/(\d+)", task)
        if found is None:
            raise UsageError(f"`--task {task}` is not of the form I/N", hint="--task 1/8")
        return int(found[1]), int(found[2])
    if not all(environment.get(name, "").isdigit() for name in ARRAY):
        return 1, 1
    number, first, last, count = (int(environment[name]) for name in ARRAY)
    step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    if (last - first) // step + 1 != count:
        raise UsageError("the numbers of this Slurm array have gaps", hint="say which part with --task I/N")
    return (number - first) // step + 1, count


@options.takes({**PART, "rejects": options.RUN["rejects"]}, options.REPORT)
@worker_processes()
def commit(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The output of a plan whose parts are done.")],
    **given: Any,
) -> None:
    """Check that every part of a plan is done, and publish the output."""
    from .. import pipeline

    how = to_run(given)
    with terminal.progress(None, quiet=how.quiet) as advance:
        summary = pipeline.commit(Path(out), how, advance)
    report(summary, how)
