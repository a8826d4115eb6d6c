"""A built-in template means the same as a file of its text without tags, and as its training template in transformers.

One template in ten is tested, and all of them with `--full`, with all masks and conversations.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import RenderError
from chatfmt.json_columns import encode_conversations, json_array
from chatfmt.render import RenderOptions, compile
from chatfmt.render.masks.masker import WHOLE_TURNS, MaskOptions
from chatfmt.render.masks.renderer import MaskedRenderer
from chatfmt.render.masks.spans import together
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.tagging.tagger import tag_template, training_template
from chatfmt.render.template import builtin
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.rendering import ConversationBatch, RenderRequest
from chatfmt.schema import TRAIN_KEYS
from tests import conftest
from tests.render.oracle import NOW, TOKENS, expected
from tests.render.templates import CALLED, CONVERSATIONS, RESULT, WEATHER, call, say, untagged
from tests.trainers.tiny import make_tokenizer

NAMES = builtin.names() if conftest.FULL else builtin.names()[::10]
MASKS = (
    WHOLE_TURNS, MaskOptions(last_turn=True), MaskOptions(reasoning="none"), MaskOptions(reasoning="all"),
    MaskOptions(roles=("user", "assistant")), MaskOptions(roles=("tool", "assistant")), MaskOptions(stop_token=False),
)  # fmt: skip
ANSWERS = (
    "bb", "", "  ", "  bb \n", "\n\nbb\n\n", "x <|im_end|> </s> <|eot_id|> [/INST] y", "bb <think>why</think> cc",
    "<think>\n\n</think>\n\nbb", "<think></think>bb", "<think>\nwhy\n</think>\n\nbb", "<think>why</think>bb",
    "<think>\nbb", "<think>bb", "why\n</think>\n\nbb", "<think>\nwhy\n</think>\n\n", "<think>\n\n</think>\n\n",
    "<think>why</think>", "<think>a</think>b<think>c</think>d",
)  # fmt: skip
ASK, CALLING, IMAGE = say("user", "q"), CALLED[1], {"type": "image", "image": "x.png"}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def of_answer(content: Any) -> list[Chat]:
    """Return conversations with an answer of this content: alone, early, with a call or reasoning, after a result."""
    odd = say("assistant", content)
    calling = {**odd, "tool_calls": CALLING["tool_calls"]}
    return [
        *map(Chat, ([ASK, odd], [ASK, odd, ASK, say("assistant", "cc")], [ASK, odd, ASK, odd])),
        Chat([ASK, {**odd, "reasoning_content": "why"}]),
        Chat([ASK, {**odd, "reasoning_content": "why"}, ASK, {**odd, "reasoning_content": "how"}]),
        Chat([say("system", "s"), ASK, say("assistant", [part(content)] if isinstance(content, str) else content)]),
        *(Chat(turns, [WEATHER]) for turns in ([ASK, calling], [ASK, calling, RESULT, say("assistant", "cc")])),
        Chat([*CALLED, RESULT, odd], [WEATHER]),
    ]


SEVERAL_CALLS = [*CALLING["tool_calls"], call("forecast", {"place": ["Rome", None, {"at": 2.5}]}, "call00002")]
ODD = [
    *CONVERSATIONS.values(),
    *(chat for content in ANSWERS for chat in of_answer(content)),
    *(chat for content in ([part("bb"), IMAGE], [IMAGE, part("bb")], [IMAGE], [part("b"), IMAGE, part("c")], None)
      for chat in of_answer(content)),
    *map(Chat, (
        [say("user", [IMAGE, part("q")]), say("assistant", "bb")],
        [say("user", [part("q"), IMAGE]), say("assistant", "bb")],
        [say("assistant", "aa"), ASK, say("assistant", "bb")],
        [ASK, say("assistant", "aa"), say("assistant", "bb"), ASK, say("assistant", "cc")],
        [ASK, say("assistant", "aa"), ASK], [ASK, ASK, say("assistant", "aa")],
        [say("developer", "d"), ASK, say("assistant", "aa")],
        [say("system", "s"), say("system", "t"), ASK, say("assistant", "aa")],
        [ASK, say("assistant", "aa"), say("system", "s"), ASK, say("assistant", "bb")],
        [ASK, say("assistant", "aa", reasoning_content="")], [ASK, say("assistant", "aa", reasoning_content=" \n")],
        [ASK, say("assistant", "aa", train=False), ASK, say("assistant", "bb", weight=1)],
        [ASK, say("assistant", "aa", name="Al"), ASK, say("assistant", "bb", name="")],
    )),
    *(Chat(turns, [WEATHER]) for turns in (
        [ASK, {**CALLING, "tool_calls": SEVERAL_CALLS}, RESULT, RESULT, say("assistant", "bb")],
        [*CALLED, RESULT, CALLING, RESULT, say("assistant", "bb")], [*CALLED, ASK, say("assistant", "bb")],
        [*CALLED, say("user", "<tool_response>x</tool_response>"), say("assistant", "bb")],
        [*CALLED, {**RESULT, "content": [part("dry"), IMAGE]}, say("assistant", "bb")], [*CALLED, RESULT],
    )),
]  # fmt: skip
BY_KEYS = [
    [chat for chat in ODD if any(TRAIN_KEYS & turn.keys() for turn in chat.messages) is has] for has in (False, True)
]


def outcomes(renderer: MaskedRenderer, chats: list[Chat]) -> list[Any]:
    """Return the text and the spans of each conversation, None where it is refused."""
    tools, failures = json_array([chat.tools for chat in chats]), list[RenderError]()
    batch = ConversationBatch(encode_conversations([chat.messages for chat in chats]), tools)
    found = renderer(batch, RenderRequest(spans=True), failures)
    assert found.spans is not None
    return [None if text is None else (text, together(list(map(tuple, spans))))
            for text, spans in zip(found.text.to_pylist(), found.spans.to_pylist(), strict=True)]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_a_built_in_template_without_tags_has_the_same_spans(name: str) -> None:
    known, options, compared = builtin.find(name), RenderOptions(date=NOW), 0
    assert known is not None
    own, bare = (
        ChatTemplate(name, text, {**TOKENS, **known.special_tokens}) for text in (known.text, untagged(known.text))
    )
    tagged = tag_template(TemplateRenderer(bare, options))
    assert tagged is not None
    of_file, of_own = compile(bare, options), compile(own, options)
    for mask, chats in product(MASKS if conftest.FULL else MASKS[:1], BY_KEYS):
        one = MaskedRenderer(of_own, TemplateRenderer(own, options), mask)
        other = MaskedRenderer(of_file, TemplateRenderer(bare, options), mask, compile(tagged, options))
        for chat, found, wanted in zip(chats, outcomes(other, chats), outcomes(one, chats), strict=True):
            assert found == wanted, (mask, chat)
            compared += found is not None
    assert compared > 50


@pytest.mark.parametrize("name", NAMES)
def test_a_training_template_has_the_same_text_and_spans_in_transformers(name: str, tmp_path: Path) -> None:
    known, options, compared = builtin.find(name), RenderOptions(date=NOW), 0
    assert known is not None
    template = ChatTemplate(name, known.text, {**TOKENS, **known.special_tokens})
    single = TemplateRenderer(template, options)
    trained = training_template(single).text
    renderer = MaskedRenderer(compile(template, options), single, WHOLE_TURNS)
    for chat, found in zip(BY_KEYS[0], outcomes(renderer, BY_KEYS[0]), strict=True):
        case = {"messages": chat.messages, "tools": chat.tools, "kwargs": dict(template.special_tokens)}
        kind, theirs = expected(trained, case, "spans")
        assert (found is None) is (kind != "spans"), chat
        if found is not None:
            assert found == (theirs[0], together(theirs[1])), chat
            compared += 1
    assert compared > 50
    turns = CONVERSATIONS["one turn"].messages
    tokenizer = make_tokenizer(template, tmp_path)
    made = tokenizer.apply_chat_template(
        turns, chat_template=trained, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids = [token for token, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    ((text, spans),) = outcomes(renderer, [Chat(turns)])
    assert tokenizer.decode(ids) == "".join(text[slice(*span)] for span in spans)
