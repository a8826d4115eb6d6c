"""Make a plan of a recipe: find the sources, sample their rows, load the template, cut the input into shards."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import render, tokens, trainers, transforms, writers
from ...dialects.kit.columns import ALIASES
from ...errors import ChatfmtError, TemplateError, UsageError
from ...recipe import Recipe, Run
from ...render.template.chat_template import ChatTemplate
from ...sources import InputSplit, LineFinder
from ...stores import is_remote
from ...views import INPUTS, VIEWS
from ..conversion.fitting import template_error
from ..conversion.job import Job, Task
from ..plugins import load_plugins
from . import notes
from .fingerprint import run_fingerprint
from .options import check_rendered, check_token_shards, check_tokens
from .parquet_schema import find_schema, first_output, set_schema
from .scratch import Scratch
from .source_plan import SourcePlan, check_test_split, check_views, plan_source
from .target import Target, check_accepts, check_run, check_selection
from .templates import load_template


class Plan(Struct, frozen=True):
    """The plan of a conversion, made before anything is written."""

    recipe: Recipe
    target: Target
    sources: tuple[SourcePlan, ...]
    template: ChatTemplate | None
    fingerprint: str
    files: tuple[Mapping[str, Any], ...] = ()
    """Name, size and content hash of each input file."""
    notes: tuple[str, ...] = ()
    """Notes for the user, to print before the first row is written."""
    names: tuple[str, ...] = ()
    """The names of the shards that the tasks write, in order: the final ones, unless the rows are reordered."""

    @property
    def rows(self) -> int | None:
        """The number of rows to read, None if it is not known beforehand."""
        counts = [split.rows for source in self.sources for split in source.inputs]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def files_to_write(self) -> tuple[str, ...]:
        """The final names of the shards, as far as they are known beforehand."""
        recipe = self.recipe
        if recipe.shards is None:
            return self.names
        splits = [shard[0].split for source in self.sources for shard in source.shards]
        return tuple(
            name
            for split in dict.fromkeys((*splits, *(["test"] if recipe.test_fraction else [])))
            for name in writers.shard_names(recipe.shard_name, split, recipe.shards, self.target.ending)
        )

    def tasks(self, state: Path) -> list[Task]:
        """Return the tasks in the order of the output; `state` is the folder of the run.

        Tasks name files by absolute paths, with the hash of their content, so that a worker that started in another
        folder or on another machine reads the same files, or none.
        """
        shards = [
            (shard[0].split, number, job, tuple(map(located, shard)))
            for number, source in enumerate(self.sources)
            for job, located in [(with_tokenizer(source.job), split_locator(source))]
            for shard in source.shards
        ]
        splits = list(dict.fromkeys(split for split, *_ in shards))
        shards.sort(key=lambda shard: splits.index(shard[0]))
        return [
            Task(job, inputs, split, name, state.absolute(), self.fingerprint, number)
            for (split, number, job, inputs), name in zip(shards, self.names, strict=True)
        ]


def with_tokenizer(job: Job) -> Job:
    """Return the job with the absolute path of its tokenizer, if it is a local file, and its content."""
    if job.tokenizer is None:
        return job
    path = Path(job.tokenizer)
    place = str(path.absolute()) if path.exists() else job.tokenizer
    return replace(job, tokenizer=place, tokenizer_sha256=tokens.content(place))


def split_locator(source: SourcePlan) -> Callable[[InputSplit], InputSplit]:
    """Return a function that gives an input split the absolute path and the content of its file."""
    hashes = {file["file"]: file["xxh3_128"] for file in source.files}
    planned = {file.uri: (hashes.get(file.shown), file.identity) for file in source.source.files_as_found}

    def locate(split: InputSplit) -> InputSplit:
        content, identity = planned.get(split.uri, (None, None))
        split = replace(split, content=content, identity=identity)
        if is_remote(split.uri):
            return split
        folder = None if split.folder is None else str(Path(split.folder).absolute())
        return replace(split, uri=str(Path(split.uri).absolute()), folder=folder)

    return locate


def plan(recipe: Recipe, target: Target, scratch: Scratch, run: Run) -> Plan:
    """Return the plan of a conversion; reads a sample of the rows and writes only to `scratch`, which the run needs.

    Raises whatever prevents the run: UsageError, InputError, TemplateError, NoDialect.
    """
    render.prestart(recipe.template, recipe.template_isolation)
    check_options(recipe, target, run)
    check_accepts(target, run)
    template = load_template(recipe)
    sources = tuple(plan_source(recipe, spec, template, scratch, target, hashed=True) for spec in recipe.read_apart)
    check_views(sources)
    check_test_split(recipe, sources)
    check_token_shards(recipe, sources[0].job.view)
    check_fits_trainer(recipe, sources, target)
    files = tuple(file for source in sources for file in source.files)
    jobs = [(source.job, source.detection) for source in sources]
    fingerprint = run_fingerprint(recipe, jobs, template, files, target)
    names = tuple(shard_names(sources, recipe.shard_name, target.ending))
    noted = tuple(dict.fromkeys(plan_notes(recipe, target, sources, template)))
    planned = Plan(recipe, target, sources, template, fingerprint, files, noted, names)
    if target.format != "parquet":
        return planned
    try:
        return with_schema(planned, find_schema(sources, planned.tasks(Path()), run))
    except ChatfmtError as error:  # of a row, which a note may explain
        for note in noted:
            error.add_note(note)
        raise


def check_options(recipe: Recipe, target: Target, run: Run) -> None:
    """Raise UsageError for options that are invalid, or need others, whatever the data is."""
    load_plugins()
    check_run(run, target)
    transforms.check_settings(recipe.transforms)
    check_tokens(recipe)
    check_rendered(recipe)
    check_selection(recipe, target)


def check_fits_trainer(recipe: Recipe, sources: Sequence[SourcePlan], target: Target) -> None:
    """Raise UsageError if the first rows have what `chatfmt loader` would refuse, such as a column that is not read."""
    for source in sources if recipe.trainer is not None else ():
        with_calls = replace(source, job=replace(source.job, unread_calls=""))
        found = dict.fromkeys(name for batch in first_output(with_calls) for name in batch.schema.names)
        columns = tuple(recipe.rename.get(name, name) for name in found)
        output = trainers.Output(
            path="", view=str(source.job.view), format=target.format, splits={}, columns=columns, recipe=vars(recipe),
            template={} if source.job.template is None else {"name": recipe.template},
        )  # fmt: skip
        trainer = trainers.find(str(recipe.trainer))
        if taken := trainers.taken_column(trainer, output, VIEWS[output.view].columns):
            keep = f"--rename {taken}=source_{taken} keeps it, --drop {taken} leaves it behind"
            hint = "choose another name" if taken in recipe.rename.values() else keep
            raise UsageError(f"{recipe.trainer} would train on the column `{taken}` too", hint=hint)
        if problem := trainers.problem(trainer, output):
            column = next((name for name in INPUTS if f"`{name}`" in problem), "")
            path = source.job.columns.path(ALIASES.get(column, column))
            leave = "leave out --for" if recipe.to == "auto" else "leave out --to"
            hint = f"--drop {shlex.quote(path)} leaves it behind" if path else leave
            if column == "tools" and source.job.unread_calls:
                hint = f"{source.job.unread_calls} writes them"
            raise UsageError(f"the output would not fit {recipe.trainer}: {problem}", hint=hint)


def shard_names(sources: Sequence[SourcePlan], pattern: str, ending: str) -> list[str]:
    """Return the final names of the shards, numbered within each split, splits in order of first appearance."""
    counts: dict[str, int] = {}
    for source in sources:
        for shard in source.shards:
            counts[shard[0].split] = counts.get(shard[0].split, 0) + 1
    for split in counts:
        writers.check_split(split)
    return [name for split, count in counts.items() for name in writers.shard_names(pattern, split, count, ending)]


def plan_notes(
    recipe: Recipe, target: Target, sources: Sequence[SourcePlan], template: ChatTemplate | None
) -> Iterator[str]:
    """Yield notes for the user, to print before the first row is written."""
    for source in sources:
        yield from source.source.notes
        yield from notes.split_notes(source, recipe, target)
        yield from notes.job_notes(source.first_rows, source.job, source.detection, recipe)
    files = [file for each in sources for file in (*each.source.files, *each.source.originals)]
    yield from notes.format_notes({file.format for file in files}, recipe)
    yield from notes.name_notes([source.source for source in sources], recipe)
    try:
        yield from notes.recipe_notes(recipe, target, [(each.job, each.detection) for each in sources], template)
    except TemplateError as error:
        if template is not None and error.code == "mask.stop":
            raise_template_error(template, sources[0], every=recipe.on_error == "skip")
        raise


def raise_template_error(template: ChatTemplate, source: SourcePlan, *, every: bool) -> None:
    """Raise the error that the template has with the first rows anyway, which may explain why it prints no stop.

    With `every`, only if it has one with each of them.
    """
    split, rows = source.shards[0][0], source.first_rows
    if rows is not None and (error := template_error(source.job, rows, split.shown, every=every)):
        error.at = LineFinder(split).with_line(error.at)
        error.hint = notes.misspelt(template, source.job) or error.hint
        raise error


def with_schema(plan: Plan, schema: pa.Schema) -> Plan:
    """Return the plan with a schema for all shards."""
    return replace(plan, sources=tuple(replace(each, job=set_schema(each.job, schema)) for each in plan.sources))
