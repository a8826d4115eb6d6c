"""From a recipe to tasks: find the source, look at its rows, load the template, cut the input into shards."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import asdict, replace

from ... import __version__, checks, dialects, executors, mapping, render, tokens, transforms, views, writers
from ...dialects import Columns, Detection
from ...errors import RowError, UsageError, located
from ...manifest import SEMANTICS, fingerprint
from ...recipe import Recipe, SourceSpec
from ...render.jinja.environment import expression, text_expression
from ...render.masks.masker import MaskOptions
from ...render.safety.control_tokens import Policy
from ...render.template.chat_template import ChatTemplate
from ...sources import InputSplit, Source
from ..conversion.job import Job, Task
from ..conversion.kept_columns import is_kept, with_lost
from ..conversion.output_schema import Types, merge_types, schema_of, types_of
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import run_tasks, survey_task
from . import notes
from .inputs import SourceReader
from .scratch import Scratch
from .target import Target, check_selection

FEW = 50
"""Rows that show the types of fixed columns."""
RUN_ONLY = {"about", "workers", "max_bad"}
"""Keys of the recipe that change no byte of a shard."""


class Part(Struct, frozen=True):
    """One source of a conversion with how its rows are read."""

    source: Source
    job: Job
    detection: Detection
    shards: tuple[tuple[InputSplit, ...], ...] = ()
    files: tuple[Mapping[str, Any], ...] = ()
    """Name, size and content hash of each of its files."""
    first: pa.RecordBatch | None = None
    """The first few rows of the source, where it has any and somebody looked."""


class Plan(Struct, frozen=True):
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
    check_rendered(recipe)
    check_selection(recipe, target)
    template = load_template(recipe)
    with render.prestarted_sandbox(template, recipe.template_isolation) if template else nullcontext():
        parts = tuple(to_part(recipe, spec, template, target, scratch, hashed=True) for spec in recipe.source)
        check_views(parts)
        files = tuple(file for part in parts for file in part.files)
        made = Plan(recipe, target, parts, template, run_fingerprint(recipe, parts, template, files, target), files)
        made = replace(made, names=tuple(shard_names(made)), notes=tuple(dict.fromkeys(told(made))))
        return with_schema(made, executor, workers) if target.format == "parquet" else made


def fitted(recipe: Recipe, template: ChatTemplate | None) -> dict[str, Any]:
    """The transforms to apply: with `--fit` those that the template needs, under those that the user named."""
    if not recipe.fit or template is None:
        return dict(recipe.transforms)
    from ...render.inspection.probe import probe

    card = probe(template, recipe.var, render.sessions_of(template, recipe.template_isolation))
    return {**{transform.name: transform.value for transform in card.transforms}, **recipe.transforms}


def check_tokens(recipe: Recipe) -> None:
    """Refuse options about tokens without a tokenizer; raises UsageError."""
    if recipe.tokenizer is None and (recipe.max_tokens is not None or recipe.to == "tokens"):
        asked = "--max-tokens" if recipe.max_tokens is not None else "--to tokens"
        raise UsageError(f"`{asked}` needs a tokenizer to count with", hint="--tokenizer FILE, folder or Hub model id")
    if recipe.tokenizer is not None and recipe.template in (None, "none"):
        raise UsageError("tokens are counted in rendered text, and no template was given", hint="-t chatml")


def check_rendered(recipe: Recipe) -> None:
    """Refuse what can only be done to rendered text where nothing is rendered; raises UsageError."""
    asked = next((key for key in ("mask", "generation_prompt", "continue_final") if getattr(recipe, key)), None)
    if asked is not None and recipe.template in (None, "none"):
        flag = "--" + asked.replace("_", "-")
        raise UsageError(f"`{flag}` is about rendered text, and no template was given", hint="-t chatml")


def load_template(recipe: Recipe) -> ChatTemplate | None:
    """The recipe's template, None where nothing is to be rendered."""
    return None if recipe.template in (None, "none") else ChatTemplate.load(str(recipe.template))


def to_part(
    recipe: Recipe,
    spec: SourceSpec,
    template: ChatTemplate | None,
    target: Target,
    scratch: Scratch,
    *,
    hashed: bool = False,
) -> Part:
    """A source found, looked at and cut into shards; with the hashes of its files, if asked."""
    with closing(SourceReader(recipe, spec, scratch)) as look:
        source, sample = look.source, look.sample()
        with located(source.shown):
            job, detection = to_job(recipe, sample, template, target, nulls=has_nulls(source))
        shards, first = look.shards(), sample[0].slice(0, FEW) if sample else None
        return Part(source, job, detection, shards, look.files() if hashed else (), first)


def has_nulls(source: Source) -> bool:
    """Whether a null of the source is a value: its files are columnar."""
    return any(file.format in ("parquet", "arrow") for files in source.splits.values() for file in files)


