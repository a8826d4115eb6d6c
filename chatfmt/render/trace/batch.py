"""One call of the traced engine: its columns, what is found out about its rows, and its answer put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from ...json_columns import integers
from ...rendering import ConversationBatch, Rendered, RenderRequest
from ..options import SPANS
from ..types import Span
from .kernels import Numbers
from .program import Program
from .row_replay import Text
from .shapes import Turns
from .tables import Pieces


class Batch(Struct):
    """One call: the conversations, what is asked, and what is found out about their rows."""

    chats: ConversationBatch
    request: RenderRequest
    turns: Turns
    shape: Numbers
    program: Numbers
    """The program of each row, -1 where there is none (yet)."""
    texts: dict[int, Text] = field(default_factory=dict)
    """The text and spans of rows that were replayed one by one."""
    why: dict[int, str] = field(default_factory=dict)
    """Why rows could not be replayed one by one."""

    def take(self, rows: Sequence[int] | Numbers) -> ConversationBatch:
        """The conversations of some rows."""
        return self.chats.take(integers(np.asarray(rows, np.int64)))


class Replayed(Struct, frozen=True):
    """The answer to one call, and how its rows came to their texts.

    `program` is the program of each row, `KNOWN` where there is none; `pieces` are its pieces, row by row, None where
    no row has a program.
    """

    rendered: Rendered
    program: Numbers
    pieces: Pieces | None
    turns: Turns
    programs: Sequence[Program]
    """All programs by number; another list than before once they are numbered anew."""


def spans_of(spans: Sequence[Sequence[Span]]) -> pa.ListArray:
    return pa.array([[list(span) for span in found] for found in spans], SPANS)


def lists_of(owner: Numbers, start: Numbers, end: Numbers, count: int) -> pa.ListArray:
    """A column of spans for `count` rows; the span `i` is of row `owner[i]`, which never falls."""
    ends = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    pairs = np.stack([start, end], axis=1).astype(np.int32).ravel()
    bounds = pa.ListArray.from_arrays(pa.array(np.arange(0, len(pairs) + 1, 2, dtype=np.int32)), pa.array(pairs))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), bounds, type=SPANS)


def together(plain: Rendered | None, left: Numbers, batch: Batch) -> Rendered:
    """Plain Jinja's texts of the rows `left` and those replayed one by one, in the order of their rows."""
    rows = np.array(list(batch.texts), np.int64)
    order = integers(np.argsort(np.concatenate([left, rows])))
    own = list(batch.texts.values())
    texts, spans = pa.array([text for text, _ in own], pa.string()), spans_of([found for _, found in own])
    if plain is not None:
        texts = pa.concat_arrays([plain.text, texts])
        spans = pa.concat_arrays([plain.spans, spans]) if plain.spans is not None else spans
    return Rendered(texts.take(order), spans.take(order) if batch.request.spans else None)


def merged(rendered: Rendered, plain: Rendered, left: Numbers, spans: bool) -> Rendered:
    """The rendered column, null where plain Jinja gave no text, with plain Jinja's spans at the rows `left`."""
    count = len(rendered.text)
    absent = np.zeros(count, np.bool_)
    absent[left[plain.text.is_null().to_numpy(zero_copy_only=False)]] = True
    text = rendered.text
    if absent.any():
        _, offsets, data = text.buffers()
        text = pa.Array.from_buffers(pa.string(), count, [pa.array(~absent).buffers()[1], offsets, data])
    if not spans:
        return Rendered(text)
    places = np.arange(count)
    places[left] = count + np.arange(len(left))
    return Rendered(text, pa.concat_arrays([rendered.spans, plain.spans]).take(integers(places)))
