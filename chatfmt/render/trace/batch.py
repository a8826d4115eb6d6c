"""The data of one call of the traced engine, and the assembly of its result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field

from ...json_columns import booleans, integers
from ...rendering import ConversationBatch, Rendered, RenderRequest
from ...turn_columns import to_bools
from ..options import SPANS
from ..types import Span
from .kernels import Int64Array
from .program import Program
from .row_replay import ReplayedText
from .shapes import TurnTable
from .tables import Pieces


class Batch(Struct):
    """The conversations and request of one call, with what is known of each row."""

    chats: ConversationBatch
    request: RenderRequest
    turns: TurnTable
    shape: Int64Array
    program: Int64Array
    """The program of each row, -1 for none."""
    texts: dict[int, ReplayedText] = field(default_factory=dict)
    """The text and spans of rows that were replayed one by one."""
    why: dict[int, str] = field(default_factory=dict)
    """The reasons why rows could not be replayed one by one."""

    def take(self, rows: Sequence[int] | Int64Array) -> ConversationBatch:
        """Return the conversations of some rows."""
        return self.chats.take(integers(np.asarray(rows, np.int64)))


class Replayed(Struct, frozen=True):
    """The result of one call, with the programs that rendered its rows.

    `program` is the program of each row, `KNOWN` for none; `pieces` are the pieces of all rows, None if no row has a
    program.
    """

    rendered: Rendered
    program: Int64Array
    pieces: Pieces | None
    turns: TurnTable
    programs: Sequence[Program]
    """All programs by number; a new list object whenever they are renumbered."""


def spans_of(spans: Sequence[Sequence[Span]]) -> pa.ListArray:
    return pa.array([[list(span) for span in found] for found in spans], SPANS)


def lists_of(owner: Int64Array, start: Int64Array, end: Int64Array, count: int) -> pa.ListArray:
    """Return a column of spans for `count` rows; span `i` belongs to row `owner[i]`, in ascending order."""
    ends = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    pairs = np.stack([start, end], axis=1).astype(np.int32).ravel()
    bounds = pa.ListArray.from_arrays(integers(np.arange(0, len(pairs) + 1, 2, dtype=np.int32)), integers(pairs))
    return pa.ListArray.from_arrays(integers(ends.astype(np.int32)), bounds, type=SPANS)


def together(plain: Rendered | None, left: Int64Array, batch: Batch) -> Rendered:
    """Return the texts of rows rendered by Jinja (`left`) and of rows replayed one by one, in the order of the rows."""
    rows = np.array(list(batch.texts), np.int64)
    order = integers(np.argsort(np.concatenate([left, rows])))
    own = list(batch.texts.values())
    texts, spans = pa.array([text for text, _ in own], pa.string()), spans_of([found for _, found in own])
    if plain is not None:
        texts = pa.concat_arrays([plain.text, texts])
        spans = pa.concat_arrays([plain.spans, spans]) if plain.spans is not None else spans
    return Rendered(texts.take(order), spans.take(order) if batch.request.spans else None)


def with_nulls(texts: pa.StringArray, absent: npt.NDArray[np.bool_]) -> pa.StringArray:
    """Return a new column of texts with more nulls, in the same memory."""
    valid = booleans(to_bools(texts.is_valid()) & ~absent).buffers()[1]
    return pa.Array.from_buffers(pa.string(), len(texts), [valid, *texts.buffers()[1:]])


def merged(rendered: Rendered, plain: Rendered, left: Int64Array, spans: bool) -> Rendered:
    """Return the rendered column, with the nulls and spans of `plain`, which holds the rows `left`."""
    count = len(rendered.text)
    absent = np.zeros(count, np.bool_)
    absent[left[to_bools(plain.text.is_null())]] = True
    text = with_nulls(rendered.text, absent) if absent.any() else rendered.text
    if not spans:
        return Rendered(text)
    indices = np.arange(count)
    indices[left] = count + np.arange(len(left))
    return Rendered(text, pa.concat_arrays([rendered.spans, plain.spans]).take(integers(indices)))
