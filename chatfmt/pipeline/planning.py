"""From a recipe to tasks: find the source, look at its rows, load the template, cut the input into shards."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import __version__, dialects, executors, mapping, render, sources, transforms, views, writers
from ..dialects import Columns, Detection
from ..errors import ChatfmtError, UsageError, located
from ..manifest import SEMANTICS, fingerprint
from ..recipe import Recipe, SourceSpec
from ..render.environment import expression, text_expression
from ..render.masks import MaskOptions
from ..render.probe import probe
from ..render.template import ChatTemplate
from ..sources import InputSplit, ReaderOptions, Source, SourceFile
from ..sources.slices import default_split
from .books import Books
from .columns import Types, merge_types, schema_of, types_of
from .conversion import Conversion
from .job import Job, Task
from .kept import is_kept, told_of_kept, with_lost
from .rejected import from_rejects
from .scratch import Scratch, from_stdin, read_more_than_once
from .select import check_selection
from .target import Target
from .tasks import survey_task

SAMPLE_ROWS = 1000
RUN_ONLY = {"about", "workers", "max_bad"}
"""Keys of the recipe that change no byte of a shard."""


@dataclass(frozen=True)
class Part:
    """One source of a conversion with how its rows are read."""

    source: Source
    job: Job
    detection: Detection
    shards: tuple[tuple[InputSplit, ...], ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a conversion will do, before anything is written."""

    recipe: Recipe
    target: Target
    parts: tuple[Part, ...]
    template: ChatTemplate | None
    fingerprint: str
    files: tuple[Mapping[str, Any], ...] = ()
    """Name, size and content hash of each input file."""
    notes: tuple[str, ...] = ()
    """What the user should know before the first row."""
    names: tuple[str, ...] = field(default=())
    """The final names of the shards, in order."""

    @property
    def rows(self) -> int | None:
        """How many rows will be read, None where that is not known before."""
        counts = [split.rows for part in self.parts for shard in part.shards for split in shard]
        return None if None in counts else sum(count for count in counts if count is not None)

    def tasks(self, state: Path) -> list[Task]:
        """The tasks, in the order of the output; `state` is the folder of the run."""
        pairs = [(part.job, shard) for part in self.parts for shard in part.shards]
        sources = {id(part.job): number for number, part in enumerate(self.parts)}
        ordered = sorted(zip(pairs, _split_names(pairs), strict=True), key=lambda item: _rank(item[1], pairs))
        return [
            Task(job, shard, split, name, state, self.fingerprint, sources[id(job)])
            for ((job, shard), split), name in zip(ordered, self.names, strict=True)
        ]


def _split_names(pairs: Sequence[tuple[Job, tuple[InputSplit, ...]]]) -> list[str]:
    return [shard[0].split for _, shard in pairs]


def _rank(split: str, pairs: Sequence[tuple[Job, tuple[InputSplit, ...]]]) -> int:
    return list(dict.fromkeys(_split_names(pairs))).index(split)


def plan(recipe: Recipe, target: Target, scratch: Scratch, *, executor: str = "serial", workers: int = 1) -> Plan:
    """The plan of a conversion; reads a sample of the rows, writes nothing but `scratch`, which must outlive the run.

    Raises whatever speaks against the run: UsageError, InputError, TemplateError, NoDialect.
    """
    transforms.check_settings(recipe.transforms)
    check_tokens(recipe)
    check_selection(recipe, target)
    template = load_template(recipe)
    parts = tuple(to_part(recipe, spec, template, target, scratch) for spec in recipe.source)
    check_views(parts)
    files = tuple(file for part in parts for file in hashes(files_of(part.source)))
    made = Plan(recipe, target, parts, template, run_fingerprint(recipe, parts, template, files, target), files)
    made = replace(made, names=tuple(shard_names(made)), notes=tuple(notes(made)))
    return with_schema(made, executor, workers) if target.format == "parquet" else made


def fitted(recipe: Recipe, template: ChatTemplate | None) -> dict[str, Any]:
    """The transforms to apply: with `--fit` those that the template needs, under those that the user named."""
    if not recipe.fit or template is None:
        return dict(recipe.transforms)
    card = probe(template, recipe.var, render.doors_of(template, recipe.template_isolation))
    return {**{change.name: change.value for change in card.changes}, **recipe.transforms}


def check_tokens(recipe: Recipe) -> None:
    """Refuse options about tokens without a tokenizer; raises UsageError."""
    if recipe.tokenizer is None and (recipe.max_tokens is not None or recipe.to == "tokens"):
        asked = "--max-tokens" if recipe.max_tokens is not None else "--to tokens"
        raise UsageError(f"`{asked}` needs a tokenizer to count with", hint="--tokenizer FILE, folder or Hub model id")
    if recipe.tokenizer is not None and recipe.template in (None, "none"):
        raise UsageError("tokens are counted in rendered text, and no template was given", hint="-t chatml")


