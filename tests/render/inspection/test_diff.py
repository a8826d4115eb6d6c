"""Compare two templates on the same conversations."""

from __future__ import annotations

import datetime

from chatfmt.render.inspection.diff import Difference, Example, compare
from chatfmt.render.inspection.sample_conversations import usual_conversations
from chatfmt.render.options import RenderOptions
from chatfmt.render.single import Chat
from chatfmt.render.template.chat_template import ChatTemplate
from tests.render.templates import CHATML, NO_SYSTEM, TOKENS, known_templates, say

FIRST = ChatTemplate("first", CHATML, TOKENS)
CHATS = [Chat([say("user", "Hi"), say("assistant", "Yes")]), Chat([say("system", "S"), say("user", "Q")])]


def test_the_same_template_does_not_differ_from_itself() -> None:
    assert compare(FIRST, FIRST, CHATS) == Difference(2, 0)
    assert compare(FIRST, FIRST, []).same


def test_the_first_differing_character_and_an_example() -> None:
    other = ChatTemplate("second", CHATML.replace("'<|im_end|>\n'", "('<|im_end|>\n' if m.role != 'system' else '\n')"))
    found = compare(FIRST, other, CHATS)
    place = len("<|im_start|>system\nS")
    assert (found.rows, found.differing, found.first_row, found.first_character) == (2, 1, 1, place)
    assert found.examples == (
        Example(
            1,
            place,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"[: place + 40],
            "<|im_start|>system\nS\n<|im_start|>user\nQ<|im_end|>\n",
        ),
    )
    assert found.as_json()["examples"][0]["character"] == place


def test_a_text_that_ends_early_differs_at_its_end() -> None:
    short = ChatTemplate("short", "{{ messages[0].content }}")
    long = ChatTemplate("long", "{{ messages[0].content }}!")
    assert compare(short, long, CHATS[:1]).examples == (Example(0, 2, "Hi", "Hi!"),)


def test_a_template_that_refuses_a_row_differs_on_it() -> None:
    strict = ChatTemplate(
        "strict", "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    )
    found = compare(FIRST, strict, CHATS)
    assert (found.differing, found.first_row, found.first_character) == (1, 1, None)
    assert found.examples[0].second == "TemplateError: no"
    assert compare(strict, strict, CHATS).same


def test_examples_are_limited_and_options_apply() -> None:
    many = [CHATS[0]] * 9
    found = compare(FIRST, ChatTemplate("other", NO_SYSTEM, TOKENS), many)
    assert (found.differing, len(found.examples)) == (9, 3)
    dated = ChatTemplate("dated", "{{ strftime_now('%Y') }}")
    options = RenderOptions(date=datetime.date(1999, 1, 1))
    assert compare(dated, ChatTemplate("1999", "1999"), CHATS, options).same


def test_usual_conversations_distinguish_built_in_templates() -> None:
    templates = [ChatTemplate(name, text, TOKENS) for name, text in known_templates() if name.startswith("chatfmt/")]
    assert len(templates) >= 20
    assert not compare(templates[0], templates[-1], usual_conversations()).same
    assert len(usual_conversations()) == 9
