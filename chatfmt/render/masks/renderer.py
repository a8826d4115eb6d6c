"""A renderer whose spans are the trained text of any template, with any engine.

Tags say what is trained: the template's own, or those of the same template with tags added to it. Where they are not
all that is asked for, the spans of replayed rows are computed from their programs (see `replayed_spans`). All other
rows are rendered again with markers (see `masker`): as a column with the first marker plan, then one by one where that
plan fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from ...errors import RenderError
from ...json_columns import encode_conversations, integers
from ...rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, Renderer, RenderRequest
from ...schema import TRAIN_KEYS
from ...turn_columns import lengths_of
from ..options import SPANS
from ..single import Chat, TemplateRenderer
from ..trace.batch import lists_of
from ..trace.kernels import Int64Array
from ..trace.renderer import TracedRenderer
from ..types import Span
from .markers import MarkedChat
from .masker import WHOLE_TURNS, MaskedText, Masker, MaskOptions, to_chats, trained_turns
from .replayed_spans import SpanCache
from .supplied_reasoning import with_supplied_reasoning


class MaskedRenderer:
    """Renders as `inner` does, but spans are those of `Masker`, whatever tags the template has.

    `single` renders one conversation with the template of `inner`, `tagged` with tags in that template, which has none
    itself. Spans that touch are one, unless they are `weighted`.
    """

    def __init__(
        self,
        inner: Renderer,
        single: TemplateRenderer,
        mask: MaskOptions = WHOLE_TURNS,
        tagged: Renderer | None = None,
        *,
        weighted: bool = False,
    ) -> None:
        self.inner, self.tagged, self._weighted = inner, tagged, weighted
        self.masker = Masker(single, mask)
        self.methods: dict[str, int] = {}
        """The number of rows by method (see `masker`)."""
        self.masked_singly = 0
        """The number of rows whose spans were not computed from programs."""
        self._cache = SpanCache()

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        if not request.spans:
            return self.inner(chats, request, failures)
        rendered = self._masked(chats, request, failures)
        assert rendered.spans is not None
        if not self._weighted:  # else each span has a weight of its own
            rendered = replace(rendered, spans=joined_spans(rendered.spans))
        if self.masker.options.reasoning != "all":
            return rendered
        return replace(rendered, spans=with_supplied_reasoning(rendered.text, rendered.spans))

    def _masked(self, chats: ConversationBatch, request: RenderRequest, failures: Failures) -> Rendered:
        if self._tags_suffice(chats.messages):
            rendered = self.inner(chats, request, failures)
            self._count("generation", len(rendered.text) - rendered.text.null_count)
            return rendered
        if self.tagged is not None and self._is_every_turn(chats.messages):
            return self._render_tagged(self.tagged, chats, request, failures)
        has_tag = self.masker.renderer.has_generation_tag
        with_tags = replace(request, spans=self.tagged is None and any(map(has_tag, (None, [{}]))))
        if isinstance(self.inner, TracedRenderer):
            return self._render_replayed(self.inner, chats, with_tags, failures)
        rendered = self.inner(chats, with_tags, failures)
        masked = self._mask_rows(to_chats(chats), rendered, chats, replace(request, spans=False), failures)
        return Rendered(pa.array([row and row.text for row in masked], pa.string()), _to_column(masked))

    def _render_tagged(
        self, tagged: Renderer, chats: ConversationBatch, request: RenderRequest, failures: Failures
    ) -> Rendered:
        """Render with spans of the template with tags; rows that it refuses or renders otherwise are masked singly."""
        text_only = replace(request, spans=False)
        rendered = self.inner(chats, text_only, failures)
        marked = tagged(chats, request, [])
        assert marked.spans is not None
        unlike = pc.fill_null(pc.not_equal(rendered.text, marked.text), True)
        singly = np.flatnonzero(pc.and_(unlike, rendered.text.is_valid()).to_numpy(zero_copy_only=False)).tolist()
        self._count("tags", len(rendered.text) - rendered.text.null_count - len(singly))
        refused: list[RenderError] = []
        masked = self._mask_some(singly, chats, rendered, text_only, refused)
        _report(refused, failures)
        known = np.setdiff1d(np.arange(len(chats)), singly)
        return _merge(rendered, known, marked.spans.take(integers(known)), masked)

    def _render_replayed(
        self, inner: TracedRenderer, chats: ConversationBatch, request: RenderRequest, failures: Failures
    ) -> Rendered:
        """Render with spans from programs; sample rows and rows without a program are masked singly."""
        replayed, request = inner.replay(chats, request, failures), replace(request, spans=False)
        tagged = self.tagged is not None or replayed.rendered.spans is not None
        groups = self._cache.group_rows(replayed, chats.messages, flags=self.masker.options.flags)
        refused: list[RenderError] = []
        found = self._mask_some(groups.sample_rows(), chats, replayed.rendered, request, [])
        for row, masked in found.items():
            groups.record(row, masked.spans if masked is not None and masked.method != "prefix" else None)
        samples = {row: masked for row, masked in found.items() if masked is not None}
        known, spans = groups.spans(samples.keys())
        self._count("generation" if tagged else "markers", len(known))
        others = sorted({*range(len(chats))} - {*known.tolist()} - samples.keys())
        all_masked = samples | self._mask_some(others, chats, replayed.rendered, request, refused)
        _report(refused, failures)
        return _merge(replayed.rendered, known, spans, all_masked)

    def _mask_some(
        self,
        rows: Sequence[int],
        chats: ConversationBatch,
        rendered: Rendered,
        request: RenderRequest,
        failures: list[RenderError],
    ) -> dict[int, MaskedText | None]:
        """Mask some rows of a rendered column; return them by row. `failures` have the row of the column."""
        if not rows:
            return {}
        indices, before = integers(np.array(rows, np.int64)), len(failures)
        some = chats.take(indices)
        masked = self._mask_rows(to_chats(some), rendered.take(indices), some, request, failures)
        for failure in failures[before:]:
            failure.locate(rows=rows)
        return dict(zip(rows, masked, strict=True))

    def _mask_rows(
        self,
        rows: Sequence[Chat | None],
        rendered: Rendered,
        chats: ConversationBatch,
        request: RenderRequest,
        failures: Failures,
    ) -> list[MaskedText | None]:
        """Mask each row of a rendered column, by tags or markers; None for rows without text."""
        self.masked_singly += len(rows)
        texts = rendered.text.to_pylist()
        blocks = self._blocks(rows, rendered, chats, replace(request, spans=True))
        marked = self._render_marked(rows, texts, blocks, chats, request)
        refused: list[RenderError] = []
        masked = [
            self._mask_row(row, rows[row], texts[row], blocks[row], marked.get(row), refused)
            for row in range(len(rows))
        ]
        for found in filter(None, masked):
            self._count(found.method, 1)
        _report(refused, failures)
        return masked

    def _tags_suffice(self, messages: pa.ListArray) -> bool:
        """Return whether the template's own tags give all spans, without a look at the rows."""
        return self._is_every_turn(messages) and all(map(self.masker.renderer.has_generation_tag, (None, [{}])))

    def _is_every_turn(self, messages: pa.ListArray) -> bool:
        """Return whether all turns are trained as a whole, whatever their messages say."""
        flagged = not {field.name for field in messages.type.value_type}.isdisjoint(TRAIN_KEYS)
        return self.masker.options.is_every_turn and not (self.masker.options.flags and flagged)

    def _count(self, method: str, rows: int) -> None:
        if rows:
            self.methods[method] = self.methods.get(method, 0) + rows

    def _blocks(
        self, rows: Sequence[Chat | None], rendered: Rendered, chats: ConversationBatch, request: RenderRequest
    ) -> list[list[Span] | None]:
        """Return the generation blocks of each row; None without tags, or with tags that print another text."""
        marked, has_tag = rendered, self.masker.renderer.has_generation_tag
        if self.tagged is not None:
            marked = self.tagged(chats, request, [])
        if marked.spans is None:
            return [None] * len(rows)
        found = zip(rows, rendered.text.to_pylist(), marked.text.to_pylist(), marked.spans.to_pylist(), strict=True)
        return [
            None
            if row is None
            or spans is None
            or text is None
            or text != printed
            or not (self.tagged or has_tag(row.tools))
            else list(map(tuple, spans))
            for row, text, printed, spans in found
        ]

    def _render_marked(
        self,
        rows: Sequence[Chat | None],
        texts: Sequence[str | None],
        blocks: Sequence[list[Span] | None],
        chats: ConversationBatch,
        request: RenderRequest,
    ) -> Mapping[int, tuple[MarkedChat, str]]:
        """Render the rows that need markers, with the first plan; return them by row with their texts."""
        marked: dict[int, MarkedChat] = {}
        for index, (row, text, found) in enumerate(zip(rows, texts, blocks, strict=True)):
            if row is not None and text is not None and self._needs_markers(row, found):
                first = self.masker.first_plan(row)
                marked |= {index: first} if first else {}
        if not marked:
            return {}
        messages = encode_conversations([item.chat.messages for item in marked.values()])
        column = replace(chats.take(pa.array(list(marked), pa.int64())), messages=messages)
        rendered = self.inner(column, request, []).text.to_pylist()
        pairs = zip(marked.items(), rendered, strict=True)
        return {index: (item, text) for (index, item), text in pairs if text is not None}

    def _needs_markers(self, row: Chat, blocks: Sequence[Span] | None) -> bool:
        try:
            wanted = trained_turns(row.messages, self.masker.options)
        except RenderError:  # an invalid flag; raised again, with its row, when the row is masked
            return False
        return bool(wanted) and (blocks is None or not self.masker.blocks_suffice(row, wanted))

    def _mask_row(
        self,
        index: int,
        row: Chat | None,
        text: str | None,
        blocks: Sequence[Span] | None,
        marked: tuple[MarkedChat, str] | None,
        refused: list[RenderError],
    ) -> MaskedText | None:
        if row is None or text is None:
            return None
        try:
            return self.masker.mask_rendered(row, text, blocks, marked)
        except RenderError as error:
            error.locate(row=index)
            refused.append(error)
            return None


