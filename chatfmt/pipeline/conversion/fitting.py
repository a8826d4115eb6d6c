"""`--fit`: what a template needs of conversations, and whether that helps a row that it does not render.

The probe says which template variables and transforms to use. Nothing is taken on trust: fitted rows are rendered and
guarded like all others, and `--fit` is offered for a row only after it has helped that row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ... import render
from ...errors import ChatfmtError
from ...render.template.chat_template import ChatTemplate
from .job import Job

REMEDIES: Mapping[str, Mapping[str, str]] = {"--fit": {}, "--fit tools=system": {"tools": "system"}}
"""What to type, with the transforms that it adds; the first that helps is offered."""
OF_TEMPLATES = ("template.loss", "template.raised", "template.error")
"""The codes of errors that other conversations may not have."""


class Fitting(Struct, frozen=True):
    """What `--fit` sets: template variables and transforms."""

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


class FitOffer:
    """Says which remedy of REMEDIES would have helped a row; each kind of error is tried once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, error: ChatfmtError, row: pa.RecordBatch, file: str) -> None:
        """Put the remedy that helps the `row` of a batch of `file` into the hint of its error, if one does."""
        if self._job.fitted or self._job.template is None or error.code not in OF_TEMPLATES:
            return
        kind = (error.code, error.message)
        if kind not in self._known:
            self._known[kind] = next((flag for flag in self._remedies() if self._helps(flag, row, file)), "")
        if flag := self._known[kind]:
            error.hint = f"`{flag}` adapts the data where it can; {error.hint}"

    def _remedies(self) -> Iterator[str]:
        return (flag for flag, more in REMEDIES.items() if not more or "tools" not in self._job.transforms)

    def _helps(self, flag: str, row: pa.RecordBatch, file: str) -> bool:
        from .row_counts import RowCounts
        from .stages import Conversion

        job, template = self._job, self._job.template
        assert template is not None
        found = fitting(template, job.options.variables, job.isolation)
        options = replace(job.options, variables={**found.variables, **job.options.variables})
        transforms = {**found.transforms, **REMEDIES[flag], **job.transforms}
        tried = replace(
            job, options=options, transforms=transforms, fitted=True, mask=None, view="text", tokenizer=None,
            schema=None, max_tokens=None, packing=None, tagged=False,
        )  # fmt: skip
        try:
            return bool(list(Conversion(tried).convert(row, file, RowCounts())))
        except ChatfmtError:
            return False
