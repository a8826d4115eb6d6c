"""The contract between views and renderers: conversations to render, a request, and rendered text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from msgspec import Struct

from .errors import ChatfmtError, RenderError
from .escaped_texts import text_offsets
from .json_columns import booleans, integers
from .turn_columns import same_turns

MOST_TEXT = 128 << 20
"""Bytes of text that a renderer returns at once: a template may expand a little text greatly."""


class BatchTooLarge(ChatfmtError):
    """The texts of several conversations are too large to be rendered at once; those of half as many may not be."""


def check_text_size(size: float, rows: int) -> None:
    """Raise BatchTooLarge if the texts of several rows have more than MOST_TEXT bytes."""
    if size > MOST_TEXT and rows > 1:
        raise BatchTooLarge(
            f"{rows:,} rows become more than {MOST_TEXT >> 20} MB of text", hint="render fewer rows at once"
        )


NO_PATH = -1
"""The path of a row of which it is not known how it went through the template."""


class Rendered(Struct, frozen=True):
    """The text of each conversation, null for null, with its spans if they were requested.

    Spans are lists of `[start, end)` in code points of the text.
    """

    text: pa.StringArray
    spans: pa.ListArray | None = None
    all_printed: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    """The rows known to print every text of their conversation; None if nothing is known."""
    groups: np.ndarray[Any, np.dtype[np.int64]] | None = None
    """Rows of one number differ only in their texts, and print the same of them whole; no others have -1, or None."""
    paths: np.ndarray[Any, np.dtype[np.int64]] | None = None
    """Rows of one number went the same way through the template: one below 0 does not tell what of a text is printed;
    NO_PATH where it is not known."""

    def take(self, rows: pa.Array) -> Rendered:
        """Return these rows, in this order; all rows with a text without copying these."""
        is_filled = rows.equals(integers(np.flatnonzero(self.text.is_valid())))
        text = _filled(self.text) if is_filled else self.text.take(rows)
        return Rendered(text, None if self.spans is None else self.spans.take(rows))


def _filled(texts: pa.StringArray) -> pa.StringArray:
    """Return the texts of a column that are there, in its memory if nothing is between them."""
    offsets, valid = text_offsets(texts), texts.is_valid().to_numpy(zero_copy_only=False)
    starts, ends = offsets[:-1][valid], offsets[1:][valid]
    if not len(starts) or (starts[1:] != ends[:-1]).any():
        return texts.drop_null()
    all_valid = booleans(np.ones(len(starts), np.bool_)).buffers()[1]  # as `take` returns: it counts in `arrow_bytes`
    bounds = pa.py_buffer(np.append(starts[:1], ends))
    return pa.Array.from_buffers(pa.string(), len(starts), [all_valid, bounds, texts.buffers()[2]])


class ConversationBatch(Struct, frozen=True):
    """Conversations to render: a messages column, and JSON columns of the same length for what else a template sees."""

    messages: pa.ListArray
    tools: pa.Array | None = None
    documents: pa.Array | None = None
    template_kwargs: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def others(self) -> tuple[pa.Array | None, pa.Array | None, pa.Array | None]:
        """The columns beside the messages."""
        return self.tools, self.documents, self.template_kwargs

    def equals(self, other: ConversationBatch) -> bool:
        """Return whether both hold the same conversations; a field that no turn has may be there or not."""
        pairs = zip(self.others, other.others, strict=True)
        others = all(a is b if a is None or b is None else a.type == b.type and a.equals(b) for a, b in pairs)
        return others and same_turns(self.messages, other.messages)

    def take(self, rows: pa.Array) -> ConversationBatch:
        """Return these rows, in this order."""
        return self._each(lambda column: column.take(rows))

    def slice(self, start: int, length: int) -> ConversationBatch:
        """Return at most `length` rows from `start` on."""
        return self._each(lambda column: column.slice(start, length))

    def _each(self, change: Callable[[pa.Array], pa.Array]) -> ConversationBatch:
        return ConversationBatch(
            *(None if column is None else change(column) for column in (self.messages, *self.others))
        )


class RenderRequest(Struct, frozen=True):
    """The settings of one call of a renderer, beyond the options of the run."""

    generation_prompt: bool | None = None
    """Overrides the options of the run, unless None."""
    spans: bool = False
    """Whether to return the spans of the text that a model is trained on."""
    is_prompt: bool = False
    """Whether a completion follows the text, so that the end of the text stays open; see `render.ending`."""


TEXT_ONLY = RenderRequest()
Failures = list[RenderError] | None
"""A list that collects the errors of rows, in any order (see `RowError.more_rows`); with None, the first is raised."""


class Renderer(Protocol):
    """Render conversations to text. Engines, masks and guards are all called like this."""

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        """Return the text of each conversation, null for null.

        A row that fails raises RenderError with its index; with `failures`, the error is appended there and the text
        is null.
        """
        ...
