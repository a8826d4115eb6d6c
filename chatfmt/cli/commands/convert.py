"""`chatfmt convert`: convert a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from .. import options, terminal
from ..dry_run import print_plan
from ..options import Sources
from ..requests import Conversion, to_recipes
from ..summary import print_summary
from ..workers import need_no_worker, worker_processes

if TYPE_CHECKING:
    from ...pipeline import Plan
    from ...recipe import Recipe, Run


@options.declare(options.CONVERSION, options.RUN, options.REPORT)
def convert(source: Sources, **given: Any) -> None:
    """Convert a dataset to training-ready files.

    Without -t conversations are written as messages; without -o JSON Lines go to stdout. Several -t render to as many
    places: -o 'out/{template}/'.
    """
    made = to_recipes(source, given)
    recipe, run, _ = made[0]
    from ...render import prestart

    sources = [spec.source for spec in recipe.source]
    if run.executor == "processes" and run.workers is None and need_no_worker(sources):
        made = [(recipe, replace(run, executor="serial"), origins) for recipe, run, origins in made]
        run = made[0][1]
    for each, _, _ in made:
        prestart(each.template, each.template_isolation)
    with worker_processes(run.executor, *large_imports(sources, run.out, recipe.format)):
        carry_out(made)


def large_imports(sources: Iterable[str], out: Path | None, format: str | None) -> Iterator[str]:
    """Yield the large modules that workers will need, as far as file names show."""
    parquet = out is not None and not out.suffix and format != "jsonl"
    if parquet or any(name.endswith(".parquet") for name in (*sources, str(out))):
        yield "pyarrow.parquet"


def carry_out(made: Sequence[Conversion]) -> None:
    """Plan, run and summarise conversions that differ in their template; with `--dry-run` print the plans."""
    from ... import pipeline

    recipe, run, _ = made[0]
    for each in made:
        check_report(*each[:2])
    target = pipeline.target_of(run.out, recipe.format, recipe.compression)
    if pipeline.is_piped(recipe, target) and not run.dry_run:
        drawn_over = target.kind == "stream" and terminal.stdout_is_terminal()
        with terminal.progress(None, quiet=run.quiet or drawn_over) as advance:
            summary = pipeline.pipe(recipe, target, run, terminal.print_note, advance)
        print_summary(summary, run)
        return
    with ExitStack() as stack:
        planned = [(plan_one(each, stack), each[1]) for each in made]
        for note in dict.fromkeys(note for plan, _ in planned for note in plan.notes):
            terminal.print_note(note)
        if run.dry_run:
            for (plan, how), (_, _, origins) in zip(planned, made, strict=True):
                print_plan(plan, how, origins)
            return
        with shown_progress([plan for plan, _ in planned], run.quiet) as advance:
            summaries = pipeline.run_plans(planned, advance)
    for (plan, how), summary in zip(planned, summaries, strict=True):
        for note in summary.notes[len(plan.notes) :]:
            terminal.print_note(note)
        print_summary(summary, how)
    for each in made:
        report_on(*each[:2])


def plan_one(made: Conversion, stack: ExitStack) -> Plan:
    """Return the plan of a conversion, whose temporary files `stack` removes."""
    from ... import pipeline

    recipe, run, _ = made
    target = pipeline.target_of(run.out, recipe.format, recipe.compression)
    scratch = stack.enter_context(pipeline.scratch_for(target))
    with terminal.spinner(quiet=run.quiet):
        return pipeline.plan(recipe, target, scratch, run)


def check_report(recipe: Recipe, run: Run) -> None:
    """Raise UsageError if the source of the report that is asked for cannot be read twice, or its page not written."""
    if run.report is None:
        return
    from ...pipeline.inspection.report.charts import check_installed
    from .report import check_page

    check_page(str(run.report), overwrite=run.overwrite or run.resume or run.dry_run, made=run.out)
    check_installed()
    if any(spec.source == "-" for spec in recipe.source):
        raise UsageError("`--report` reads the source a second time, and stdin can be read once", hint="name a file")


def report_on(recipe: Recipe, run: Run) -> None:
    """Write the report that a finished conversion was asked for, if any."""
    if run.report is not None:
        from .report import write_report

        write_report(recipe, run.report, run.workers)


@contextmanager
def shown_progress(plans: Sequence[Plan], quiet: bool) -> Iterator[Any]:
    """Draw a progress bar for the rows of plans run inside the block; if they are stopped, name what is kept."""
    from ... import pipeline

    rows = [plan.rows for plan in plans if plan.rows is not None]
    drawn_over = plans[0].target.kind == "stream" and terminal.stdout_is_terminal()
    try:
        with terminal.progress(sum(rows) if len(rows) == len(plans) else None, quiet=quiet or drawn_over) as advance:
            yield advance
    except BaseException as error:
        for plan in () if isinstance(error, Exception) else plans:  # Ctrl-C, SIGTERM
            if kept := pipeline.count_kept(plan):
                shards = f"finished shards of `{plan.target}` that are kept: {kept}"
                terminal.print_note(f"{shards}; the same command with --resume continues")
            elif plan.target.kind in ("folder", "store"):
                shards = f"no shard of `{plan.target}` was finished, so none is kept"
                terminal.print_note(f"{shards}; --rows-per-shard makes smaller ones, which --resume keeps")
        raise
