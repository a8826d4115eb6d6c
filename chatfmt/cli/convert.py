"""`chatfmt convert`: the main job."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import options, terminal

if TYPE_CHECKING:
    from ..pipeline import Plan, Summary
    from ..recipe import Recipe, Run
    from ..render import Choice

Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE…", help="Recipe, Hub id, file, folder, glob, URL, or - for stdin.")
]


@options.takes(options.CONVERSION, options.RUN, options.REPORT)
def convert(source: Sources, **given: Any) -> None:
    """Turn a data set into training-ready files.

    Without -t the conversations themselves are written; without -o JSON Lines go to stdout.
    """
    recipe, run, origins = to_recipe(source, given)
    with worker_processes(run.executor, *imports((spec.source for spec in recipe.source), run.out, recipe.format)):
        carry_out(recipe, run, origins)


def imports(source: Iterable[str], out: Path | None, format: str | None) -> Iterator[str]:
    """The large modules that workers will want, as far as the names tell."""
    parquet = out is not None and not out.suffix and format != "jsonl"
    if parquet or any(name.endswith(".parquet") for name in (*source, str(out))):
        yield "pyarrow.parquet"


def carry_out(recipe: Recipe, run: Run, origins: Mapping[str, str]) -> None:
    """Plan, run and report a conversion; with `--dry-run` show the plan."""
    from .. import pipeline

    target = pipeline.target_of(run.out, recipe.format, recipe.compression)
    if pipeline.is_piped(recipe, target) and not run.dry_run:
        report(pipeline.pipe(recipe, target, run, lambda note: terminal.say(f"note: {note}")), run)
        return
    with pipeline.Scratch() as scratch:
        with terminal.looking(quiet=run.quiet):
            plan = pipeline.plan(recipe, target, scratch, run)
        for note in plan.notes:
            terminal.say(f"note: {note}")
        if run.dry_run:
            report_plan(plan, run, origins)
            return
        with terminal.progress(plan.rows, quiet=run.quiet or target.kind == "stream") as advance:
            summary = pipeline.run_plan(plan, run, advance)
    report(summary, run)


def report(summary: Summary, run: Run) -> None:
    """Say what was done: on stdout as JSON if nothing else went there, else on stderr."""
    if run.json:
        text = json.dumps(summary.to_json(), ensure_ascii=False)
        terminal.say(text) if summary.out == "-" else terminal.print_out(text)
    elif not run.quiet:
        terminal.say(in_words(summary))


@contextmanager
def worker_processes(executor: str = "processes", *modules: str) -> Iterator[None]:
    """A block in which data is read in processes apart, unless another executor is asked for.

    Imports what reads it, in those processes `modules` besides, and keeps pandas out of all of them. Warnings are said.
    """
    from .. import executors
    from ..executors.worker_main import without_pandas

    without_pandas()
    forks = executor in executors.EXECUTORS and executors.EXECUTORS[executor].forks
    with (
        terminal.warnings_said(),
        executors.opened("chatfmt.pipeline.running.run", *modules) if forks else nullcontext(),
    ):
        gc.freeze()  # modules stay: the search for garbage, off while they were imported (`__main__`), leaves them out
        gc.enable()
        yield


def to_recipe(source: list[str], given: dict[str, Any]) -> tuple[Recipe, Run, dict[str, str]]:
    """The recipe that SOURCE and the options make together, how to run it, and where each value came from."""
    from .. import recipe as recipes

    known = [one for one in source if recipes.is_recipe(one)]
    if known and len(source) > 1:
        raise UsageError(f"the recipe `{known[0]}` cannot be joined with other sources", hint="convert it by itself")
    layers = [recipes.load(known[0])] if known else [recipes.Layer("argument", {"source": source})]
    return recipes.build([*layers, recipes.Layer("flag", options.to_values(given))])


def report_plan(plan: Plan, run: Run, origins: Mapping[str, str]) -> None:
    """Show what would be done: the recipe with the origin of each value, the shards, the engine."""
    from ..recipe import describe
    from ..render import choose_engine

    rows = describe(plan.recipe, run, origins)
    engine = choose_engine(plan.template, plan.sources[0].job.options) if plan.template else None
    if run.json:
        terminal.print_out(json.dumps(plan_data(plan, rows, origins, engine), ensure_ascii=False))
    else:
        print_plan(plan, rows, engine)


def plan_data(
    plan: Plan, rows: Sequence[tuple[str, Any, str]], origins: Mapping[str, str], engine: Choice | None
) -> dict[str, Any]:
    """The plan for machines."""
    return {
        "schema": 1,
        "recipe": {key: value for key, value, _ in rows},
        "origins": origins,
        "dialects": [part.job.dialect for part in plan.sources],
        "view": plan.sources[0].job.view,
        "engine": {"name": engine.engine, "reason": engine.reason} if engine else None,
        "template_needs": template_needs(plan),
        "rows": plan.rows,
        "shards": places(plan),
        "fingerprint": plan.fingerprint,
    }


def print_plan(plan: Plan, rows: Sequence[tuple[str, Any, str]], engine: Choice | None) -> None:
    """The plan for people: of the defaults, only those that decide what is made."""
    told = [(key, json.dumps(value, ensure_ascii=False), origin) for key, value, origin in rows]
    shown = [row for row in told if row[2] != "default" or row[0] in ("template", "to", "dialect", "date")]
    screen = terminal.console()
    screen.print(terminal.table(("key", "value", "from"), shown))
    for part in plan.sources:
        screen.print(terminal.visible(f"{part.source.shown}: {part.job.dialect} ({part.detection.reason})"))
    count = "an unknown number of rows" if plan.rows is None else terminal.counted(plan.rows, "row")
    view = plan.sources[0].job.view
    first, *others = places(plan)
    parted = f" in {terminal.counted(len(plan.names), 'shard')}" if plan.target.kind == "folder" else ""
    screen.print(terminal.visible(f"{count}{parted} of `{view}`: {first}{' …' if others else ''}"))
    if engine:
        screen.print(f"engine: {engine.engine} ({engine.reason})")
    for flag in template_needs(plan):
        screen.print(terminal.visible(f"data that is not plain text may need, with this template: {or_fit(flag)}"))


def places(plan: Plan) -> list[str]:
    """The files that the plan writes: shards by their names in the folder, or the one file, or `stdout`."""
    target = plan.target
    return list(plan.names) if target.kind == "folder" else [str(target.path) if str(target.path) != "-" else "stdout"]


def template_needs(plan: Plan) -> list[str]:
    """The flags that the probe of the plan's template found necessary for data of every kind; none with `--fit`."""
    from ..render import sessions_of
    from ..render.inspection.probe import probe

    if plan.template is None or plan.recipe.fit:
        return []
    sessions = sessions_of(plan.template, plan.recipe.template_isolation)
    return list(probe(plan.template, plan.recipe.var, sessions).flags)


