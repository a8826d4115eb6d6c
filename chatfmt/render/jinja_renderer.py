"""The Jinja engine, the reference for rendering conversations.

A call renders a column of conversations, row by row:

1. decode the row from Arrow into messages, tools, documents and template variables (`json_columns`);
2. normalise the messages as transformers does (`jinja.inputs`);
3. select and compile the template, check the other inputs, and run the template in the sandbox (`jinja.row`,
   `jinja.environment`);
4. refuse a text that cannot be written or would differ from run to run, and strip `bos_token` on request
   (`jinja.row`);
5. turn whatever was raised into a RenderError with the row (`jinja.errors`).

The other renderers are measured against this one. The traced engine must equal it in every text, span and error; the
sandbox worker runs the same `jinja.row` in another process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

import pyarrow as pa

from .. import json_columns, schema
from ..rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, RenderRequest, check_text_size
from ..schema import REASONING_FIELDS, Conversation
from .jinja.errors import render_error
from .jinja.inputs import alias_reasoning, context, drop_nulls, normalise_messages
from .jinja.row import RenderedRow, RowRenderer
from .options import SPANS, RenderOptions
from .template.chat_template import ChatTemplate


class JinjaRenderer:
    """Render each conversation of a column with Jinja; see `rendering.Renderer` for the call."""

    def __init__(self, template: ChatTemplate, options: RenderOptions) -> None:
        self.template, self.options = template, options
        self._render_row = RowRenderer(
            template.text,
            template.named,
            context({**template.special_tokens, **options.variables}, options.date),
            options.continue_final,
            options.bos == "strip",
        )

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        prompt = self.options.resolved(request).generation_prompt
        normalise = normaliser(chats.messages.type)

        def render(messages: Conversation, *others: Any) -> RenderedRow:
            return self._render_row(normalise(messages), *others, generation_prompt=prompt, spans=request.spans)

        rendered: list[RenderedRow | tuple[None, None]] = []
        size = 0
        for row, values in enumerate(_rows(chats)):
            rendered.append(self._attempt(render, row, values, failures))
            size += len(rendered[-1][0] or "")
            check_text_size(size, len(chats))
        spans = pa.array([spans for _, spans in rendered], SPANS) if request.spans else None
        return Rendered(pa.array([text for text, _ in rendered], json_columns.TEXT), spans)

    def _attempt(
        self, render: Callable[..., RenderedRow], row: int, values: tuple[Any, ...], failures: Failures
    ) -> RenderedRow | tuple[None, None]:
        """Return the text and spans of one row, null for a null conversation; raise its error or collect it."""
        if values[0] is None:
            return None, None
        try:
            return render(*values)
        except Exception as error:  # a template may raise anything
            failure = render_error(error, self.template.name, row)
            if failures is None:
                raise failure from error
            failure.__cause__ = error.with_traceback(None)  # whose frames hold the conversation, and all failures
            failures.append(failure)
            return None, None


def _rows(chats: ConversationBatch) -> Iterable[tuple[Any, ...]]:
    """Yield the messages, tools, documents and template variables of each row."""
    return zip(json_columns.decode_conversations(chats.messages), *map(_values, chats.others), strict=False)


def _values(column: pa.Array | None) -> Iterable[Any]:
    """Return the values of a JSON column, None for null or without a column; parse repeated text once."""
    if column is None:
        return repeat(None)
    if column.type != json_columns.JSON:
        return [None if value is json_columns.ABSENT else value for value in json_columns.decode_values(column)]
    parse = functools.lru_cache(maxsize=64)(json_columns.loads)
    return (None if text is None else parse(text) for text in column.to_pylist())


def normaliser(column: pa.DataType) -> Callable[[Conversation], Conversation]:
    """Return `normalise_messages` without the steps that a column of this type does not need."""
    fields = list(column.value_type)
    if any(field.type not in (json_columns.TEXT, json_columns.JSON) for field in fields):
        return normalise_messages  # types beyond JSON: times, decimals, binary
    names = {field.name for field in fields}
    if names.isdisjoint((schema.KEYS, *REASONING_FIELDS)) and all(field.type == json_columns.TEXT for field in fields):
        return _refuse_empty
    return _normalise_json


def _refuse_empty(messages: Conversation) -> Conversation:
    return messages or normalise_messages(messages)


def _normalise_json(messages: Conversation) -> Conversation:
    return [alias_reasoning(drop_nulls(message)) for message in _refuse_empty(messages)]
