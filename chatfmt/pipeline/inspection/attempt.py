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
) -> list[str]:
    """Return the template arguments `wanted`, or the first others with which the sample converts; none for messages.

    A template that the recipe names stays. `rejected` counts the sampled rows that cannot be converted in any case.
    """
    others = [["-t", "qwen3", "--fit"], []] if recipe.template is None else []
    choices = [list(wanted), [*wanted, "--fit"], *others] if wanted else []
    working = (arguments for arguments in choices if _works(recipe, sample, arguments, nulls, rejected))
    return next(working, list(wanted))


def tried_arguments(recipe: Recipe, plan: SourcePlan) -> list[str]:
    """Return the template arguments of the recipe, or those that `inspect` would recommend for the first rows."""
    if recipe.template is not None or plan.first_rows is None:
        return ["-t", recipe.template] if recipe.template else []
    counts = RowCounts()
    outputs = list(Conversion(plan.job).convert(plan.first_rows, "", counts, ignore_reject))
    wanted = template_arguments(recipe, plan.detection.type, outputs, media=plan.job.media)
    return working_arguments(recipe, [plan.first_rows], wanted, nulls=plan.job.nulls, rejected=counts.rejected)


def job_with(arguments: Sequence[str], recipe: Recipe, sample: Sequence[pa.RecordBatch], *, nulls: bool) -> Job:
    """Return the job of a recipe with template arguments."""
    tried = dataclasses.replace(recipe, template=arguments[1], fit="--fit" in arguments)
    job, _ = to_job(tried, sample, load_template(tried), target_of(None, "jsonl", None), nulls=nulls)
    return job


def _works(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], arguments: Sequence[str], nulls: bool, rejected: int
) -> bool:
    """Return whether no row of the sample fails that does not fail without a template."""
    if not arguments:
        return True
    counts, rows = RowCounts(), ROWS
    try:
        conversion = Conversion(job_with(arguments, recipe, sample, nulls=nulls))
        for batch in sample:
            some = batch.slice(0, rows)
            for _ in conversion.convert(some, "", counts, ignore_reject):
                pass
            rows -= len(some)
            if rows <= 0:
                break
    except ChatfmtError:
        return False
    return counts.rejected <= rejected


def error_arguments(recipe: Recipe, reasons: Mapping[str, int], rows: int) -> list[str]:
    """Return the flags that skip the rows which cannot be converted, given their number by reason."""
    bad = sum(reasons.values())
    if not bad:
        return ["--on-error", "skip"] if recipe.on_error == "skip" else []
    share = 100 * bad / max(rows, 1)
    return ["--on-error", "skip", *(["--max-bad", f"{math.ceil(share)}%"] if share > 10 else [])]
