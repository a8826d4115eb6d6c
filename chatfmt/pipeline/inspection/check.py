"""Check all rows: list every problem that converting them would meet, without writing anything."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from ... import checks, executors
from ...errors import SKIP, Location
from ...recipe import Recipe, Run, required
from ...sources import InputSplit, LineFinder
from ..conversion.rejects import Rejected
from ..conversion.row_counts import RowCounts
from ..conversion.source_rows import row_order
from ..conversion.stages import Conversion
from ..conversion.task import output_batches
from ..planning.jobs import codes_that_fail
from ..planning.scratch import Scratch
from ..planning.source_plan import SourcePlan, check_views, plan_source
from ..planning.templates import load_template
from ..running.progress import OnProgress, ignore_progress, run_reading_tasks


class RowProblem(Struct, frozen=True):
    """A problem with a row; `kind` is `error` (the row cannot be converted) or `warning`."""

    code: str
    kind: str
    at: Location
    detail: str
    hint: str = ""


def check(recipe: Recipe, *, workers: int | None = None) -> dict[str, Any]:
    """Return every problem that converting all rows would meet, as `chatfmt check --json` prints them.

        >>> chatfmt.check(chatfmt.Recipe(source="tests/data/everyday.jsonl", template="gemma"))["counts"]
        {'template.raised': 4}

    Raises UsageError, InputError if a source cannot be read.
    """
    required(recipe, "check")
    with Scratch() as scratch:
        return to_json(*check_rows(recipe, scratch, workers or executors.cores()))


def to_json(problems: Sequence[RowProblem], counts: RowCounts) -> dict[str, Any]:
    """Return problems and row counts as plain data."""
    return {
        "schema": 1,
        "rows": counts.read,
        "counts": counts_by_code(problems),
        "problems": [
            {"code": problem.code, "kind": problem.kind, **asdict(problem.at), "detail": problem.detail}
            for problem in problems
        ],
        "left_columns": list(counts.left_column),
        "left_keys": list(counts.left_key),
        "left_out": list(counts.left_out),
    }


def counts_by_code(problems: Sequence[RowProblem]) -> dict[str, int]:
    """Return how often each problem was found, the most frequent first."""
    return dict(Counter(problem.code for problem in problems).most_common())


def check_rows(
    recipe: Recipe, scratch: Scratch, workers: int = 1, on_progress: OnProgress = ignore_progress
) -> tuple[list[RowProblem], RowCounts]:
    """Return every problem that converting all rows would meet, in order, and the row counts; writes nothing."""
    problems: list[RowProblem] = []
    counts = RowCounts()
    asked, recipe = recipe, dataclasses.replace(recipe, on_error="skip", strict=False)
    template = load_template(recipe)
    sources = [plan_source(recipe, spec, template, scratch) for spec in recipe.read_apart]
    fail_on = [codes_that_fail(asked, source.job.view) for source in sources]
    sources = [replace(one, job=replace(one.job, fail_on=codes)) for one, codes in zip(sources, fail_on, strict=True)]
    check_views(sources)
    for source in sources:
        shards = run_reading_tasks(run_check_task, source.by_shard(), Run(workers=workers), on_progress)
        with closing(shards) as results:
            for found, counted in results:
                problems += found
                counts.add(counted)
    return problems, counts


def run_check_task(source: SourcePlan) -> tuple[list[RowProblem], RowCounts]:
    """Return the problems and counts of one shard."""
    problems: list[RowProblem] = []
    counts = RowCounts()

    def on_finding(finding: checks.Finding, at: Location) -> None:
        check = checks.CHECKS[finding.code]
        kind = "error" if finding.code in source.job.fail_on else check.kind
        problems.append(RowProblem(finding.code, kind, at, finding.detail, finding.hint or check.hint))

    def on_rejects(rows: Sequence[Rejected]) -> None:
        for each in rows:
            error = each.error
            problems.append(RowProblem(error.code, "error", each.at, error.message, error.hint or SKIP))

    conversion = Conversion(source.job, on_finding)
    for split in source.inputs:
        before = len(problems)
        for _ in output_batches((split,), conversion, counts, on_rejects):
            pass
        # a whole batch is read before any of it is converted, so its unreadable records are reported first
        problems[before:] = with_lines(split, sorted(problems[before:], key=lambda problem: row_order(problem.at)))
    conversion.report(counts)
    return problems, counts


def with_lines(split: InputSplit, problems: Sequence[RowProblem]) -> list[RowProblem]:
    """Return problems of an input split, in order of the rows, with the lines of their rows."""
    lines = LineFinder(split)
    return [replace(problem, at=lines.with_line(problem.at)) for problem in problems]
