"""`--fit`: what a template needs of conversations, and whether that helps a row that it does not render.

The probe says which template variables and transforms to use. Nothing is taken on trust: fitted rows are rendered and
guarded like all others, and `--fit` is offered for a row only after it has helped that row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import render
from ...errors import ChatfmtError, RowError, TemplateError
from ...render.template.chat_template import ChatTemplate
from .job import Job

REMEDIES: Mapping[str, Mapping[str, str]] = {
    "--fit": {}, "--fit tools=system": {"tools": "system"}, "--fit results=text": {"results": "text"},
}  # fmt: skip
"""What to type, with the transforms that it adds; the first that helps is offered."""
AROUND = 100
"""Rows that a remedy is tried on."""
OF_TEMPLATES = ("template.loss", "template.raised", "template.error")
"""The codes of errors that other conversations may not have."""


class Fitting(Struct, frozen=True):
    """The template variables and transforms that `--fit` sets."""

    variables: Mapping[str, Any]
    transforms: Mapping[str, Any]


def fitting(template: ChatTemplate, variables: Mapping[str, Any], isolation: render.Isolation) -> Fitting:
    """Return what `--fit` sets for a template, rendered with `variables`."""
    from ...render.inspection.probe import probe

    sessions = render.sandbox_sessions(template, isolation)
    card = probe(template, variables, sessions)
    if found := card.variables:  # with them it may need other transforms
        card = probe(template, {**variables, **found}, sessions)
    transforms = {transform.name: transform.value for transform in card.transforms}
    return Fitting(found, {"empty_calls": "drop", **transforms})


@lru_cache(maxsize=1)
def fitting_of(job: Job) -> Fitting | None:
    """Return what `--fit` sets for the template of a job, which is probed once for all of its errors."""
    return None if job.template is None else fitting(job.template, job.options.variables, job.isolation)


def find_remedy(code: str, job: Job, row: pa.RecordBatch, file: str, others: pa.RecordBatch | None = None) -> str:
    """Return the first of REMEDIES that converts the `row` of a batch of `file`, which has this error, or empty.

    What adds transforms must convert the `others` around it too: tools in a system message help no row with calls.
    """
    if code not in OF_TEMPLATES or (found := fitting_of(job)) is None:
        return ""
    some = (
        flag for flag, more in REMEDIES.items() if (more.keys().isdisjoint(job.transforms) if more else not job.fitted)
    )
    for flag in some:
        fitted = _fitted(job, found, REMEDIES[flag])
        rows = [row] if others is None or not REMEDIES[flag] else [row, others.slice(0, AROUND)]
        if all(_converted(fitted, each, file) for each in rows):
            return flag
    return ""


def _fitted(job: Job, found: Fitting, more: Mapping[str, str]) -> Job:
    """Return a job that renders fitted rows, and nothing else."""
    return replace(
        _texts_only(job),
        options=replace(job.options, variables={**found.variables, **job.options.variables}),
        transforms={**found.transforms, **more, **job.transforms},
        fitted=True,
    )


def _texts_only(job: Job) -> Job:
    """Return the job with texts as its output, and no spans, tokens or tags."""
    return replace(
        job, mask=None, view="text", tokenizer=None, schema=None, max_tokens=None, packing=None, tagged=False
    )


def template_error(job: Job, rows: pa.RecordBatch, file: str, *, every: bool) -> RowError | TemplateError | None:
    """Return the error of the template on the first of the rows of `file`, rendered without spans, that has one.

    With `every`, only if it renders none of the rows.
    """
    from .row_counts import RowCounts
    from .stages import Conversion

    counts, errors = RowCounts(), list[ChatfmtError]()
    try:
        keep = (lambda rows: errors.extend(each.error for each in rows)) if every else None
        for _ in Conversion(_texts_only(job), offers=0).convert(rows, file, counts, keep):
            pass
    except ChatfmtError as error:
        errors.append(error)
    found = (error for error in errors if error.code in OF_TEMPLATES)
    return next((error for error in found if isinstance(error, (RowError, TemplateError)) and not counts.written), None)


def joins_parts(job: Job, rows: pa.RecordBatch) -> bool:
    """Return whether rows without other parts than text have the text that they have with their parts joined."""
    plain = _texts_only(job)
    joined = replace(plain, transforms={**job.transforms, "parts": "flatten"})
    return _converted(plain, rows, "") == _converted(joined, rows, "")


def _converted(job: Job, rows: pa.RecordBatch, file: str) -> list[pa.RecordBatch]:
    """Return the output for some rows; none if one of them cannot be converted."""
    from .row_counts import RowCounts
    from .stages import Conversion

    try:
        return list(Conversion(job, offers=0).convert(rows, file, RowCounts()))
    except ChatfmtError:
        return []
