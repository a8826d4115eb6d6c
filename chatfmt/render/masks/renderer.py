"""A renderer whose spans are the trained text of any template, over whatever engine renders the text.

Where the template has no generation tags, the spans of rows that the engine replays are told from their programs (see
`placed`). Other rows are rendered once more with marks in them (see `masks`), and those that the first way of marking
disturbs go the plain way, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from ...errors import Location, RenderError
from ...json_columns import encode_conversations, integers
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, RenderRequest
from ..options import SPANS, Renderer
from ..single import Chat, TemplateRenderer
from ..trace.kernels import Numbers
from ..trace.renderer import TracedRenderer
from ..types import Span
from .markers import Marked
from .masker import FLAGS, WHOLE_TURNS, Mask, Masker, MaskOptions, to_chats, wanted_turns
from .replayed_spans import SpanCache


class MaskedRenderer:
    """Renders as `inner` does; with `spans=True` its spans are those of `Masker`, whatever tags the template has."""

    def __init__(self, inner: Renderer, voice: TemplateRenderer, mask: MaskOptions = WHOLE_TURNS) -> None:
        self.inner, self.engine, self.reason = inner, inner.engine, inner.reason
        self.masker = Masker(voice, mask)
        self.methods: dict[str, int] = {}
        """How many rows each rung of the ladder served."""
        self.marked = 0
        """How many of them were looked at one by one."""
        self._placements = SpanCache()

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        if not request.spans:
            return self.inner(chats, request, failures)
        if self._tags_suffice(chats.messages):
            rendered = self.inner(chats, request, failures)
            self._count("generation", len(rendered.text) - rendered.text.null_count)
            return rendered
        unmasked = replace(request, spans=False)
        if isinstance(self.inner, TracedRenderer) and not any(map(self.masker.voice.has_generation_tag, (None, [{}]))):
            return self._replayed(self.inner, chats, unmasked, failures)
        rows = to_chats(chats)
        tagged = any(row is not None and self.masker.voice.has_generation_tag(row.tools) for row in rows)
        rendered = self.inner(chats, replace(request, spans=tagged), failures)
        masks = self._masks(rows, rendered, chats, unmasked, failures)
        return Rendered(pa.array([mask and mask.text for mask in masks], pa.string()), _column(masks))

    def _replayed(
        self, inner: TracedRenderer, chats: ConversationBatch, request: RenderRequest, failures: Failures
    ) -> Rendered:
        """The texts, with the spans that programs tell, and by marks those of the rows that teach and of all others."""
        found = inner.replay(chats, request, failures)
        kinds = self._placements.kinds(found, chats.messages, flags=self.masker.options.flags)
        refused: list[RenderError] = []
        taught = self._some(kinds.sample_rows(), chats, found.rendered, request, refused)
        for row, mask in taught.items():
            kinds.record(row, mask.spans if mask is not None and mask.method == "marks" else None)
        known, spans = kinds.spans(taught.keys())
        self._count("marks", len(known))
        left = sorted({*range(len(chats))} - {*known.tolist()} - taught.keys())
        masks = taught | self._some(left, chats, found.rendered, request, refused)
        _settle(refused, failures)
        return _together(found.rendered, known, spans, masks)

    def _some(
        self,
        rows: Sequence[int],
        chats: ConversationBatch,
        rendered: Rendered,
        request: RenderRequest,
        failures: list[RenderError],
    ) -> dict[int, Mask | None]:
        """The masks of some rows of a rendered column, by row; `failures` name the row of the column."""
        if not rows:
            return {}
        places, before = integers(np.array(rows, np.int64)), len(failures)
        some = chats.take(places)
        masks = self._masks(to_chats(some), Rendered(rendered.text.take(places)), some, request, failures)
        for failure in failures[before:]:
            failure.at = replace(failure.at, row=rows[failure.at.row or 0])
        return dict(zip(rows, masks, strict=True))

    def _masks(
        self,
        rows: Sequence[Chat | None],
        rendered: Rendered,
        chats: ConversationBatch,
        request: RenderRequest,
        failures: Failures,
    ) -> list[Mask | None]:
        """The mask of each row of a rendered column, by tags and marks; None where there is no text."""
        self.marked += len(rows)
        texts = rendered.text.to_pylist()
        blocks = self._blocks(rows, rendered.spans)
        firsts = self._marked(rows, texts, blocks, chats, request)
        return [
            self._mask(row, rows[row], texts[row], blocks[row], firsts.get(row), failures) for row in range(len(rows))
        ]

    def _tags_suffice(self, messages: pa.ListArray) -> bool:
        """Whether the template's own tags give every mask, so that no row need be looked at."""
        options = self.masker.options
        if not options.plain or options.last_turn:
            return False
        names = {field.name for field in messages.type.value_type}
        flagged = options.flags and not names.isdisjoint(FLAGS)
        return not flagged and all(map(self.masker.voice.has_generation_tag, (None, [{}])))

    def _count(self, method: str, rows: int) -> None:
        self.methods[method] = self.methods.get(method, 0) + rows

    def _blocks(self, rows: Sequence[Chat | None], spans: pa.ListArray | None) -> list[list[Span] | None]:
        """The generation blocks of each row, None where its template has no such tag."""
        if spans is None:
            return [None] * len(rows)
        has = self.masker.voice.has_generation_tag
        return [
            [(start, end) for start, end in found or ()] if row is not None and has(row.tools) else None
            for row, found in zip(rows, spans.to_pylist(), strict=True)
        ]

    def _marked(
        self,
        rows: Sequence[Chat | None],
        texts: Sequence[str | None],
        blocks: Sequence[list[Span] | None],
        chats: ConversationBatch,
        request: RenderRequest,
    ) -> Mapping[int, tuple[Marked, str]]:
        """The rows that need marks, as the first plan marks them, with their rendered texts."""
        marked: dict[int, Marked] = {}
        for place, (row, text, found) in enumerate(zip(rows, texts, blocks, strict=True)):
            if row is not None and text is not None and self._needs_marks(row, found):
                first = self.masker.first_plan(row)
                marked |= {place: first} if first else {}
        if not marked:
            return {}
        column = encode_conversations([item.chat.messages for item in marked.values()])
        same = replace(chats.take(pa.array(list(marked), pa.int64())), messages=column)
        said = self.inner(same, request, []).text.to_pylist()
        pairs = zip(marked.items(), said, strict=True)
        return {place: (item, text) for (place, item), text in pairs if text is not None}

    def _needs_marks(self, row: Chat, blocks: Sequence[Span] | None) -> bool:
        try:
            wanted = wanted_turns(row.messages, self.masker.options)
        except RenderError:  # a flag that is none: raised where the mask is made, with the row
            return False
        return bool(wanted) and (blocks is None or not self.masker.is_plain(row, blocks, wanted))

    def _mask(
        self,
        place: int,
        row: Chat | None,
        text: str | None,
        blocks: Sequence[Span] | None,
        first: tuple[Marked, str] | None,
        failures: Failures,
    ) -> Mask | None:
        if row is None or text is None:
            return None
        try:
            mask = self.masker.complete(row, text, blocks, first)
        except RenderError as error:
            error.at = Location(row=place, message=error.at.message)
            if failures is None:
                raise
            failures.append(error)
            return None
        self._count(mask.method, 1)
        return mask


def _column(masks: Sequence[Mask | None]) -> pa.ListArray:
    return pa.array([None if mask is None else [list(span) for span in mask.spans] for mask in masks], SPANS)


def _settle(refused: list[RenderError], failures: Failures) -> None:
    """Hand over the refused rows in order, or raise the first of them where nobody takes them."""
    refused.sort(key=lambda error: error.at.row or 0)
    if refused and failures is None:
        raise refused[0]
    if failures is not None:
        failures += refused


def _together(rendered: Rendered, known: Numbers, spans: pa.ListArray, masks: Mapping[int, Mask | None]) -> Rendered:
    """The rendered column with the spans of the `known` rows and of the masks; null where there is no mask."""
    there = np.ones(len(rendered.text), np.bool_)
    there[[row for row, mask in masks.items() if mask is None]] = False
    text = rendered.text if there.all() else pc.if_else(pa.array(there), rendered.text, None)
    order = np.argsort(np.concatenate([known, np.array([*masks], np.int64)]))
    column = pa.concat_arrays([spans, _column([*masks.values()])]).take(integers(order))
    return Rendered(text, column, rendered.whole)
