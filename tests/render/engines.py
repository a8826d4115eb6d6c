"""Run both engines on the same rows and compare texts, spans and errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from chatfmt import json_columns
from chatfmt.errors import RenderError
from chatfmt.render.jinja_renderer import JinjaRenderer
from chatfmt.render.options import RenderOptions
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.render.trace.program_cache import TraceLimits
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.rendering import ConversationBatch, RenderRequest

EAGER = TraceLimits(rows=1, free=100_000)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


_ADDRESS = re.compile("0x[0-9a-f]+")


def template(text: str) -> ChatTemplate:
    return ChatTemplate("test", text, TOKENS)


def traced(text: str, options: RenderOptions = RenderOptions(), limits: TraceLimits = EAGER) -> TracedRenderer:
    return TracedRenderer(template(text), options, JinjaRenderer(template(text), options), limits=limits)


def columns(rows: Sequence[Mapping[str, Any]]) -> ConversationBatch:
    """Return the batch of rows with `messages`, `tools`, `documents` and `kwargs`."""
    others = [
        json_columns.json_array([row.get(name) for row in rows], [row.get(name) is not None for row in rows])
        for name in ("tools", "documents", "kwargs")
    ]
    return ConversationBatch(json_columns.encode_conversations([row["messages"] for row in rows]), *others)


def outcome(renderer: Any, chats: ConversationBatch, **asked: Any) -> tuple[Any, ...]:
    """Return texts, spans and errors in a form that can be compared and read."""
    failures: list[RenderError] = []
    rendered = renderer(chats, RenderRequest(**asked), failures)
    rendered.text.validate(full=True)
    spans = None if rendered.spans is None else rendered.spans.to_pylist()
    errors = sorted(
        (row, failure.code, _ADDRESS.sub("0x…", failure.message)) for failure in failures for row in failure.rows
    )
    return rendered.text.to_pylist(), spans, errors


def assert_same(
    text: str, rows: Sequence[Mapping[str, Any]], limits: TraceLimits = EAGER, **asked: Any
) -> TracedRenderer:
    """The traced renderer, after both engines gave the same for all rows, three times over."""
    chats = columns(rows)
    plain, replaying = JinjaRenderer(template(text), RenderOptions()), traced(text, limits=limits)
    wanted = outcome(plain, chats, **asked)
    for _ in range(2):
        assert outcome(replaying, chats, **asked) == wanted
    assert not replaying.stopped, replaying.stopped
    return replaying