def to_job(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], template: ChatTemplate | None, target: Target, *, nulls: bool
) -> tuple[Job, Detection]:
    """What is to be done with rows like those of the sample."""
    checks.check_codes(recipe.fail_on)
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
        control_tokens=token_policy(recipe),
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
    if sample:
        mapping.check_columns(fields, dict.fromkeys(name for batch in sample for name in batch.schema.names))
    names = tuple(dict.fromkeys(name for batch in sample for name in batch.schema.names if not name.startswith("#")))
    if not fields.is_empty:
        sample = mapped_sample(sample, fields, nulls=nulls)
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


def mapped_sample(
    sample: Sequence[pa.RecordBatch], fields: mapping.Mapping, *, nulls: bool
) -> Sequence[pa.RecordBatch]:
    """The sample after mapping: the rows that `--where` keeps, or all where it keeps none or cannot be asked."""
    free = mapping.mapper(replace(fields, where=None), text_expression, expression, nulls=nulls)
    if fields.where is not None:
        mapper = mapping.mapper(fields, text_expression, expression, nulls=nulls)
        with suppress(RowError):
            kept = [mapper(batch).batch for batch in sample]
            if any(len(batch) for batch in kept):
                return kept
    return [free(batch).batch for batch in sample]


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


def token_policy(recipe: Recipe) -> Policy:
    """What becomes of special tokens inside content: kept ones are errors where the user takes them as such."""
    refused = recipe.strict or "token.control" in recipe.fail_on
    return "reject" if refused and recipe.control_tokens == "keep" else recipe.control_tokens


def render_options(recipe: Recipe) -> render.RenderOptions:
    """How the recipe wants conversations to be rendered."""
    return render.RenderOptions(
        generation_prompt=recipe.generation_prompt,
        continue_final=recipe.continue_final,
        variables=recipe.var,
        date=recipe.date,
        engine=recipe.engine,
        bos=recipe.bos,
        fitted=recipe.fit,
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


def told(plan: Plan) -> Iterable[str]:
    """What the user should hear before the first row."""
    for part in plan.parts:
        yield from part.source.notes
        yield from notes.of_job(part.job, part.detection)
    yield from notes.of_system((part.job, part.detection) for part in plan.parts)
    yield from notes.of_template(plan.template, plan.recipe)


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
            "recipe": {**bytes_of(recipe), "template": "", "tokenizer": ""},
            "files": [{**file, "file": Path(file["file"]).name} for file in files],
            "columns": [[part.job.dialect, part.job.view, plain(part.detection.columns)] for part in parts],
            "template": identity(template),
            "tokenizer": "" if recipe.tokenizer is None else tokens.content(recipe.tokenizer),
            "format": [target.format, target.compression, target.kind == "file"],
            "pyarrow": pa.__version__ if target.format == "parquet" else "",
            "python": platform.python_version_tuple()[:2],
        }
    )


def bytes_of(recipe: Recipe) -> dict[str, Any]:
    """The keys of a recipe that can change a byte of a shard, as plain data."""
    values = {key: value for key, value in recipe.plain().items() if key not in RUN_ONLY}
    return {**values, "source": [{**spec, "source": ""} for spec in values["source"]]}


def plain(columns: Columns) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(columns).items()}


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
    """The types of the output columns for the first rows of a source; rendered ones are those of any good row."""
    types = Types()
    if part.first is None:
        return types
    conversion, rows = Conversion(part.job), len(part.first)
    step = 1 if part.job.template is not None and not part.job.whole_file else rows
    for row in range(0, rows, step):
        piece = part.first.slice(row, step)
        for made in conversion.convert(piece, part.source.shown, RowCounts(), lambda error, raw: None):
            types = merge_types(types, types_of(made, typed=part.job.nulls))
        if types:
            break
    return types


def needs_survey(part: Part) -> bool:
    """Whether the types of the output may differ between batches: kept columns or conversations of JSON sources."""
    varying = part.job.template is None or bool(part.job.columns.keep)
    return varying and not part.job.nulls


def survey(plan: Plan, executor: str, workers: int) -> Iterable[Types]:
    """The types of the columns that are not rendered, of every task."""
    tasks = [replace(task, job=survey_job(task.job)) for task in plan.tasks(Path())]
    return run_tasks(survey_task, tasks, executors.executor(executor), workers)


def survey_job(job: Job) -> Job:
    """The job without what it renders."""
    view = None if job.template is not None else job.view
    return replace(job, key=job.key + "-survey", template=None, view=view, mask=None)


def to_plain_detection(detection: Detection) -> dict[str, Any]:
    """A detection as plain data for reports."""
    return {**asdict(detection), "columns": plain(detection.columns)}
