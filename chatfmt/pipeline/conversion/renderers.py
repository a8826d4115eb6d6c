"""The renderer of a job: the engine, with masks and the content-loss guard around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from ... import render
from ...errors import ChatfmtError, RenderError
from ...json_columns import booleans
from ...render.ending import EndedRenderer
from ...render.masks.masker import WHOLE_TURNS, Masker
from ...render.masks.prompt_boundary import split_texts
from ...render.masks.renderer import MaskedRenderer
from ...render.safety.content_loss import LossGuard
from ...render.safety.loss_finder import Loss
from ...render.single import TemplateRenderer
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, Renderer, RenderRequest
from .job import Job


def to_renderer(engine: Renderer, job: Job, single: TemplateRenderer) -> Renderer:
    """Return the engine with the masks and the content-loss guard that the job asks for."""
    inner = engine
    if job.mask is not None:
        inner = MaskedRenderer(engine, single, job.mask, _tagged_engine(job), weighted=job.weighted)
    if job.end is not None:
        inner = EndedRenderer(inner, single, job.end, trained=job.mask is None or job.mask.stop_token)
    if "all" in job.allow_loss or job.options.continue_final:
        return inner
    return GuardedRenderer(inner, LossGuard(single, job.allow_loss))


def _tagged_engine(job: Job) -> Renderer | None:
    options = replace(job.options, engine="auto")  # rows without tags are masked singly, however they are rendered
    return None if job.tagged_template is None else render.compile(job.tagged_template, options, job.isolation)


class GuardedRenderer(Struct, frozen=True):
    """Render as `inner` does, but no conversation of which a text is not in the output.

    Such a conversation raises TemplateError, which ends the run; with `failures`, it is a row that fails.
    """

    inner: Renderer
    guard: LossGuard

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        if failures is not None:
            return self._without_losses(chats, self.inner(chats, request, failures), failures)
        try:
            rendered = self.inner(chats, request, failures)
        except ChatfmtError:  # content loss ends the run, whatever else is wrong with a row
            self._raise_loss(self.guard.check(chats))
            raise
        self._raise_loss(self.guard.check(chats, rendered))
        return rendered

    def _without_losses(self, chats: ConversationBatch, rendered: Rendered, failures: list[RenderError]) -> Rendered:
        """Return the column with nulls for rows that lose something, and append their errors to `failures`."""
        losses, single = self.guard.check_rows(chats, rendered), self.guard.renderer
        if not losses:
            return rendered
        failures += [loss.row_error(single.template.name).of_rows(rows) for loss, rows in losses.items()]
        lost = np.zeros(len(chats), np.bool_)
        lost[np.concatenate([*losses.values()])] = True
        return replace(rendered, text=pc.if_else(booleans(lost), None, rendered.text))

    def _raise_loss(self, loss: Loss | None) -> None:
        if loss is not None:
            single = self.guard.renderer
            raise loss.error(single.template.name)


class MarkedAnswerFinder:
    """Find where an answer begins in rendered text by marking its turns; see `views.batch.AnswerFinder`."""

    def __init__(self, single: TemplateRenderer) -> None:
        self._masker = Masker(single, WHOLE_TURNS)

    def __call__(self, chats: ConversationBatch, first: Sequence[int]) -> list[int]:
        return [split.boundary if split is not None else 0 for split in split_texts(self._masker, chats, first)]
