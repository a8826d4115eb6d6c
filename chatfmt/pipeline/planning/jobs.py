"""Make a job of a recipe and a sample of rows: choose dialect, mapping, transforms, template and view."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial

import pyarrow as pa
from msgspec.structs import replace

from ... import dialects, mapping, media, render, trainers, views
from ...dialects import Columns, Detection
from ...errors import DialectError, NoDialect, RowError, UnknownName, UsageError, located
from ...field_path import top_level
from ...manifest import fingerprint
from ...recipe import Recipe, renders
from ...render.safety.control_tokens import ControlTokenPolicy
from ...render.sandbox.expressions import expression, text_expression
from ...render.template.chat_template import ChatTemplate
from ...schema import KEPT_TRUTHS, MEDIA, ROW, TRUTHS
from ...sources import Source
from ..conversion.fitting import fitting
from ..conversion.job import Job
from ..conversion.output.columns import (
    check_renames,
    dropped_columns,
    is_kept,
    mark_overwritten_columns,
    without_columns,
)
from ..conversion.output.packing import Packing
from ..conversion.row_counts import RowCounts
from ..conversion.source_rows import column_names
from ..conversion.stages import Conversion
from ..conversion.task import ignore_rejects
from ..conversion.text_parts import any_other_parts
from ..conversion.train_keys import has_fractions
from ..ledger.ledger import Ledger
from ..plugins import load_plugins
from .fingerprint import job_key
from .left_behind import Conversations, account_for_sample, open_ledger, read_sample, refuse_suspects
from .names import check_dropped_paths, check_keys, check_names, check_train_roles, empty_paths, unused_roles
from .options import check_view, mask_options
from .target import LINES, Target
from .templates import with_generation_tags


def to_checked_job(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], template: ChatTemplate | None, target: Target = LINES,
    *, nulls: bool,
) -> tuple[Job, Detection]:  # fmt: skip
    """Return the job and the detection; raises UsageError if what looks like conversation would be left behind."""
    load_plugins()
    job, detection = to_job(recipe, sample, template, target, nulls=nulls)
    refuse_suspects(recipe, job, lambda changed: to_job(changed, sample, template, target, nulls=nulls)[0])
    unused = (*empty_paths(recipe, sample), *unused_roles(recipe, detection, sample))
    return job, replace(detection, left=(*detection.left, *unused))


def to_job(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], template: ChatTemplate | None, target: Target = LINES,
    *, nulls: bool,
) -> tuple[Job, Detection]:  # fmt: skip
    """Return the job for rows like those of the sample, and the detection of their dialect."""
    check_names(recipe)
    recipe = with_fitting(recipe, template)
    selected = {} if recipe.groups_rows else {"explode": recipe.explode, "where": recipe.condition}
    fields = mapping.plan(recipe.map, markers=recipe.marker, **selected)
    detection = detect(recipe, sample, fields, nulls=nulls)
    carried = media_columns(sample, detection)
    view = choose_view(recipe, detection.type, carried)
    check_view(recipe, view)
    detection = with_view_columns(detection, view, recipe, rendered=template is not None)
    detection = with_read_columns(detection, view, recipe, sample, fields)
    job = Job(
        key=job_key(recipe, detection, view, template, carried, nulls=nulls),
        dialect=detection.dialect,
        columns=detection.columns,
        view=view,
        mapping=None if fields.is_empty else fields,
        nulls=nulls,
        media=carried,
        drop=dropped_columns(recipe, fields),
        ignored_weights=trainers.ignored_weights(trainers.TRAINERS.get(recipe.trainer or ""), view, recipe.transforms),
        in_blocks=views.VIEWS[view].unpairs and detection.type == "preference",
        whole_file=detection.whole_file,
    )
    job = with_target(with_rendering(with_row_options(job, recipe), recipe, template), recipe, target)
    job = with_parts(job) if template is None and has_other_parts(job, sample) else job
    conversations: Conversations = cache(partial(list, read_sample(job, sample)))  # read when they are first looked at
    job = with_weights(job, conversations)
    ledger = account_for_sample(open_ledger(recipe, detection, job), job, sample)
    read, skip = needed_columns(detection, fields, key_columns(recipe, sample), job, ledger)
    key = f"{job.key}-{fingerprint({'ledger': ledger.plain(), 'read': read})}"
    job = replace(job, key=key, ledger=ledger, read=read, skip=frozenset(skip))
    check_renames(recipe, job, sample)
    check_dropped_paths(recipe, job, sample, conversations)
    check_train_roles(recipe, conversations)
    return job, mark_overwritten_columns(job, detection, sample)


def with_view_columns(detection: Detection, view: str, recipe: Recipe, *, rendered: bool) -> Detection:
    """Return the detection with the columns that the view writes, and those that `--keep all` keeps beside them."""
    columns = replace(detection.columns, taken=views.written_columns(view, rendered=rendered))
    detection = replace(detection, columns=columns)
    if view != "prompt" or columns.keep != "all":
        return detection
    return replace(detection, columns=replace(columns, also=answer_columns(detection, recipe.map)))


def with_read_columns(
    detection: Detection, view: str, recipe: Recipe, sample: Sequence[pa.RecordBatch], fields: mapping.FieldMapping
) -> Detection:
    """Return the detection with the columns kept that the view reads and the conversation does not use.

    A ground truth that `--keep` names or that a transform makes is read instead of another.
    """
    columns, shown = detection.columns, views.VIEWS[view]
    if columns.keep == "all":
        return detection
    made = ["final_answer"] if recipe.transforms.get("final_answer") == "column" else []
    named = not {*KEPT_TRUTHS}.isdisjoint(columns.keep)
    truths = () if named or not shown.reads_truth else TRUTHS
    found = {*column_names(sample)} - {*recipe.drop, *columns.keep}
    tested = {*fields.reads([*found])}.difference(replace(fields, where=None).reads([*found]), columns.fields.values())
    used = {*detection.used} - tested
    truth = next((name for name in truths if name in found or name in made or name in used), "")
    read = [name for name in (truth, shown.reads) if name and name in found - {*used, *made}]
    return replace(detection, columns=replace(columns, keep=(*columns.keep, *read))) if read else detection


def codes_that_fail(recipe: Recipe, view: str | None) -> tuple[str, ...]:
    """Return the codes of the findings that make a row a bad one; for a template or `--on-error skip` it has turns."""
    loaded = ("json.integer", *trainers.refused_codes(recipe.trainer, str(view))) if recipe.trainer else ()
    filled = recipe.on_error == "skip" or renders(recipe.template)
    return (*recipe.fail_on, *loaded, *(("row.empty",) if filled else ()))


def with_row_options(job: Job, recipe: Recipe) -> Job:
    """Return the job with the options that change, check and select conversations."""
    return replace(
        job,
        transforms=recipe.transforms,
        fitted=recipe.fit,
        fail_on=codes_that_fail(recipe, job.view),
        strict=recipe.strict,
        skip_bad=recipe.on_error == "skip",
        fraction=recipe.fraction,
        seed=recipe.seed,
        dedup_by=recipe.dedup_by,
        split_by=recipe.split_by,
    )


def with_rendering(job: Job, recipe: Recipe, template: ChatTemplate | None) -> Job:
    """Return the job with the options for rendering, masks and tokens."""
    assert job.view is not None
    job = replace(
        job,
        template=template,
        options=render_options(recipe, template),
        unread_calls=trainers.unread_calls(recipe.trainer, job.view, rendered=template is not None),
        isolation=recipe.template_isolation,
        mask=mask_options(recipe, job.view),
        end=None if recipe.end == "keep" else recipe.end,
        allow_loss=recipe.allow_loss,
        control_tokens=token_policy(recipe),
        tokenizer=recipe.tokenizer,
        max_tokens=recipe.max_tokens,
        over_length=recipe.over_length,
        packing=None if recipe.pack is None else Packing(recipe.pack, recipe.pack_strategy),
    )
    return with_generation_tags(job)


def with_target(job: Job, recipe: Recipe, target: Target) -> Job:
    """Return the job with the options for the files that it writes."""
    return replace(
        job,
        media_tags=recipe.media_tags,
        embed_media=recipe.embed_media and target.format == "parquet",
        format=target.format,
        compression=target.compression,
        reports_types=target.format == "jsonl",
        rename=recipe.rename,
    )


def with_weights(job: Job, conversations: Conversations) -> Job:
    """Return the job that writes the weights of spans, if it writes spans and some in the sample are not 0 or 1."""
    has_spans = job.mask is not None and views.VIEWS[str(job.view)].takes_mask
    is_weighted = has_spans and any(map(has_fractions, conversations()))
    return replace(job, weighted=True, key=f"{job.key}-weights") if is_weighted else job


def has_other_parts(job: Job, sample: Sequence[pa.RecordBatch]) -> bool:
    """Return whether a conversation of the sample has parts other than text."""
    conversion = Conversion(with_parts(job))
    return any(
        any_other_parts(output)
        for batch in sample
        for output in conversion.convert(batch, "", RowCounts(), ignore_rejects)
    )


def with_parts(job: Job) -> Job:
    """Return the job that leaves lists of text parts as they are."""
    return replace(job, keeps_parts=True, key=f"{job.key}-parts")


def detect(recipe: Recipe, sample: Sequence[pa.RecordBatch], fields: mapping.FieldMapping, *, nulls: bool) -> Detection:
    """Detect the dialect of the sample after mapping, when each mapped field is a column of its own name."""
    names = tuple(column_names(sample))
    if sample:
        mapping.check_columns(fields, names)
    if not fields.is_empty:
        sample = mapped_sample(sample, fields, nulls=nulls, skip=recipe.on_error == "skip")
    if dropped := dropped_columns(recipe, fields):
        names = tuple(name for name in names if name not in dropped)
        sample = [without_columns(batch, dropped) for batch in sample]
    columns = Columns(
        fields={**{name: name for name in fields.columns if not is_kept(recipe, name)}, **dict(fields.keys)},
        roles=recipe.role_names,
        turn_roles=recipe.roles,
        options=recipe.dialect_options,
        keep="all" if "all" in recipe.keep else recipe.keep,
    )
    if not sample and recipe.allow_empty:
        dialect = "messages" if recipe.dialect == "auto" else recipe.dialect
        return Detection(dialect, columns, 0, 0, "there are no rows", (), ())
    try:
        detection = dialects.detect(sample, columns, recipe.dialect, shown=recipe.map)
    except DialectError as error:
        if error.code != "row.empty" or recipe.on_error != "skip":
            raise
        dialect = "messages" if recipe.dialect in ("auto", "mixed") else recipe.dialect
        columns = columns.adding({"messages": dialects.empty_column(sample, columns)})
        return Detection(dialect, columns, 0, 0, str(error), names, ())
    except NoDialect as error:
        if recipe.groups_rows and (inside := dialects.turns_in_turn(sample, columns)):
            joined = "--explode messages --map messages=messages joins their turns"
            several = f"`messages` holds several conversations: {joined}, without --group-by each is a row"
            alone = f"each row holds a conversation, in `{inside}`: leave out --group-by"
            error.hint = several if inside == "messages" else alone
        raise
    detection = with_media_of_text(detection, names)
    check_keys(recipe, detection, sample)
    return detection if fields.is_empty else with_source_columns(detection, fields, names)


def with_media_of_text(detection: Detection, names: Sequence[str]) -> Detection:
    """Return the detection with media kept beside text that a template rendered: its places for them are in the text.

    So an output of text with its images is read back as it is.
    """
    columns = detection.columns
    if detection.dialect not in RENDERED or columns.keep == "all":
        return detection
    media = [name for name in names if name in MEDIA and name not in (*columns.keep, *columns.fields)]
    return replace(detection, columns=replace(columns, keep=(*columns.keep, *media)))


RENDERED = ("text", "transcript", "segments")
"""The dialects of text that holds the special tokens of a template."""


def answer_columns(detection: Detection, given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the column of the answers, which a view of prompts does not use, if they have one; `given` is `--map`."""
    path = given.get("completion") or given.get("assistant") or detection.columns.path("completion")
    return tuple(name for name in detection.used if path == name and name not in detection.columns.taken)


