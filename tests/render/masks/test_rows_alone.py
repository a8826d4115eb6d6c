"""The spans of a row are those that it has alone: the rows beside it decide nothing, in whatever order they come.

The rows of a batch are one conversation, but for a text that differs in the blanks around it, in its length or in its
tags. All else that may decide spans is drawn: options, roles, reasoning, flags, parts, names and calls.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import RenderError
from chatfmt.json_columns import encode_conversations
from chatfmt.render import JinjaRenderer, RenderOptions
from chatfmt.render.masks.masker import MaskOptions
from chatfmt.render.masks.renderer import MaskedRenderer
from chatfmt.render.single import TemplateRenderer
from chatfmt.render.tagging.tagger import tag_template
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.render.trace.renderer import TracedRenderer
from chatfmt.rendering import ConversationBatch, RenderRequest
from tests.render.engines import EAGER
from tests.render.templates import TOKENS, call

FILES = {
    "a file": "{% for m in messages %}{% if m.role == 'assistant' %}A: {% if m.reasoning_content %}"
    "({{ m.reasoning_content }}) {% endif %}{{ m.content }}{{ eos_token }}{% else %}{{ m.role }}: "
    "{{ m.content | trim }}</{{ m.role }}>\n{% endif %}{% endfor %}",
    "a file with tags": "{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.role }}: {{ m.content }}{% endif %}{% endfor %}",
}
NAMES = ("chatml", "llama-3", "qwen3", "gemma", "mistral", "gpt-oss", *FILES)
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
PATTERNS = ("ua", "sua", "uaua", "u", "uau", "uuaa", "au", "uata")
WORDS = ("Hi", "Hello", "Say it twice")
ODD = (
    "<think>\n\n</think>\n\nHi", "<think>why</think>Hi", "<seed:think></seed:think>Hi", "</mm:think>", "</s>",
    "<|im_end|>", "user\n", "I think <b>so</b>", "\U000f0001", "\u200b", "Hi\x1c", "\ufeffHi",
)  # fmt: skip
BLANKS = (" ", "\n", "  ", "\n\n", "\t", "\r\n", "\u00a0", "\u2028")
PART = {"begin_offset": 0, "end_offset": 1, "train": True}
FLAGS = st.sampled_from((0, 1, 0.5, True, False, None, "false", "1"))
PARTS = st.sampled_from(([], [PART], [PART | {"train": False}], None))
CALLS = st.sampled_from(([], None, [call("look", {"place": "here"})]))
TEXTS = ("content", "reasoning_content", "thinking")
OF_ANSWERS = ("reasoning_content", "thinking", "tool_calls")
texts = st.sampled_from((*WORDS, "Hi ", " ", "", *ODD))
MORE = {
    "weight": FLAGS, "train": FLAGS, "train_detail": PARTS, "name": texts, "tool_calls": CALLS,
    "reasoning_content": texts, "thinking": texts,
}  # fmt: skip
masks = st.builds(
    MaskOptions,
    stop_token=st.sampled_from((True, True, False)),
    reasoning=st.sampled_from(("all", "generated", "none")),
    last_turn=st.sampled_from((False, False, True)),
    roles=st.sampled_from((("user", "assistant"), tuple(ROLES.values()), ("assistant",), ("user",))),
    flags=st.booleans(),
)


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return a conversation, of plain texts in half of all cases."""
    plain, found = draw(st.booleans()), []
    for letter in draw(st.sampled_from(PATTERNS)):
        turn = {"role": ROLES[letter], "content": "Hi" if plain else draw(st.one_of(st.just("Hi"), texts, st.none()))}
        name = draw(st.sampled_from(sorted(MORE)))
        if letter == "a" or name not in OF_ANSWERS:
            turn |= {name: draw(MORE[name])} if draw(st.booleans()) else {}
        found.append(turn)
    return found


@st.composite
def rows(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Return conversations that differ in one text, in any order, so many that some stand for others."""
    whole, blank = draw(turns()), draw(st.sampled_from(BLANKS))
    place, name = draw(st.sampled_from([(n, name) for n, turn in enumerate(whole) for name in TEXTS if name in turn]))
    said = [form for word in WORDS for form in (word, word + blank, blank + word)]
    said += [*[blank] * 3, *[""] * 3, draw(st.sampled_from(ODD))]
    found = [[turn | ({name: text} if number == place else {}) for number, turn in enumerate(whole)] for text in said]
    return draw(st.one_of(st.just(found), st.just(found[::-1]), st.permutations(found)))


@lru_cache
def loaded(name: str, tagged: bool) -> ChatTemplate | None:
    template = ChatTemplate(name, FILES[name], TOKENS) if name in FILES else ChatTemplate.load(name)
    own = tagged and "tags" not in name
    return tag_template(TemplateRenderer(template)) if own else None if tagged else template


def masked(name: str, mask: MaskOptions, weighted: bool, *, traced: bool) -> MaskedRenderer:
    options, template, tagged = RenderOptions(), loaded(name, False), loaded(name, True)
    assert template is not None
    engines = [None if each is None else JinjaRenderer(each, options) for each in (template, tagged)]
    if traced:
        engines = [each and TracedRenderer(each.template, options, each, limits=EAGER) for each in engines]
    assert engines[0] is not None
    return MaskedRenderer(engines[0], TemplateRenderer(template, options), mask, engines[1], weighted=weighted)


def outcomes(renderer: MaskedRenderer, chats: list[list[dict[str, Any]]]) -> list[Any]:
    """Return the text and the spans of each row, or its error."""
    failures: list[RenderError] = []
    found = renderer(ConversationBatch(encode_conversations(chats)), RenderRequest(spans=True), failures)
    assert found.spans is not None
    errors = {row: (error.code, error.message, error.at.message) for error in failures for row in error.rows}
    pairs = enumerate(zip(found.text.to_pylist(), found.spans.to_pylist(), strict=True))
    return [errors.get(row, pair) for row, pair in pairs]


@pytest.mark.parametrize("name", NAMES)
@given(rows(), masks, st.booleans(), st.sampled_from((20, 0, 3, 8)))
def test_a_row_has_the_spans_that_it_has_alone(
    name: str, chats: list[Any], mask: MaskOptions, weighted: bool, cut: int
) -> None:
    plain, replayed = (masked(name, mask, weighted, traced=traced) for traced in (False, True))
    alone = [outcomes(plain, [chat])[0] for chat in chats]
    assert [each for part in (chats[:cut], chats[cut:]) for each in (outcomes(replayed, part) if part else [])] == alone