def load_template(recipe: Recipe) -> ChatTemplate | None:
    """The recipe's template, None where nothing is to be rendered."""
    return None if recipe.template in (None, "none") else ChatTemplate.load(str(recipe.template))


def reader_options(recipe: Recipe) -> ReaderOptions:
    """How the recipe wants text to be read."""
    if recipe.from_rejects:
        return ReaderOptions(allow_empty=recipe.allow_empty)
    return ReaderOptions(
        field=recipe.field,
        header=recipe.header,
        quote=recipe.quote,
        delimiter=recipe.delimiter,
        encoding=recipe.encoding,
        allow_empty=recipe.allow_empty,
    )


def find(recipe: Recipe, spec: SourceSpec, scratch: Scratch) -> Source:
    """The source that `spec` names as files: what stdin or a file of rejects holds is written to `scratch`."""
    source = resolve(recipe, spec)
    if source.kind == "stdin":
        source = from_stdin(source, scratch)
    return from_rejects(source, plain_split(recipe, spec), scratch.folder) if recipe.from_rejects else source


def plain_split(recipe: Recipe, spec: SourceSpec) -> str:
    """The split that rejects came from, as far as the recipe says."""
    split = spec.split or recipe.split or "train"
    return split if split.isidentifier() and split != "all" else "train"


def resolve(recipe: Recipe, spec: SourceSpec) -> Source:
    """The source that `spec` names, with the recipe's own subset, split and revision where it has none."""
    if recipe.from_rejects:
        return sources.resolve(spec.source, options=reader_options(recipe))
    return sources.resolve(
        spec.source,
        name=spec.name or recipe.name,
        split=spec.split or recipe.split,
        revision=spec.revision or recipe.revision,
        data_files=recipe.data_files,
        data_dir=recipe.data_dir,
        options=reader_options(recipe),
    )


def asked_split(recipe: Recipe, spec: SourceSpec, source: Source) -> str | None:
    """The split to read, cut to `--skip` and `--limit`."""
    asked = spec.split or recipe.split
    if recipe.limit is None and not recipe.skip:
        return asked
    names = list(source.splits) if asked == "all" else [asked or default_split(list(source.splits))]
    if any("[" in name or "+" in name for name in names):
        raise UsageError("`--limit` and `--skip` do not go with a split that is a slice", hint="write it in the slice")
    stop = "" if recipe.limit is None else recipe.skip + recipe.limit
    return "+".join(f"{name}[{recipe.skip or ''}:{stop}]" for name in names)


def to_part(recipe: Recipe, spec: SourceSpec, template: ChatTemplate | None, target: Target, scratch: Scratch) -> Part:
    """A source found, looked at and cut into shards."""
    source = find(recipe, spec, scratch)
    split = asked_split(recipe, spec, source)
    with located(source.shown):
        sample = sources.sample(source, split, rows=SAMPLE_ROWS)
        job, detection = to_job(recipe, sample, template, target, nulls=has_nulls(source))
    cut = {"rows_per_shard": recipe.rows_per_shard, "shard_bytes": recipe.shard_size}
    shards = sources.plan_splits(source, split, **cut)
    if read_more_than_once(source, shards):
        shards = sources.plan_splits(sources.spooled(source, scratch.folder), split, **cut)
    return Part(source, job, detection, tuple(shards))


def has_nulls(source: Source) -> bool:
    """Whether a null of the source is a value: its files are columnar."""
    return any(file.format in ("parquet", "arrow") for files in source.splits.values() for file in files)


def to_job(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], template: ChatTemplate | None, target: Target, *, nulls: bool
) -> tuple[Job, Detection]:
    """What is to be done with rows like those of the sample."""
    fields = mapping.plan(recipe.map, markers=recipe.marker, explode=recipe.explode, where=recipe.where)
    detection = detect(recipe, sample, fields, nulls=nulls)
    view = views.choose(recipe.to, detection.type, rendered=template is not None)
    job = Job(
        key=job_key(recipe, detection, view, template, nulls=nulls),
        dialect=detection.dialect,
        columns=detection.columns,
        view=view,
        mapping=None if fields.is_empty else fields,
        nulls=nulls,
        transforms=fitted(recipe, template),
        fail_on=recipe.fail_on,
        strict=recipe.strict,
        template=template,
        options=render_options(recipe),
        isolation=recipe.template_isolation,
        mask=mask_options(recipe),
        allow_loss=recipe.allow_loss,
        control_tokens=recipe.control_tokens,
        tokenizer=recipe.tokenizer,
        max_tokens=recipe.max_tokens,
        over_length=recipe.over_length,
        fraction=recipe.fraction,
        seed=recipe.seed,
        read=None if recipe.on_error == "skip" else needed_columns(detection, fields),  # rejects are kept whole
        whole_file=detection.whole_file,
        skip_bad=recipe.on_error == "skip",
        format=target.format,
        compression=target.compression,
    )
    return job, with_lost(job, detection, sample)