def joined_spans(spans: pa.ListArray) -> pa.ListArray:
    """Return the spans of each row without empty ones, and those that touch as one."""
    lengths = lengths_of(spans)
    starts, ends = spans.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, 2).astype(np.int64).T
    owner = np.repeat(np.arange(len(spans)), lengths)
    filled = starts < ends
    owner, starts, ends = owner[filled], starts[filled], ends[filled]
    fresh = np.ones(len(owner), np.bool_)
    fresh[1:] = (owner[1:] != owner[:-1]) | (starts[1:] > ends[:-1])
    last = np.append(fresh[1:], True) if len(fresh) else fresh
    joined = lists_of(owner[fresh], starts[fresh], ends[last], len(spans))
    absent = spans.is_null().to_numpy(zero_copy_only=False)
    return joined if not spans.null_count else joined.take(integers(np.arange(len(spans)), absent))


def _to_column(masked: Sequence[MaskedText | None]) -> pa.ListArray:
    return pa.array([None if row is None else [list(span) for span in row.spans] for row in masked], SPANS)


def _report(refused: list[RenderError], failures: Failures) -> None:
    """Append the errors to `failures` in order of their rows, or raise the first if `failures` is None."""
    refused.sort(key=lambda error: error.at.row or 0)
    if refused and failures is None:
        raise refused[0]
    if failures is not None:
        failures += refused


def _merge(
    rendered: Rendered, known: Int64Array, spans: pa.ListArray, masked: Mapping[int, MaskedText | None]
) -> Rendered:
    """Return the rendered column with `spans` for the `known` rows and those of `masked`; null where masking failed."""
    valid = np.ones(len(rendered.text), np.bool_)
    valid[[row for row, found in masked.items() if found is None]] = False
    text = rendered.text if valid.all() else pc.if_else(pa.array(valid), rendered.text, None)
    order = np.argsort(np.concatenate([known, np.array([*masked], np.int64)]))
    column = pa.concat_arrays([spans, _to_column([*masked.values()])]).take(integers(order))
    return replace(rendered, text=text, spans=column)