def mapped_sample(
    sample: Sequence[pa.RecordBatch], fields: mapping.FieldMapping, *, nulls: bool, skip: bool
) -> Sequence[pa.RecordBatch]:
    """Return the sample after mapping: the rows that `--where` keeps, or all if it keeps none or fails.

    With `skip` rows that cannot be mapped are left out; the conversion reports them. Raises RowError if none can be.
    """
    unfiltered = mapping.mapper(replace(fields, where=None), text_expression, expression, nulls=nulls)
    if fields.where is not None:
        mapper = mapping.mapper(fields, text_expression, expression, nulls=nulls)
        with suppress(RowError):
            kept = [_mapped(batch, mapper, skip=skip) for batch in sample]
            if any(len(batch) for batch in kept):
                return kept
    mapped = [_mapped(batch, unfiltered, skip=skip) for batch in sample]
    none_left = skip and not any(len(batch) for batch in mapped)
    return [_mapped(batch, unfiltered, skip=False) for batch in sample] if none_left else mapped


def _mapped(batch: pa.RecordBatch, mapper: mapping.Mapper, *, skip: bool) -> pa.RecordBatch:
    """Return a batch after mapping; an error has the number of its row in the file."""
    while True:
        try:
            return mapper(batch).batch
        except RowError as error:
            row = error.at.row
            if row is None or not skip:
                with located(rows=batch.column(ROW)):
                    raise
            others = [index for index in range(len(batch)) if index != row]
            batch = batch.take(pa.array(others, pa.int64()))


