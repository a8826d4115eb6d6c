"""The plain engine: one sandboxed Jinja call a conversation. It alone defines texts and errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import pyarrow as pa

from .. import json_columns, schema
from ..errors import UsageError
from ..rendering import TEXT_ONLY, ConversationBatch, Failures, Rendered, RenderRequest
from ..schema import REASONING_FIELDS
from .jinja.determinism import address
from .jinja.environment import (
    alias_reasoning,
    check_documents,
    check_tools,
    compile_template,
    context,
    drop_nulls,
    normalise_messages,
    plain_data,
    render_continued,
    render_tracked,
    render_values,
)
from .jinja.errors import NotReproducible, render_error
from .options import SPANS, RenderOptions
from .template.chat_template import ChatTemplate
from .types import CONTEXT_NAMES, Span

Message = dict[str, Any]
Outcome = tuple[str | None, list[Span] | None]


class JinjaRenderer:
    """Renders each conversation of a column on its own; see `Renderer` for what a call takes and gives."""

    engine = "jinja"

    def __init__(self, template: ChatTemplate, options: RenderOptions, reason: str = "") -> None:
        self.template, self.options, self.reason = template, options, reason
        self._base = context({**template.special_tokens, **options.variables}, options.date)

    def __call__(
        self, chats: ConversationBatch, request: RenderRequest = TEXT_ONLY, failures: Failures = None
    ) -> Rendered:
        if request.spans and self.options.continue_final:
            raise UsageError("spans of trained text and `--continue-final` do not go together", hint="leave one out")
        request = self.options.resolved(request)
        render = functools.partial(self._render, normaliser(chats.messages.type), request)
        rows = zip(json_columns.decode_conversations(chats.messages), *map(_values, chats.others), strict=False)
        outcomes = [self._outcome(render, row, values, failures) for row, values in enumerate(rows)]
        spans = pa.array([found for _, found in outcomes], SPANS) if request.spans else None
        return Rendered(pa.array([text for text, _ in outcomes], json_columns.TEXT), spans)

    def _outcome(self, render: Callable[..., Outcome], row: int, values: Sequence[Any], failures: Failures) -> Outcome:
        """What one row gives; a failure is raised, or kept in `failures`."""
        if values[0] is None:
            return None, None
        try:
            return render(*values)
        except Exception as error:  # a template is a stranger's program: it may raise anything
            failure = render_error(error, self.template.name, row, fitted=self.options.fitted)
            if failures is None:
                raise failure from error
            failure.__cause__ = error
            failures.append(failure)
            return None, None

    def _render(
        self,
        normalise: Callable[[list[Message]], list[Message]],
        request: RenderRequest,
        messages: list[Message],
        tools: Any,
        documents: Any,
        overrides: Any,
    ) -> Outcome:
        chat = normalise(messages)
        source = self.template.select(tools)
        template = compile_template(source)
        inputs = {"tools": check_tools(tools), "documents": check_documents(documents)}
        values = {**self._base, **_overrides(overrides), **inputs}
        if self.options.continue_final:
            text = render_continued(template, source, chat, self.options.continue_final, values)
            return self._finished(text, None, chat, values)
        values |= {"messages": chat, "add_generation_prompt": request.generation_prompt}
        if request.spans:
            return self._finished(*render_tracked(template, values), chat, values)
        return self._finished(render_values(template, values), None, chat, values)

    def _finished(self, text: str, spans: list[Span] | None, chat: list[Message], values: dict[str, Any]) -> Outcome:
        """The text as it is written: encodable, the same on every run, without the first `bos_token` if so asked."""
        if not text.isascii():
            text.encode()  # a lone surrogate, which no file can hold
        if printed := address(text, (chat, values)):
            raise NotReproducible(f"the template prints {printed}, a memory address that differs from run to run")
        bos = values.get("bos_token") if self.options.bos == "strip" else None
        if not bos or not text.startswith(bos):
            return text, spans
        cut = len(bos)
        shifted = None if spans is None else [(max(start - cut, 0), max(end - cut, 0)) for start, end in spans]
        return text[cut:], shifted


def normaliser(column: pa.DataType) -> Callable[[list[Message]], list[Message]]:
    """`normalise_messages` for the conversations of a column of this type, without the steps that it makes needless."""
    fields = list(column.value_type)
    if any(field.type not in (json_columns.TEXT, json_columns.JSON) for field in fields):
        return normalise_messages  # types beyond JSON: times, decimals, binary
    names = {field.name for field in fields}
    if names.isdisjoint((schema.KEYS, *REASONING_FIELDS)) and all(field.type == json_columns.TEXT for field in fields):
        return _not_empty
    return _normalise_json


def _not_empty(messages: list[Message]) -> list[Message]:
    return messages or normalise_messages(messages)


def _normalise_json(messages: list[Message]) -> list[Message]:
    return [alias_reasoning(drop_nulls(message)) for message in _not_empty(messages)]


def _overrides(variables: Any) -> dict[str, Any]:
    """The template variables of one row."""
    if variables is None:
        return {}
    if not isinstance(variables, dict):
        raise TypeError("`template_kwargs` is not an object")
    for name in CONTEXT_NAMES:
        if name in variables:
            raise TypeError(f"`template_kwargs` may not set `{name}`")
    return dict(plain_data(variables))


def _values(column: pa.Array | None) -> Iterable[Any]:
    """The values of a JSON column, None for null and for no column; a text that repeats is parsed once."""
    if column is None:
        return repeat(None)
    if column.type != json_columns.JSON:
        return [None if value is json_columns._ABSENT else value for value in json_columns.decode_values(column)]
    parse = functools.lru_cache(maxsize=64)(json_columns.loads)
    return (None if text is None else parse(text) for text in column.to_pylist())
