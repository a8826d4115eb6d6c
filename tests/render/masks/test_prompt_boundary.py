"""Prompt and completion: joined they are the text, and the boundary is at the answer."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from chatfmt.errors import Location, RenderError
from chatfmt.json_columns import encode_conversations
from chatfmt.render.masks.masker import Masker
from chatfmt.render.masks.prompt_boundary import split_text, split_texts
from chatfmt.render.single import Chat
from chatfmt.rendering import ConversationBatch
from tests.render.masks.samples import HELLO
from tests.render.templates import CHATML, CONVERSATIONS, NO_STOP, NO_SYSTEM, THINKER, say, template_renderer


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, NO_STOP, THINKER])
def test_prompt_plus_completion_is_the_whole_text(template: str) -> None:
    masker = Masker(template_renderer(template))
    for chat in CONVERSATIONS.values():
        try:
            split = split_text(masker, chat)
        except RenderError:
            continue
        assert split.prompt + split.completion == masker.renderer.text(chat)
        if split.prefix:
            assert split.prompt == masker.renderer.text(
                replace(chat, messages=chat.messages[:-1]), generation_prompt=True
            )
    split = split_text(masker, CONVERSATIONS["one turn"])
    assert split.completion.lstrip().startswith("Green" if template is not THINKER else "<think>")


def test_a_prompt_that_is_not_a_prefix_ends_where_the_answer_begins() -> None:
    odd = CHATML.replace("{% if add_generation_prompt %}{{ '", "{% if add_generation_prompt %}{{ '<|note|>")
    split = split_text(Masker(template_renderer(odd)), Chat(HELLO))
    assert not split.prefix
    assert split.completion == " See you \n<|im_end|>\n" or split.completion == "See you \n<|im_end|>\n"
    earlier = split_text(Masker(template_renderer(odd)), Chat(HELLO), first=1)
    assert earlier.completion.startswith("Hello<|im_end|>\n<|im_start|>user\nBye")


def test_a_boundary_is_never_inside_a_control_token() -> None:
    sly = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "<|im_st")
    split = split_text(Masker(template_renderer(sly)), Chat(HELLO))
    assert not split.prompt.endswith("<|im_st") and not split.prefix


def test_a_row_of_a_column_without_an_answer_is_named() -> None:
    masker = Masker(template_renderer(CHATML))
    splits = split_texts(masker, ConversationBatch(encode_conversations([HELLO, None])))
    assert splits[0] is not None and splits[0].completion == " See you \n<|im_end|>\n" and splits[1] is None
    with pytest.raises(RenderError) as caught:
        split_texts(masker, ConversationBatch(encode_conversations([HELLO, [say("user", "x")]])))
    assert caught.value.message == "cannot tell which text is the assistant's: there is no assistant message"
    assert caught.value.at == Location(row=1)