def with_source_columns(detection: Detection, fields: mapping.FieldMapping, names: Sequence[str]) -> Detection:
    """Return the detection with the source columns that a mapping reads instead of those that it creates."""
    unmapped = [name for name in detection.used if name not in fields.columns]
    used = tuple(dict.fromkeys((*fields.reads(names), *unmapped)))
    free = {*detection.unused, *fields.columns}
    unused = [name for name in (*names, *detection.unused) if name in free]
    return replace(detection, used=used, unused=tuple(name for name in dict.fromkeys(unused) if name not in used))


def needed_columns(
    detection: Detection, fields: mapping.FieldMapping, keys: Sequence[str], job: Job, ledger: Ledger
) -> tuple[tuple[str, ...] | None, Collection[str]]:
    """Return the source columns to read, None for all, and those to skip of the formats whose rows differ in columns.

    An expression may use any column, a reject is a whole record, and a column that is empty in the sample may be filled
    later.
    """
    has_expression = fields.explode or fields.where or fields.text_templates
    used = dialects.used_columns(detection)
    if has_expression or job.skip_bad or not used:
        return None, ()
    needed = tuple(dict.fromkeys((*fields.roots, *used, *keys)))
    if not job.nulls:
        return None, ledger.seen.difference(needed)
    return (*needed, *(name for name in detection.unused if name not in ledger.seen)), ()