def job_key(recipe: Recipe, detection: Detection, view: str, template: ChatTemplate | None, *, nulls: bool) -> str:
    """The name of a job: two jobs of one process that differ in anything have different ones."""
    read = [detection.dialect, plain(detection.columns), view, nulls]
    return fingerprint({"recipe": bytes_of(recipe), "read": read, "template": identity(template)})


def identity(template: ChatTemplate | None) -> list[Any] | None:
    """What tells a template from others, whatever its name."""
    return None if template is None else [template.sha256, dict(template.special_tokens)]


def detect(recipe: Recipe, sample: Sequence[pa.RecordBatch], fields: mapping.Mapping, *, nulls: bool) -> Detection:
    """The dialect of the sample after mapping; mapped fields are columns of their own names by then."""
    if sample and not recipe.explode:
        mapping.check_columns(fields, dict.fromkeys(name for batch in sample for name in batch.schema.names))
    names = tuple(dict.fromkeys(name for batch in sample for name in batch.schema.names if not name.startswith("#")))
    if not fields.is_empty:
        mapper = mapping.mapper(replace(fields, where=None), text_expression, expression, nulls=nulls)
        sample = [mapper(batch).batch for batch in sample]
    columns = Columns(
        fields={**{name: name for name in fields.columns if not is_kept(recipe, name)}, **dict(fields.keys)},
        roles=recipe.role,
        turn_roles=recipe.roles,
        options=recipe.dialect_options,
        keep="all" if "all" in recipe.keep else recipe.keep,
    )
    if not sample and recipe.allow_empty:
        named = "messages" if recipe.dialect == "auto" else recipe.dialect
        return Detection(named, columns, 0, 0, "there are no rows to look at", (), ())
    found = dialects.detect(sample, columns, recipe.dialect, shown=recipe.map)
    return found if fields.is_empty else in_source(found, fields, names)


def in_source(found: Detection, fields: mapping.Mapping, names: Sequence[str]) -> Detection:
    """The detection with the source columns that a mapping reads, in the place of those that it makes."""
    own = [name for name in found.used if name not in fields.columns]
    used = tuple(dict.fromkeys((*fields.reads(names), *own)))
    unused = [name for name in (*names, *found.unused) if name in found.unused or name in fields.columns]
    return replace(found, used=used, unused=tuple(name for name in dict.fromkeys(unused) if name not in used))


def needed_columns(detection: Detection, fields: mapping.Mapping) -> tuple[str, ...] | None:
    """The source columns to read, None for all: expressions may look at any column."""
    free = fields.explode or fields.where or any(isinstance(part, mapping.Template) for _, part in fields.fields)
    used = dialects.used_columns(detection)
    return None if free or not used else tuple(dict.fromkeys((*fields.roots, *used)))


def render_options(recipe: Recipe) -> render.RenderOptions:
    """How the recipe wants conversations to be rendered."""
    return render.RenderOptions(
        generation_prompt=recipe.generation_prompt,
        continue_final=recipe.continue_final,
        variables=recipe.var,
        date=recipe.date,
        engine=recipe.engine,
        bos=recipe.bos,
    )


def mask_options(recipe: Recipe) -> MaskOptions | None:
    """What the recipe counts as trained text, None where no spans were asked for."""
    if not recipe.mask and recipe.to not in ("segments", "tokens"):
        return None
    return MaskOptions(recipe.mask_stop_token, recipe.mask_reasoning, recipe.mask_last)


def check_views(parts: Sequence[Part]) -> None:
    """Refuse sources whose rows cannot stand in one output; raises UsageError."""
    found = {part.job.view: part.source.shown for part in parts}
    if len(found) > 1:
        said = ", ".join(f"`{source}` gives {view}" for view, source in found.items())
        raise UsageError(
            f"the sources are of different types: {said}", hint="--to text or --to messages makes them one"
        )


def notes(plan: Plan) -> Iterable[str]:
    """What the user should hear before the first row."""
    for part in plan.parts:
        yield from part.source.notes
        yield from told_of_kept(part.job, part.detection)
    if plan.template is not None and plan.template.reads_date:
        yield f"the template reads the date and is shown {plan.recipe.date}: choose another day with --date"


