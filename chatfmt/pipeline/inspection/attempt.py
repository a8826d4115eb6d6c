"""Try the flags that `inspect` recommends on the sample, so that it names none that fails there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ...errors import ChatfmtError
from ...recipe import Recipe
from ..conversion.job import Job
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import ignore_reject
from ..planning.jobs import to_job
from ..planning.source_plan import SourcePlan
from ..planning.target import target_of
from ..planning.templates import load_template
from .command import template_arguments

ROWS = 200
"""The rows that are rendered; the loss guard checks as many of each task."""


def working_arguments(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], wanted: Sequence[str], *, nulls: bool, rejected: int
) -> tuple[list[str], Job | None]:
    """Return the template arguments `wanted`, or the first others with which the sample converts, with their job.

    For messages there are neither arguments nor a job. A template that the recipe names stays. `rejected` counts the
    sampled rows that cannot be converted in any case.
    """
    others = [["-t", "qwen3", "--fit"], []] if recipe.template is None else []
    choices = [list(wanted), [*wanted, "--fit"], *others] if wanted else []
    jobs: list[Job | None] = []
    for arguments in choices:
        if not arguments:
            return [], None
        job, works = _tried(recipe, sample, arguments, nulls, rejected)
        if works:
            return arguments, job
        jobs.append(job)
    return list(wanted), jobs[0] if jobs else None


def tried_arguments(recipe: Recipe, plan: SourcePlan) -> list[str]:
    """Return the template arguments of the recipe, or those that `inspect` would recommend for the first rows."""
    if recipe.template is not None or plan.first_rows is None:
        return ["-t", recipe.template] if recipe.template else []
    counts = RowCounts()
    outputs = list(Conversion(plan.job).convert(plan.first_rows, "", counts, ignore_reject))
    wanted = template_arguments(recipe, plan.detection.type, outputs, media=plan.job.media)
    return working_arguments(recipe, [plan.first_rows], wanted, nulls=plan.job.nulls, rejected=counts.rejected)[0]


def _tried(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], arguments: Sequence[str], nulls: bool, rejected: int
) -> tuple[Job | None, bool]:
    """Return the job with some template arguments, and whether no row fails in it that does not fail in any case."""
    job: Job | None = None
    tried = dataclasses.replace(recipe, template=arguments[1], fit="--fit" in arguments)
    try:
        job, _ = to_job(tried, sample, load_template(tried), target_of(None, "jsonl", None), nulls=nulls)
        return job, _count_rejected(job, sample) <= rejected
    except ChatfmtError:
        return job, False


def _count_rejected(job: Job, sample: Sequence[pa.RecordBatch]) -> int:
    """Return how many of the first ROWS rows of a sample a job rejects."""
    conversion, counts, rows = Conversion(job), RowCounts(), ROWS
    for batch in sample:
        some = batch.slice(0, rows)
        for _ in conversion.convert(some, "", counts, ignore_reject):
            pass
        rows -= len(some)
        if rows <= 0:
            break
    return counts.rejected


def error_arguments(recipe: Recipe, reasons: Mapping[str, int], rows: int) -> list[str]:
    """Return the flags that skip the rows which cannot be converted, given their number by reason."""
    bad = sum(reasons.values())
    if not bad:
        return ["--on-error", "skip"] if recipe.on_error == "skip" else []
    share = 100 * bad / max(rows, 1)
    return ["--on-error", "skip", *(["--max-bad", f"{math.ceil(share)}%"] if share > 10 else [])]