def key_columns(recipe: Recipe, sample: Sequence[pa.RecordBatch]) -> list[str]:
    """Return the source columns of `--dedup-by` and `--split-by`; raises UnknownName for one that no row has."""
    names = column_names(sample)
    columns = [top_level(name, names) for name in (recipe.dedup_by, recipe.split_by) if name is not None]
    for name in columns if names else ():
        if name not in names:
            raise UnknownName.of("column", name, names)
    return columns


def media_columns(sample: Sequence[pa.RecordBatch], detection: Detection) -> tuple[str, ...]:
    """Return the columns of media that the rows have: those that the dialect reads, and those that parts need."""
    found = media.mentioned(
        [batch.select([name for name in detection.used if name in batch.schema.names]) for batch in sample]
    )
    read = {*detection.columns.fields, *(detection.used if detection.dialect == "mixed" else ())}
    return tuple(name for name, kind in MEDIA.items() if name in found or not read.isdisjoint((name, kind)))


def with_fitting(recipe: Recipe, template: ChatTemplate | None) -> Recipe:
    """Return the recipe with the variables and transforms that `--fit` adds for the template to its own."""
    if not recipe.fit or template is None:
        return recipe
    found = fitting(template, recipe.var, recipe.template_isolation)
    return dataclasses.replace(
        recipe, var={**found.variables, **recipe.var}, transforms={**found.transforms, **recipe.transforms}
    )


def token_policy(recipe: Recipe) -> ControlTokenPolicy:
    """Return what to do with special tokens in message content: `--strict` and `--fail-on` reject what is kept."""
    rejected = recipe.strict or "token.control" in recipe.fail_on
    return "reject" if rejected and recipe.control_tokens == "keep" else recipe.control_tokens


def render_options(recipe: Recipe, template: ChatTemplate | None) -> render.RenderOptions:
    """Return the options for rendering conversations; a BOS token that also opens or ends turns is kept.

    Raises UsageError if `--end eos` has no EOS token to add.
    """
    options = render.RenderOptions(
        generation_prompt=recipe.generation_prompt,
        continue_final=recipe.continue_final,
        variables=recipe.var,
        date=recipe.date,
        engine=recipe.engine,
        bos=recipe.bos,
    )
    if template is None or (recipe.bos, recipe.end) == ("keep", "keep"):
        return options
    from ...render.inspection.probe import Probe
    from ...render.masks.turn_boundaries import TurnBoundaries, missing_stop

    kept = replace(options, bos="keep")
    single = render.template_renderer(template, kept, recipe.template_isolation)
    needs_eos = recipe.end == "eos" and not single.special_tokens.get("eos_token")
    if needs_eos and (not TurnBoundaries(single).stops or missing_stop(single)):
        raise UsageError(
            f"the template `{template.name}` names no EOS token for `--end eos` to add",
            hint="--var eos_token=TOKEN, or --end keep",
        )
    return kept if recipe.bos == "strip" and Probe(single).bos_opens_turns() else options


def choose_view(recipe: Recipe, data_type: str, carried: Sequence[str]) -> str:
    """Return the view to write for data of a type: that of `--to`, or the one that `--for` or the data asks for.

    A trainer gets images, videos and audio with messages, which it renders itself.
    """
    to = recipe.to
    if recipe.trainer is not None and to in ("auto", *views.VIEWS):
        rendered = renders(recipe.template) and not carried
        to = trainers.choose_view(recipe.trainer, to, data_type, rendered=rendered, media=carried)
    return views.choose(to, data_type, rendered=renders(recipe.template))


def has_nulls(source: Source) -> bool:
    """Return whether a null in the source is a value, as in columnar files, and not an absent key."""
    return any(file.format in ("parquet", "arrow") for file in source.files)