def shard_names(plan: Plan) -> list[str]:
    """The final names of the shards, numbered within each split, splits in order of first appearance."""
    counts: dict[str, int] = {}
    for part in plan.parts:
        for shard in part.shards:
            counts[shard[0].split] = counts.get(shard[0].split, 0) + 1
    for split in counts:
        writers.check_split(split)
    return [
        f"data/{split}-{index:05d}-of-{total:05d}{plan.target.ending}"
        for split, total in counts.items()
        for index in range(total)
    ]


def files_of(source: Source) -> list[SourceFile]:
    """The files of all splits of the source."""
    return [file for group in source.splits.values() for file in group]


def hashes(files: Sequence[SourceFile]) -> list[dict[str, Any]]:
    """Name, size and hash of each file."""
    return [{"file": shown, "bytes": size, "xxh3_128": digest} for shown, size, digest in sources.fingerprint(files)]


def run_fingerprint(
    recipe: Recipe,
    parts: Sequence[Part],
    template: ChatTemplate | None,
    files: Sequence[Mapping[str, Any]],
    target: Target,
) -> str:
    """The hash of all that can change a byte of the output: input, recipe, template, versions; no path, no time."""
    return fingerprint(
        {
            "chatfmt": __version__,
            "semantics": SEMANTICS,
            "recipe": bytes_of(recipe),
            "files": [{**file, "file": Path(file["file"]).name} for file in files],
            "columns": [[part.job.dialect, part.job.view, plain(part.detection.columns)] for part in parts],
            "template": identity(template),
            "format": [target.format, target.compression, target.kind == "file"],
            "pyarrow": pa.__version__ if target.format == "parquet" else "",
            "python": platform.python_version_tuple()[:2],
        }
    )


def bytes_of(recipe: Recipe) -> dict[str, Any]:
    """The keys of a recipe that can change a byte of a shard, as plain data."""
    values = recipe.model_dump(mode="json", exclude=RUN_ONLY)
    return {**values, "source": [{**spec, "source": ""} for spec in values["source"]]}


def plain(columns: Columns) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(columns).items()}


def with_schema(plan: Plan, executor: str, workers: int) -> Plan:
    """The plan with the one schema of its shards, which Parquet needs before the first is written.

    Columns of fixed types are known from the sample; kept columns and conversations of JSON sources are not, so those
    sources are read once more.
    """
    types = reduce(merge_types, (sample_types(part) for part in plan.parts), Types())
    if any(needs_survey(part) for part in plan.parts):
        types = reduce(merge_types, survey(plan, executor, workers), types)
    return of_schema(plan, schema_of(types))


def of_schema(plan: Plan, schema: pa.Schema) -> Plan:
    """The plan with that schema for its shards."""
    name = fingerprint({"schema": str(schema)})
    parts = tuple(
        replace(part, job=replace(part.job, schema=schema, key=f"{part.job.key}-{name}")) for part in plan.parts
    )
    return replace(plan, parts=parts)


def sample_types(part: Part) -> Types:
    """The types of the output columns for the first rows of a source."""
    first = next((split for shard in part.shards for split in shard), None)
    if first is None:
        return Types()
    conversion, types = Conversion(part.job), Types()
    for batch in sources.read(first, columns=part.job.read, batch_rows=50, on_bad=lambda error, raw: None):
        try:
            for made in conversion.convert(batch, first.shown, Books(), lambda error, raw: None):
                types = merge_types(types, types_of(made))
        except ChatfmtError:
            raise
        break
    return types


def needs_survey(part: Part) -> bool:
    """Whether the types of the output may differ between batches: kept columns or conversations of JSON sources."""
    varying = part.job.template is None or bool(part.job.columns.keep)
    return varying and not part.job.nulls


def survey(plan: Plan, executor: str, workers: int) -> Iterable[Types]:
    """The types of the columns that are not rendered, of every task."""
    tasks = [replace(task, job=survey_job(task.job)) for task in plan.tasks(Path())]
    run: Callable[..., Iterable[Types]] = executors.executor(executor)
    return run(survey_task, tasks, workers) if workers > 1 and len(tasks) > 1 else map(survey_task, tasks)


def survey_job(job: Job) -> Job:
    """The job without what it renders."""
    view = None if job.template is not None else job.view
    return replace(job, key=job.key + "-survey", template=None, view=view, mask=None)


def to_plain_detection(detection: Detection) -> dict[str, Any]:
    """A detection as plain data for reports."""
    return {**asdict(detection), "columns": plain(detection.columns)}
