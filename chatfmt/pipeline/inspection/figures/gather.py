"""Convert a source as `convert` would, write nothing, and gather its figures; `stats` and `report` read these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from .... import checks, executors, transforms
from ....errors import SKIP, Location, UsageError
from ....manifest import Manifest
from ....recipe import Recipe, Run, SourceSpec
from ....render.masks.masker import WHOLE_TURNS
from ....sources import InputSplit, Source, line_finders
from ....tokens import load as load_tokenizer
from ....views import VIEWS
from ...conversion.job import Job
from ...conversion.rejects import Rejected
from ...conversion.row_counts import RowCounts
from ...conversion.source_rows import find_row, to_json
from ...conversion.stages import Conversion
from ...conversion.task import converted_batches, ignore_rejects
from ...planning.options import check_rendered, check_tokens, span_option
from ...planning.scratch import Scratch
from ...planning.source_plan import SourcePlan, plan_source
from ...planning.templates import load_template, with_generation_tags
from ...running.progress import OnProgress, ignore_progress, run_reading_tasks
from ..preview import PreviewRow, preview_file, preview_row, with_lines
from ..statistics import count_characters
from . import finished
from .aggregate import EXAMPLES, Example, Figures, shortened
from .groups import Groups, check_column
from .picks import Pick, Picks

MOST = 240
"""Rows of one source that are shown."""


class Gathered(Struct, frozen=True):
    """The figures of one source, how it is read, and the rows picked from it."""

    source: Source
    figures: Figures
    template: str | None
    plan: SourcePlan | None = None
    """None for rows of token ids, which are read as they are."""
    manifest: Manifest | None = None
    """Set for the output of a conversion."""
    rows: Sequence[tuple[PreviewRow, tuple[str, ...]]] = ()
    """Each picked row with the reasons."""


class Asked(Struct, frozen=True):
    """The requested figures: with `picks` also rows to show, with `by` also counts for each value of that column."""

    workers: int
    picks: bool = False
    by: str | None = None
    on_progress: OnProgress = ignore_progress


def gather(
    recipe: Recipe, scratch: Scratch, workers: int, *, picks: bool = False, by: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> list[Gathered]:  # fmt: skip
    """Return the figures of each source of a recipe.

    With `picks` also rows to show, with `by` also the figures of each value of a column. Bad rows are counted, not
    raised.

    Rows over `--max-tokens` are counted like the others: `tokens.above` has how many they are.
    """
    transforms.check_settings(recipe.transforms)
    check_tokens(recipe)
    check_rendered(recipe)
    lenient = dataclasses.replace(recipe, on_error="skip", pack=None, mask=recipe.mask or bool(span_option(recipe)))
    asked = Asked(workers, picks, by, on_progress)
    return [_gather_source(lenient, spec, scratch, asked) for spec in lenient.source]


def _gather_source(recipe: Recipe, spec: SourceSpec, scratch: Scratch, asked: Asked) -> Gathered:
    manifest = finished.manifest_of(spec) if recipe.template is None else None
    if manifest is not None:
        recipe, source = finished.as_written(recipe, spec)
        spec = recipe.source[0]
    if manifest is not None and source is not None:
        if asked.by is not None:
            raise UsageError(f"`{spec.source}` holds token ids, which have no columns to count by", hint="omit --by")
        found = Gathered(source, finished.token_figures(source, spec.split), None, None, manifest)
    else:
        found = _gather_rows(recipe, spec, scratch, asked)
    if manifest is None:
        return found
    finished.add_manifest(found.figures, manifest, Path(spec.source))
    tokens = finished.control_tokens(manifest)
    rows = [(replace(row, tokens=tokens), why) for row, why in found.rows]
    return replace(found, manifest=manifest, template=manifest.recipe.get("template"), rows=rows)


def _gather_rows(recipe: Recipe, spec: SourceSpec, scratch: Scratch, asked: Asked) -> Gathered:
    plan = plan_source(recipe, spec, load_template(recipe), scratch)
    plan = replace(plan, job=measured(recipe, plan))
    if asked.by is not None and plan.first_rows is not None:
        check_column(asked.by, plan.first_rows.schema.names)
    shared = FiguresTask(plan, recipe.tokenizer, recipe.seed if asked.picks else None, asked.by)
    figures = shared.figures()
    tasks = [replace(shared, plan=part) for part in plan.by_shard()]
    with closing(run_reading_tasks(run_figures_task, tasks, Run(workers=asked.workers), asked.on_progress)) as results:
        for each in results:
            figures.merge(each)
    if figures.groups is not None and plan.first_rows is not None:
        figures.groups.check(plan.first_rows.schema)
    add_lines(plan.source, figures)
    rows = picked_rows(plan, figures) if asked.picks else ()
    return Gathered(plan.source, figures, recipe.template, plan, None, rows)


def add_lines(source: Source, figures: Figures) -> None:
    """Add to the examples the lines on which their rows begin; those of rejected rows have them."""
    finders = line_finders(source)
    for code, examples in figures.examples.items():
        figures.examples[code] = [
            replace(each, at=finders[each.at.file].with_line(each.at)) if each.at.file in finders else each
            for each in examples
        ]


def measured(recipe: Recipe, plan: SourcePlan) -> Job:
    """Return the job that renders text with its trained spans, where the template can tell them, and limits nothing."""
    job = plan.job
    view = "text" if job.view and VIEWS[job.view].needs_spans else job.view
    job = replace(job, view=view, max_tokens=None, tokenizer=None, allows_untrained=True, key=f"{job.key}-figures")
    if job.template is None or not view or not VIEWS[view].takes_mask or plan.first_rows is None:
        return job
    masked = with_generation_tags(replace(job, mask=job.mask or WHOLE_TURNS, key=f"{job.key}-masked"))
    counts = RowCounts()
    list(Conversion(masked).convert(plan.first_rows, "", counts, ignore_rejects))
    return job if any(code.startswith("mask.") for code in counts.reasons) and not recipe.mask else masked


class FiguresTask(Struct, frozen=True):
    """The rows of one shard to count; with a `seed` rows are picked too, with `by` they are counted by a column."""

    plan: SourcePlan
    tokenizer: str | None = None
    seed: int | None = None
    by: str | None = None

    def figures(self) -> Figures:
        """Return figures that have counted nothing yet."""
        picks = None if self.seed is None else Picks(self.seed)
        return Figures(picks=picks, groups=None if self.by is None else Groups(self.by))

    @property
    def name(self) -> str:
        """The file that the shard begins in."""
        return self.plan.name

    @property
    def inputs(self) -> tuple[InputSplit, ...]:
        """The inputs of the shard."""
        return self.plan.inputs


def run_figures_task(task: FiguresTask) -> Figures:
    """Return the figures of one shard."""
    figures = task.figures()
    tokenizer = None if task.tokenizer is None else load_tokenizer(task.tokenizer)
    conversion: Conversion = Conversion(task.plan.job, partial(_on_finding, figures, lambda: conversion.source))
    for split in task.inputs:
        for output in converted_batches((split,), conversion, figures.counts, partial(_on_rejects, figures)):
            figures.add(conversion.source, conversion.converted, output, tokenizer)
            if figures.picks is not None:
                _pick(figures.picks, conversion, split.shown)
    conversion.report(figures.counts)
    return figures


def _pick(picks: Picks, conversion: Conversion, file: str) -> None:
    conversations, source = conversion.converted, conversion.source
    if conversion.job.whole_file:
        picks.ready += [row for row, _ in zip(preview_file(conversion, source, file), range(200), strict=False)]
        return
    numbers = np.asarray(conversations.column("row"), np.int64)
    picks.add(file, source, numbers, count_characters(conversations))


def _on_finding(figures: Figures, source: Callable[[], pa.RecordBatch], finding: checks.Finding, at: Location) -> None:
    """Keep the first rows with each finding."""
    if len(figures.examples.get(finding.code, ())) >= EXAMPLES or at.row is None:
        return
    batch = source()
    index = find_row(at.row, batch)
    raw = to_json(batch.slice(index, 1))[0] if index >= 0 else None
    example = Example(at, finding.detail, checks.CHECKS[finding.code].hint, shortened(raw))
    if figures.example(finding.code, example) and figures.picks is not None:
        figures.picks.pick(finding.code, at.file, batch, at.row, len(figures.examples[finding.code]))


def _on_rejects(figures: Figures, rows: Sequence[Rejected]) -> None:
    """Keep the first rows that are rejected for each reason."""
    for each in rows:
        error, at = each.error, each.at
        example = Example(at, error.message, error.hint or SKIP, shortened(each.raw))
        if figures.example(error.code, example) and figures.picks is not None:
            problem = f"{error.message}" + (f" (hint: {error.hint})" if error.hint else "")
            row = PreviewRow(
                at.row or 0, {}, (), problem=problem, raw=example.raw, file=at.file, code=error.code, line=at.line
            )
            figures.picks.ready.append(row)


def picked_rows(plan: SourcePlan, figures: Figures) -> list[tuple[PreviewRow, tuple[str, ...]]]:
    """Return the picked rows as `preview` shows them, each with the reasons; they are converted in a worker."""
    assert figures.picks is not None
    picks, ready = list(figures.picks.distinct()), figures.picks.ready
    picked = {(pick.file, pick.number) for pick in picks}
    with closing(executors.in_worker(_preview_picks, (plan.job, picks))) as shown:
        rows = [
            *zip(with_lines(plan.source, shown), (pick.why for pick in picks), strict=True),
            *((row, (row.code or "first",)) for row in ready if (row.file, row.row) not in picked),
        ]
    return sorted(rows, key=lambda each: (each[0].file, each[0].row))[:MOST]


def _preview_picks(request: tuple[Job, Sequence[Pick]]) -> Iterator[PreviewRow]:
    job, picks = request
    conversion = Conversion(replace(job, rename={}))
    for pick in picks:
        yield preview_row(conversion, pick.row, pick.file)