def or_fit(flag: str) -> str:
    """The flag, and `--fit` where that does the same."""
    return f"{flag} (or --fit)" if flag.startswith("--transform") else flag


def in_words(summary: Summary) -> str:
    """One or more lines on what was done; nothing that happened to a row is left out."""
    if summary.complete:
        return f"`{summary.out}` was complete already: {summary.rows:,} rows"
    where = "stdout" if summary.out == "-" else f"`{summary.out}`"
    splits = ", ".join(f"{split} {rows:,}" for split, rows in summary.splits.items())
    parted = f" ({splits})" if len(summary.splits) > 1 else ""
    lines = [f"wrote {terminal.counted(summary.rows, 'row')}{parted} to {where}, {size(summary.bytes)}"]
    if summary.out != "-" and summary.shards > 1:
        lines[0] += f" in {summary.shards} shards"
    for label, count in (("filtered out", summary.filtered), ("duplicates left out", summary.duplicates)):
        if count:
            lines.append(f"{label}: {count:,} rows")
    if summary.rejected:
        reasons = ", ".join(f"{code} {count:,}" for code, count in summary.reasons.items())
        lines.append(f"rejected: {summary.rejected:,} of {summary.rows_in:,} rows ({reasons})")
    for label, counts in (("changed", summary.changes), ("looks bad", summary.findings)):
        if counts:
            lines.append(f"{label}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    if summary.left_out:
        lines.append(f"left out by the template: {', '.join(summary.left_out)}")
    return "\n".join(lines)


def size(count: int) -> str:
    """The bytes in the unit that fits them, as in `4.2 MB`."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return ""
