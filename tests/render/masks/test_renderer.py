"""Masks of a column: they are those of its rows, and a row that cannot be masked is named."""

from __future__ import annotations

from typing import Any

import pytest

from chatfmt.errors import Location, RenderError
from chatfmt.json_columns import encode_conversations, json_array
from chatfmt.render import RenderOptions, compile
from chatfmt.render.masks.masker import MaskedText, Masker
from chatfmt.render.masks.renderer import MaskedRenderer
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.render.masks.samples import SHOUT, mask_or_code
from tests.render.templates import CHATML, CONVERSATIONS, NO_STOP, NO_SYSTEM, THINKER, TOKENS, say


def column(chats: list[Chat]) -> ConversationBatch:
    there = [chat.tools is not None for chat in chats]
    tools = json_array([chat.tools for chat in chats], there)
    return ConversationBatch(encode_conversations([chat.messages for chat in chats]), tools)


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, NO_STOP, THINKER])
@pytest.mark.parametrize("bos", ["keep", "strip"])
@pytest.mark.parametrize("prompt", [False, True])
def test_a_column_has_the_masks_of_its_rows(template: str, bos: Any, prompt: bool) -> None:
    options = RenderOptions(bos=bos, generation_prompt=prompt)
    source, chats = ChatTemplate("test", template, TOKENS), list(CONVERSATIONS.values())
    masker, renderer = (
        Masker(TemplateRenderer(source, options)),
        MaskedRenderer(compile(source, options), TemplateRenderer(source, options)),
    )
    failures: list[RenderError] = []
    rendered = renderer(column(chats), RenderRequest(spans=True), failures)
    expected = [mask_or_code(masker, chat) for chat in chats]
    assert sum(isinstance(mask, MaskedText) for mask in expected) >= 6
    assert rendered.spans is not None
    assert rendered.text.to_pylist() == [mask.text if isinstance(mask, MaskedText) else None for mask in expected]
    spans = [list(map(list, mask.spans)) if isinstance(mask, MaskedText) else None for mask in expected]
    assert rendered.spans.to_pylist() == spans
    assert [error.at.row for error in failures] == [row for row, mask in enumerate(expected) if isinstance(mask, str)]
    plain = [mask for mask in expected if isinstance(mask, MaskedText)]
    assert not any(mask.text.startswith("<s>") for mask in plain if bos == "strip")


def test_a_bad_row_of_a_column_is_named() -> None:
    options, source = RenderOptions(), ChatTemplate("shout", SHOUT)
    renderer = MaskedRenderer(compile(source, options), TemplateRenderer(source, options))
    good, bad = Chat([say("user", "x")]), Chat([say("user", "abc"), say("assistant", "def"), say("user", "ghi")])
    with pytest.raises(RenderError) as caught:
        renderer(column([good, bad]), RenderRequest(spans=True))
    assert caught.value.at == Location(row=1, message=1)
    assert renderer(column([good, bad])).spans is None
