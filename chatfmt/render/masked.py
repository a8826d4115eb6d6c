"""A renderer whose spans are the trained text of any template, over whatever engine renders the text.

The engine renders a column once, and once more with marks in it where the template has no generation tags (see
`masks`), so a fast engine makes fast masks. Rows that the first way of marking disturbs go the plain way, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..errors import Location, RenderError
from ..schema import encode_conversations
from .environment import Span
from .marks import Marked
from .masks import FLAGS, WHOLE_TURNS, Mask, Masker, MaskOptions, chats, wanted_turns
from .options import SPANS, Rendered, Renderer
from .voice import Chat, Voice

Extras = tuple[pa.Array | None, pa.Array | None, pa.Array | None]


class MaskedRenderer:
    """Renders as `inner` does; with `spans=True` its spans are those of `Masker`, whatever tags the template has."""

    def __init__(self, inner: Renderer, voice: Voice, mask: MaskOptions = WHOLE_TURNS) -> None:
        self.inner, self.engine, self.reason = inner, inner.engine, inner.reason
        self.masker = Masker(voice, mask)
        self.methods: dict[str, int] = {}
        """How many rows each rung of the ladder served."""

    def __call__(
        self,
        messages: pa.ListArray,
        tools: pa.Array | None = None,
        documents: pa.Array | None = None,
        template_kwargs: pa.Array | None = None,
        *,
        generation_prompt: bool | None = None,
        spans: bool = False,
        failures: list[RenderError] | None = None,
    ) -> Rendered:
        extras = (tools, documents, template_kwargs)
        if not spans:
            return self.inner(messages, *extras, generation_prompt=generation_prompt, failures=failures)
        if self._tags_suffice(messages):
            rendered = self.inner(messages, *extras, generation_prompt=generation_prompt, spans=True, failures=failures)
            self._count("generation", len(rendered.text) - rendered.text.null_count)
            return rendered
        rows = chats(messages, *extras)
        tagged = any(row is not None and self.masker.voice.has_generation_tag(row.tools) for row in rows)
        rendered = self.inner(messages, *extras, generation_prompt=generation_prompt, spans=tagged, failures=failures)
        texts = rendered.text.to_pylist()
        blocks = self._blocks(rows, rendered.spans)
        firsts = self._marked(rows, texts, blocks, extras, generation_prompt)
        masks = [
            self._mask(row, rows[row], texts[row], blocks[row], firsts.get(row), failures) for row in range(len(rows))
        ]
        found = pa.array([None if mask is None else [list(span) for span in mask.spans] for mask in masks], SPANS)
        return Rendered(pa.array([mask and mask.text for mask in masks], pa.string()), found)

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
        extras: Extras,
        generation_prompt: bool | None,
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
        places = pa.array(list(marked), pa.int64())
        taken = [None if extra is None else extra.take(places) for extra in extras]
        said = self.inner(column, *taken, generation_prompt=generation_prompt, failures=[]).text.to_pylist()
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
        failures: list[RenderError] | None,
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
