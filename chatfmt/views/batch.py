"""The input of a view: a batch of conversations, and how to render it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ..errors import RenderError, RowError, UsageError, map_rows, raise_first
from ..json_columns import decode_conversations, encode_conversations, integers, json_values
from ..rendering import ConversationBatch, Rendered, Renderer, RenderRequest
from ..turn_columns import IntArray, concat

Fields = dict[str, pa.Array]
"""The columns that a view makes, by name."""


class AnswerFinder(Protocol):
    """Find where message `first[row]` begins in the text of each conversation, in code points."""

    def __call__(self, chats: ConversationBatch, first: Sequence[int]) -> list[int]: ...


class RenderMemory:
    """The rendered rows of a batch: once some of its rows are rejected, the others are not rendered again."""

    def __init__(self) -> None:
        self._calls: list[tuple[RenderRequest, IntArray, ConversationBatch, Rendered]] = []

    def keep(self, request: RenderRequest, rows: IntArray, chats: ConversationBatch, rendered: Rendered) -> None:
        """Remember the result of a call for rows of the source, by their numbers; a row that failed has no text."""
        self._calls.append((request, rows, chats, rendered))

    def recall(self, request: RenderRequest, rows: IntArray, chats: ConversationBatch) -> Rendered | None:
        """Return what was rendered of the same conversations; None unless all of them are known."""
        for known_request, known_rows, known_chats, rendered in self._calls:
            is_ascending = (np.diff(known_rows) > 0).all()
            if request != known_request or not is_ascending or not np.isin(rows, known_rows).all():
                continue
            chosen = integers(np.searchsorted(known_rows, rows))
            found = rendered.take(chosen)
            if found.text.null_count == chats.messages.null_count and known_chats.take(chosen).equals(chats):
                return found
        return None


class RenderableBatch(Struct, frozen=True):
    """A CONVERSATIONS batch and how to render it; `renderer` is None without a template."""

    record_batch: pa.RecordBatch
    renderer: Renderer | None
    mask: bool = False
    find_answer: AnswerFinder | None = None
    """Finds where an answer begins in a rendered conversation that does not start with its rendered prompt."""
    memory: RenderMemory | None = None
    """What was rendered before, if rows that the template refuses are left out: then the error has all of them."""

    def __len__(self) -> int:
        return len(self.record_batch)

    def column(self, name: str) -> pa.Array | None:
        """The column of that name; None if the data has no such column."""
        index = self.record_batch.schema.get_field_index(name)
        return None if index < 0 else self.record_batch.column(index)

    def required(self, name: str) -> pa.Array:
        """The column of that name; raises UsageError if the data has no such column."""
        column = self.column(name)
        if column is None:
            raise UsageError(f"the data has no `{name}`", hint=f"--map {name}=COLUMN")
        return column

    def take(self, rows: pa.Array) -> RenderableBatch:
        """Some of the rows, in that order."""
        return replace(self, record_batch=self.record_batch.take(rows))

    def render(
        self, messages: pa.ListArray, *, generation_prompt: bool | None = None, spans: bool = False,
        is_prompt: bool = False,
    ) -> Rendered:  # fmt: skip
        """Render `messages` with the rows' tools, documents and variables.

        Raises UsageError without a template, the RenderError of the first bad row, with a `memory` those of all.
        """
        if self.renderer is None:
            raise UsageError("this view is text and needs a template", hint="-t chatml")
        request, chats = RenderRequest(generation_prompt, spans, is_prompt), self.with_messages(messages)
        if self.memory is None:
            return self.renderer(chats, request)
        rows, failures = self.record_batch.column("row").to_numpy(), list[RenderError]()
        if (known := self.memory.recall(request, rows, chats)) is not None:
            return known
        rendered = self.renderer(chats, request, failures)
        self.memory.keep(request, rows, chats, rendered)
        raise_first(failures)
        return rendered

    def with_messages(self, messages: pa.ListArray) -> ConversationBatch:
        """The input of a template: `messages` with the rows' tools, documents and variables."""
        return ConversationBatch(
            messages, self.column("tools"), self.column("documents"), self.column("template_kwargs")
        )


def whole_conversations(batch: RenderableBatch) -> pa.ListArray:
    """The conversation of each row: `messages`, else the prompt and its completion or chosen answer."""
    for name in ("messages", "completion", "chosen", "prompt"):
        column = batch.column(name)
        if column is not None:
            before = batch.column("prompt") if name in ("completion", "chosen") else None
            return column if before is None else join(before, column)
    return batch.required("messages")


def join(first: pa.ListArray, second: pa.ListArray) -> pa.ListArray:
    """The turns of `first`, then those of `second`, row by row; null where either is null."""
    if first.type == second.type:
        return concat(first, second, null="either")
    pairs = zip(decode_conversations(first), decode_conversations(second), strict=True)
    return encode_conversations([None if a is None or b is None else [*a, *b] for a, b in pairs])


def template_inputs(batch: RenderableBatch) -> Fields:
    """The columns `tools`, `documents` and `chat_template_kwargs`, which a trainer needs to render messages."""
    names = {"tools": "tools", "documents": "documents", "template_kwargs": "chat_template_kwargs"}
    found = {shown: batch.column(name) for name, shown in names.items()}
    return {shown: column for shown, column in found.items() if column is not None}


OTHERS = "--to messages holds it, --on-error skip drops such rows"


def refuse_inputs(batch: RenderableBatch, form: str, *held: str, tools: str = "") -> None:
    """Raise RowError `view.form` for rows with tools, documents or variables that a form has no place for.

    `held` are the columns that it has a place for, and `tools` is a hint for rows with tools.
    """

    def check(name: str, value: object) -> None:
        if value:
            hint = (name == "tools" and tools) or f"{OTHERS}, --drop {name} leaves it behind"
            raise RowError(f"the form {form} has no place for `{name}`", code="view.form", hint=hint)

    for name, column in template_inputs(batch).items():
        map_rows(partial(check, name), [] if name in held else json_values(column))
