"""What is rendered, what is request for and what comes back: the contract between views and renderers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from msgspec import Struct

from .errors import RenderError


class Rendered(Struct, frozen=True):
    """The text of each conversation, null where there is none, and its spans where they were request for.

    Spans are lists of `[start, end)` in code points of the text.
    """

    text: pa.StringArray
    spans: pa.ListArray | None = None
    whole: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    """Which rows are known to print every text of their conversation; None where nothing is known."""


class ConversationBatch(Struct, frozen=True):
    """Conversations to render: a messages column, and JSON columns of its length with what else a template sees."""

    messages: pa.ListArray
    tools: pa.Array | None = None
    documents: pa.Array | None = None
    template_kwargs: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def others(self) -> tuple[pa.Array | None, pa.Array | None, pa.Array | None]:
        """All but the messages."""
        return self.tools, self.documents, self.template_kwargs

    def take(self, rows: pa.Array) -> ConversationBatch:
        """Some of the rows, in that order."""
        return self._each(lambda column: column.take(rows))

    def slice(self, start: int, length: int) -> ConversationBatch:
        """At most `length` rows from `start` on."""
        return self._each(lambda column: column.slice(start, length))

    def _each(self, change: Callable[[pa.Array], pa.Array]) -> ConversationBatch:
        return ConversationBatch(
            *(None if column is None else change(column) for column in (self.messages, *self.others))
        )


class RenderRequest(Struct, frozen=True):
    """What one call of a renderer asks for."""

    generation_prompt: bool | None = None
    """Overrules the options of the run, unless None."""
    spans: bool = False
    """Whether the spans of what a model is trained on are wanted."""


TEXT_ONLY = RenderRequest()
Failures = list[RenderError] | None
"""Where the errors of rows are collected; None has the first one raised."""


class Renderer(Protocol):
    """Conversations to text: whatever renders, masks or guards is called like this."""

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        """The text of each conversation, null for null.

        A row that fails raises RenderError with its index; with `failures` the error is appended there and the text is
        null.
        """
        ...
