"""Change the end of rendered texts: `--end strip`, `eos` and `cut`, for trainers that append an EOS token of their own.

A trainer such as TRL appends its tokenizer's EOS to a text that does not end with it. Many templates print a line break
after the last stop token (`<|im_end|>⏎`), which hides it, and some print no stop token at all. LitGPT appends EOS to a
text without it, and removes it from a text with it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from ..json_columns import integers
from ..rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, Renderer, RenderRequest
from ..turn_columns import characters_of, lengths_of, offsets_of
from .masks.turn_boundaries import TurnBoundaries
from .single import TemplateRenderer

End = Literal["strip", "eos", "cut"]
BLANKS = " \t\r\n"


class Ending:
    """The end that texts of a template get: without blanks after a final stop token, with EOS, or without a stop token.

    EOS is added to texts that have no stop token; with `cut` none is left.
    """

    def __init__(self, single: TemplateRenderer, end: End) -> None:
        self.end = end
        self._eos = single.special_tokens.get("eos_token", "")
        self._stops = dict.fromkeys(filter(None, (*TurnBoundaries(single).stops, self._eos)))

    def __call__(self, texts: pa.StringArray) -> pa.StringArray:
        """Return the texts with the wanted end; null for null."""
        trimmed = pc.utf8_rtrim(texts, characters=BLANKS)
        stopped = pc.is_in(texts, value_set=pa.array([], pa.string()))
        bare = texts
        for stop in self._stops:
            found = pc.ends_with(trimmed, stop)
            if self.end == "cut":
                without = pc.utf8_slice_codeunits(trimmed, 0, -len(stop))
                bare = pc.if_else(pc.and_(found, pc.invert(stopped)), without, bare)
            stopped = pc.or_(stopped, found)
        if self.end == "cut":
            return bare
        every = pc.all(stopped, min_count=0).as_py()  # the usual case, in which choosing text by text would cost most
        if self.end == "strip":
            return trimmed if every else pc.if_else(stopped, trimmed, texts)
        return texts if every else pc.if_else(stopped, texts, pc.binary_join_element_wise(texts, self._eos, ""))


class EndedRenderer:
    """Renders as `inner` does, with another end of the texts.

    A text that is to be continued stays as it is: one with a generation prompt, or with `continue_final`. A span that
    ends where the text ended is extended over an added EOS token if `trained`.
    """

    def __init__(self, inner: Renderer, single: TemplateRenderer, end: End, *, trained: bool = True) -> None:
        self.inner, self._options, self._trained = inner, single.options, trained
        self._ending = Ending(single, end)

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        """Return the texts with the wanted end; see `Renderer`."""
        rendered = self.inner(chats, request, failures)
        options = self._options
        if options.continue_final or request.is_prompt or options.resolved(request).generation_prompt:
            return rendered
        text = self._ending(rendered.text)
        return self._lengthened(rendered, text) if self._ending.end == "eos" else _cut(rendered, text)

    def _lengthened(self, rendered: Rendered, text: pa.StringArray) -> Rendered:
        """Return longer texts; a last span that ended with its text, blanks aside, is extended over what is new."""
        if rendered.spans is None or not self._trained:
            return replace(rendered, text=text)
        trimmed = pc.utf8_rtrim(rendered.text, characters=BLANKS)
        ends, old, new = map(characters_of, (trimmed, rendered.text, text))
        count = lengths_of(rendered.spans)
        last = (offsets_of(count)[1:] - 1) * 2 + 1
        bounds = rendered.spans.flatten().flatten().to_numpy().copy()
        rows = np.flatnonzero((count > 0) & (new > old))
        rows = rows[bounds[last[rows]] >= ends[rows]]
        bounds[last[rows]] = new[rows]
        return replace(rendered, text=text, spans=_with_bounds(rendered.spans, bounds))


def _cut(rendered: Rendered, text: pa.StringArray) -> Rendered:
    """Return shorter texts, with no span beyond the end of its text."""
    if rendered.spans is None:
        return replace(rendered, text=text)
    bounds = rendered.spans.flatten().flatten().to_numpy()
    limits = np.repeat(characters_of(text), lengths_of(rendered.spans) * 2)
    return replace(rendered, text=text, spans=_with_bounds(rendered.spans, np.minimum(bounds, limits)))


def _with_bounds(spans: pa.ListArray, bounds: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.ListArray:
    """Return as many spans as before, with these starts and ends."""
    starts = np.arange(0, len(bounds) + 1, 2, dtype=np.int32)
    pairs = pa.ListArray.from_arrays(integers(starts), integers(bounds.astype(np.int32)))
    mask = spans.is_null() if spans.null_count else None
    return pa.ListArray.from_arrays(integers(offsets_of(lengths_of(spans)).astype(np.int32)), pairs, mask=mask)
