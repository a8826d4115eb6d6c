"""The reference engine: one sandboxed Jinja call per conversation. It alone defines texts and errors.

Start here to see what rendering means: `jinja/row.py` has the steps for one row, `trace/` an engine that must equal it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

import pyarrow as pa

from .. import json_columns, schema
from ..errors import UsageError
from ..rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, RenderRequest
from .jinja.environment import alias_reasoning, context, drop_nulls, normalise_messages
from .jinja.errors import render_error
from .jinja.row import RowRenderer
from .options import SPANS, RenderOptions
from .template.chat_template import ChatTemplate
from .types import Span

Message = dict[str, Any]
Outcome = tuple[str | None, list[Span] | None]


class JinjaRenderer:
    """Render each conversation of a column on its own; see `rendering.Renderer` for the call."""

    engine = "jinja"

    def __init__(self, template: ChatTemplate, options: RenderOptions, reason: str = "") -> None:
        self.template, self.options, self.reason = template, options, reason
        self._render = RowRenderer(
            template.text,
            template.named,
            context({**template.special_tokens, **options.variables}, options.date),
            options.continue_final,
            options.bos == "strip",
        )

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        if request.spans and self.options.continue_final:
            raise UsageError("spans of trained text and `--continue-final` do not go together", hint="leave one out")
        prompt = self.options.resolved(request).generation_prompt
        normalise = normaliser(chats.messages.type)

        def outcome(row: int, messages: list[Message] | None, *others: Any) -> Outcome:
            if messages is None:
                return None, None
            try:
                return self._render(normalise(messages), *others, generation_prompt=prompt, spans=request.spans)
            except Exception as error:  # an untrusted program may raise anything
                failure = render_error(error, self.template.name, row, fitted=self.options.fitted)
                if failures is None:
                    raise failure from error
                failure.__cause__ = error
                failures.append(failure)
                return None, None

        rows = zip(json_columns.decode_conversations(chats.messages), *map(_values, chats.others), strict=False)
        outcomes = [outcome(row, *values) for row, values in enumerate(rows)]
        spans = pa.array([found for _, found in outcomes], SPANS) if request.spans else None
        return Rendered(pa.array([text for text, _ in outcomes], json_columns.TEXT), spans)


def normaliser(column: pa.DataType) -> Callable[[list[Message]], list[Message]]:
    """Return `normalise_messages` without the steps that a column of this type makes unnecessary."""
    fields = list(column.value_type)
    if any(field.type not in (json_columns.TEXT, json_columns.JSON) for field in fields):
        return normalise_messages  # types beyond JSON: times, decimals, binary
    names = {field.name for field in fields}
    if names.isdisjoint((schema.KEYS, *schema.REASONING_FIELDS)) and all(
        field.type == json_columns.TEXT for field in fields
    ):
        return _not_empty
    return _normalise_json


def _not_empty(messages: list[Message]) -> list[Message]:
    return messages or normalise_messages(messages)


def _normalise_json(messages: list[Message]) -> list[Message]:
    return [alias_reasoning(drop_nulls(message)) for message in _not_empty(messages)]


def _values(column: pa.Array | None) -> Iterable[Any]:
    """Return the values of a JSON column, None for null or a missing column; repeated texts are parsed once."""
    if column is None:
        return repeat(None)
    if column.type != json_columns.JSON:
        return [None if value is json_columns._ABSENT else value for value in json_columns.decode_values(column)]
    parse = functools.lru_cache(maxsize=64)(json_columns.loads)
    return (None if text is None else parse(text) for text in column.to_pylist())
