"""The content-loss guard: it names lost text, but not text that is blank or only trimmed."""

from __future__ import annotations

import itertools
import random
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chatfmt.errors import Location, RenderError, TemplateError
from chatfmt.json_columns import encode_conversations, json_array
from chatfmt.render.jinja_renderer import JinjaRenderer
from chatfmt.render.options import RenderOptions
from chatfmt.render.safety.content_loss import LossGuard
from chatfmt.render.safety.loss_finder import Loss, LossFinder
from chatfmt.render.safety.message_shapes import message_shapes
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template.chat_template import ChatTemplate
from chatfmt.render.trace.program_cache import TraceLimits
from chatfmt.rendering import ConversationBatch, Rendered
from tests.conftest import sampled
from tests.render.engines import traced
from tests.render.templates import (
    BUILT_IN,
    CALLED,
    CHATML,
    CONVERSATIONS,
    NO_SYSTEM,
    RESULT,
    THINKER,
    WEATHER,
    call,
    known_templates,
    say,
    template_renderer,
)  # fmt: skip

PLAIN = [say("user", "Why?"), say("assistant", "Because.")]
WITH_SYSTEM = [say("system", "Be short."), *PLAIN]


def names(template: str, *messages: dict[str, Any], tools: Any = None, documents: Any = None) -> list[tuple[Any, ...]]:
    found = LossFinder(template_renderer(template)).find(Chat(messages, tools, documents))
    return [(loss.message, loss.role, loss.field, loss.by_design) for loss in found]


def test_a_dropped_system_message_is_lost() -> None:
    assert names(NO_SYSTEM, *WITH_SYSTEM) == [(0, "system", "content", False)]
    assert names(NO_SYSTEM, *PLAIN) == [] and names(CHATML, *WITH_SYSTEM) == []


@pytest.mark.parametrize("role", ["developer", "tool", "human", "critic"])
def test_an_unexpected_role_is_lost(role: str) -> None:
    assert names(NO_SYSTEM, say(role, "words"), *PLAIN) == [(0, role, "content", False)]


def test_a_text_that_occurs_elsewhere_is_still_lost() -> None:
    assert names(NO_SYSTEM, say("system", "USER"), *PLAIN) == [(0, "system", "content", False)]
    assert names(NO_SYSTEM, say("system", "Because."), *PLAIN) == [(0, "system", "content", False)]


def test_blank_and_trimmed_text_is_not_lost() -> None:
    assert names(NO_SYSTEM, say("system", " \n"), say("user", "  x\n"), say("assistant", "\ty  ")) == []
    assert names(NO_SYSTEM, say("system", ""), say("user", "x"), {"role": "assistant", "content": None}) == []


def test_tools_calls_and_results_are_looked_for() -> None:
    assert names(CHATML, *CALLED, RESULT, say("assistant", "No."), tools=[WEATHER]) == [
        (1, "assistant", "tool_calls", False),
        (None, "tools", "tools", False),
    ]
    assert names(THINKER, *CALLED, RESULT, say("assistant", "No.")) == []
    first = "{% for m in messages %}{{ m.content }}{{ m.tool_calls[0].function.name if m.tool_calls }}{% endfor %}"
    both = say("assistant", "", tool_calls=[call("f", {}), call("g", {})])
    assert names(first, say("user", "go"), both) == [(1, "assistant", "tool_calls", False)]
    assert names(first, say("user", "go"), say("assistant", "", tool_calls=[call("f", {})])) == []
    assert names(CHATML, *PLAIN, documents=[{"title": "a", "text": "b"}]) == [(None, "documents", "documents", False)]


def test_earlier_reasoning_is_lost_by_design_where_the_last_is_printed() -> None:
    thought = say("assistant", "Two.", reasoning_content="Count.")
    more = [say("user", "Sure?"), say("assistant", "Yes.")]
    assert names(THINKER, say("user", "1+1"), thought) == []
    assert names(THINKER, say("user", "1+1"), thought, *more) == [(1, "assistant", "reasoning", True)]
    assert names(CHATML, say("user", "1+1"), thought) == [(1, "assistant", "reasoning", False)]
    assert names(CHATML, say("user", "1+1"), thought, *more) == [(1, "assistant", "reasoning", False)]
    picky = THINKER.replace("loop.index0 > ns.last", "loop.index0 > ns.last and not m.tool_calls")
    asked = {**CALLED[1], "reasoning_content": "Look it up."}
    assert names(picky, CALLED[0], asked) == [(1, "assistant", "reasoning", False)]
    inline = say("assistant", "<think>\nCount.\n</think>\n\nTwo.")
    cutting = CHATML.replace("m.content", "m.content.split('</think>')[-1]")
    assert names(cutting, say("user", "1+1"), inline) == [(1, "assistant", "reasoning", False)]
    assert names(CHATML, say("user", "1+1"), inline, *more) == []
    calls_only = CHATML.replace("m.content", "(m.tool_calls[0].function | tojson if m.tool_calls else m.content)")
    asked = {**CALLED[1], "content": "<think>\nLook it up.\n</think>\n\n"}  # not by design: it prints earlier reasoning
    assert names(calls_only, CALLED[0], asked, RESULT, *more) == [(1, "assistant", "reasoning", False)]


def test_a_template_that_markers_disturb_is_tested_text_by_text() -> None:
    counting = CHATML.replace("m.content", "(m.content ~ (m.content | length) if m.role != 'system' else '')")
    assert names(counting, *WITH_SYSTEM) == [(0, "system", "content", False)]


def test_texts_that_are_not_printed_at_all_are_not_searched_for_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The renders of a conversation of which a thousand texts are lost are as many as of one."""
    rendered, render = list[Chat](), TemplateRenderer.text_or_none
    monkeypatch.setattr(TemplateRenderer, "text_or_none", lambda *each: rendered.append(each[1]) or render(*each))
    for count in (1, 1000):
        assert len(names(NO_SYSTEM, *[WITH_SYSTEM[0]] * count, *PLAIN)) == count
    first, second = (sum(len(chat.messages) == count + 2 for chat in rendered) for count in (1, 1000))
    assert first == second > 0


def test_a_template_that_refuses_loses_nothing() -> None:
    assert names("{{ raise_exception('no') }}", *WITH_SYSTEM) == []


@pytest.mark.parametrize("allow", ["system", "content", "all"])
def test_allowed_losses_are_counted(allow: str) -> None:
    guard = LossGuard(template_renderer(NO_SYSTEM), [allow])
    assert guard.check(ConversationBatch(encode_conversations([WITH_SYSTEM]))) is None
    assert guard.accepted == {"system": 1}
    assert (
        LossGuard(template_renderer(NO_SYSTEM), ["user", "reasoning"]).check(
            ConversationBatch(encode_conversations([WITH_SYSTEM]))
        )
        is not None
    )
    assert not Loss(1, "assistant", "reasoning").is_allowed(["assistant"])
    assert Loss(1, "assistant", "reasoning").is_allowed(["reasoning"])


@pytest.mark.parametrize(
    ("loss", "message", "flag"),
    [
        (Loss(0, "system", "content"), "template `x` loses the text of role `system`", "system"),
        (Loss(2, "bot", "reasoning"), "template `x` loses the reasoning of role `bot`", "reasoning"),
        (Loss(1, "bot", "tool_calls"), "template `x` loses a tool call of role `bot`", "tool_calls"),
        (Loss(None, "tools", "tools"), "template `x` loses the tools of the row", "tools"),
    ],
)
def test_the_error_names_template_message_role_and_flag(loss: Loss, message: str, flag: str) -> None:
    error = loss.error("x")
    assert isinstance(error, TemplateError)
    assert (error.message, error.code) == (message, "template.loss")
    assert error.hint.endswith(f"`--allow-loss {flag}` accepts the loss")
    assert error.at == Location(row=None, message=loss.message)


def test_the_first_rows_are_checked_then_each_new_shape_once() -> None:
    guard = LossGuard(template_renderer(NO_SYSTEM), first_rows=3)
    assert guard.check(ConversationBatch(encode_conversations([PLAIN] * 10))) is None
    assert guard.checked == 3
    assert guard.check(ConversationBatch(encode_conversations([PLAIN] * 10))) is None
    assert guard.checked == 3
    other = [*PLAIN, say("user", "x"), say("assistant", "y")]
    assert guard.check(ConversationBatch(encode_conversations([PLAIN, other, other, PLAIN]))) is None
    assert guard.checked == 4
    chats = ConversationBatch(encode_conversations([PLAIN, other, None, WITH_SYSTEM, WITH_SYSTEM]))
    assert guard.check(chats) == Loss(0, "system", "content", row=3)


def test_a_new_shape_in_the_middle_of_a_long_column_is_found() -> None:
    guard = LossGuard(template_renderer(NO_SYSTEM))
    column = encode_conversations([PLAIN] * 5000 + [WITH_SYSTEM] + [PLAIN] * 10)
    assert guard.check(ConversationBatch(column)) == Loss(0, "system", "content", row=5000)
    assert guard.checked < 220


@pytest.mark.parametrize("blank", ["", *(each * 99 for each in " \n\x0b\x1c\x85\u00a0\u2028")])
@pytest.mark.parametrize("of_text", [str, lambda text: [{"type": "text", "text": text}]])
def test_a_blank_text_does_not_stand_for_one_with_words(blank: str, of_text: Any) -> None:
    rows = [[say("system", of_text(text)), *PLAIN] for text in (blank, "Be kind.")]
    guard = LossGuard(template_renderer(NO_SYSTEM), first_rows=0)
    assert guard.check(ConversationBatch(encode_conversations(rows))) == Loss(
        0, "system", "content", structured=of_text is not str, row=1
    )


@pytest.mark.parametrize("lost", [1, 2])
def test_blank_reasoning_does_not_stand_for_reasoning_with_words(lost: int) -> None:
    drop = (
        "{% for m in messages %}{{ m.role }}: "
        "{{ m.content.split('</think>')[PART].split('<think>')[-1] }}\n{% endfor %}"
    )
    forms = ("<think>WORDS</think>yes", "<think>hm</think>WORDS")
    rows = [[PLAIN[0], say("assistant", forms[lost - 1].replace("WORDS", text))] for text in (" " * 99, "words")]
    guard = LossGuard(template_renderer(drop.replace("PART", "-1" if lost == 1 else "0")), first_rows=0)
    field = "reasoning" if lost == 1 else "content"
    assert guard.check(ConversationBatch(encode_conversations(rows))) == Loss(1, "assistant", field, row=1)


def test_reasoning_between_tags_makes_a_new_shape() -> None:
    cuts = "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1] }}\n{% endfor %}"
    thought = [PLAIN[0], say("assistant", "<think>\nhm\n</think>\n\nyes")]
    column = encode_conversations([PLAIN] * 500 + [thought] + [PLAIN] * 10)
    assert LossGuard(template_renderer(cuts)).check(ConversationBatch(column)) == Loss(
        1, "assistant", "reasoning", row=500
    )


PRINTS = "{% for m in messages %}{% if CONDITION %}{{ m.role }}: {{ TEXT }}\n{% endif %}{% endfor %}"
ALL, FIRST_PART = "m.content", "m.content[0].text if m.content is not string else m.content"
PROMPTS_ONLY = PRINTS.replace("CONDITION", "m.role != 'system' or messages[-1].role == 'user'").replace("TEXT", ALL)
TURNS_ONLY = PRINTS.replace("CONDITION", "m.role in ('user', 'assistant')").replace("TEXT", ALL)


@pytest.mark.parametrize(
    ("template", "known", "lost"),
    [
        (PROMPTS_ONLY, [WITH_SYSTEM[:2], [*WITH_SYSTEM, PLAIN[0]], PLAIN], (WITH_SYSTEM, 0)),
        (
            PRINTS.replace("CONDITION", "true").replace("TEXT", FIRST_PART),
            [[say("user", [{"type": "text", "text": "Why is the sky blue, and when is it red?"}])]],
            ([say("user", [{"type": "text", "text": "Why?"}, {"type": "text", "text": "How?"}])], 0),
        ),
    ],
)
def test_a_row_does_not_stand_for_one_of_which_less_is_printed(
    template: str, known: list[Any], lost: tuple[list[Any], int]
) -> None:
    row, message = lost
    guard = LossGuard(template_renderer(template), first_rows=0)
    assert guard.check(ConversationBatch(encode_conversations(known))) is None
    found = guard.check(ConversationBatch(encode_conversations([row])))
    assert found is not None and (found.message, found.field) == (message, "content")


def test_a_row_that_loses_two_texts_does_not_hide_those_that_lose_the_second() -> None:
    rest = [PLAIN[0], say("developer", "Be kind."), *PLAIN]
    rows = [[say("system", ""), *PLAIN, *PLAIN], [WITH_SYSTEM[0], *rest], [say("system", ""), *rest]]
    guard = LossGuard(template_renderer(TURNS_ONLY), first_rows=0)
    lost = guard.check_rows(ConversationBatch(encode_conversations(rows)))
    assert lost == {Loss(0, "system", "content"): [1], Loss(2, "developer", "content"): [2]}


def test_rows_known_to_print_everything_are_skipped() -> None:
    chats = ConversationBatch(encode_conversations([PLAIN, PLAIN, WITH_SYSTEM, PLAIN]))
    guard, rendered = LossGuard(template_renderer(NO_SYSTEM)), Rendered(pa.array([""] * 4))
    assert guard.check(chats, replace(rendered, all_printed=np.ones(4, np.bool_))) is None and guard.checked == 0
    known = np.array([True, True, False, True])
    assert guard.check(chats, replace(rendered, all_printed=known)) == Loss(0, "system", "content", row=2)
    assert guard.checked == 1


BY_WORDS = {
    "{{ m.content if 'foo' not in m.content }}": "say foo now",
    "{{ m.content if m.content != 'foo' }}": "foo",
    "{{ m.content if not m.content.startswith('foo') }}": "foo and more",
    "{{ m.content.split('foo')[0] }}": "a foo b",
}


def by_jinja(text: str) -> JinjaRenderer:
    return JinjaRenderer(ChatTemplate("test", text), RenderOptions())


@pytest.mark.parametrize("text", BY_WORDS)
@pytest.mark.parametrize("renderer", [traced, partial(traced, limits=TraceLimits()), by_jinja])
def test_later_rows_that_lose_a_text_for_its_words_are_found(text: str, renderer: Any) -> None:
    template = "{% for m in messages %}[{{ m.role }}]" + text + "{% endfor %}"
    good = [[say("user", f"Is {row} a prime?"), say("assistant", "I do not know.")] for row in range(40)]
    bad = [say("user", "Is 7 a prime?"), say("assistant", BY_WORDS[text])]
    for count in (1, 20):
        render, single = renderer(template), template_renderer(template)
        guards = [LossGuard(single, first_rows=2) for _ in range(2)]
        for rows in (good, good, [*good, *[bad] * count], [bad] * count):
            batch = ConversationBatch(encode_conversations(rows))
            rendered, lost = render(batch), [row for row, chat in enumerate(rows) if chat is bad]
            assert [*guards[0].check_rows(batch, rendered).values()] == ([lost] if lost else [])
            if 0 not in lost:  # before them the run has ended
                stopping = guards[1].check(batch, rendered)
                assert (stopping.row if stopping else None) == (lost[0] if lost else None)


PRINTED = [
    "{{ m.content }}",
    "{{ m.content.split('</think>')[-1] | trim }}",
    "{{ m.content[:2] }}",
    "{{ m.content if 'b' not in m.content }}",
    "{{ m.reasoning_content or m.content }}",
    "{{ m.content if loop.first or not m.reasoning_content }}",
    "{{ m.content if m.content.startswith('a') else m.reasoning_content }}",
    "{{ m.content if m.content != messages[0].content }}",
    "{{ m.content if m.content not in ('a', 'b ') }}",
]
LOSING = ["{{ m.content if m.role != 'system' }}", "{{ m.content if m.role != 'assistant' or loop.last }}"]
TEMPLATES, LOSING_TEMPLATES = (
    ["{% for m in messages %}" + text + ";{% endfor %}" for text in texts] for texts in (PRINTED, LOSING)
)
TEMPLATES += [(BUILT_IN / f"{name}.jinja").read_text() for name in ("mistral", "gemma", "chatml", "qwen3")]
THOUGHT = "<think>a</think>"
TEXT = st.sampled_from(
    ["", " ", "\u2003\n", "a", "ab", "b ", THOUGHT, f"{THOUGHT}b", f"{THOUGHT}\nc", "</think>", "\U000f0000"]
)
MORE = {"reasoning_content": None, "thinking": None, "name": None, "tool_calls": [call("look", {})]}
ROLES = [("system", "user", "assistant"), ("system", *["user", "assistant"] * 2)]
WITH_PARTS = [say("user", [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]), say("assistant", " ")]


@st.composite
def alike(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Return conversations of two shapes, mostly of plain text, so that many have a program in common."""
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    texts = [" ", "a", *draw(st.lists(TEXT, max_size=2) | st.just([THOUGHT, f"{THOUGHT}b"]))]
    more = draw(st.sampled_from([(), (), (), *itertools.combinations(MORE, 1), ("reasoning_content", "thinking")]))

    def turn(role: str) -> dict[str, Any]:
        chosen = [name for name in more if role == "assistant" and chance.random() < 0.5]
        return say(role, chance.choice(texts), **{name: MORE[name] or chance.choice(texts) for name in chosen})

    rows = [[turn(role) for role in chance.choice(ROLES)] for _ in range(draw(st.integers(10, 30)))]
    return rows + draw(st.sampled_from([[], [], [], [WITH_PARTS]]))


@given(
    st.sampled_from(TEMPLATES) | st.sampled_from(LOSING_TEMPLATES),
    alike(),
    st.booleans(),
    st.sampled_from([(), ("reasoning",)]),
)
def test_rows_that_must_lose_the_same_are_checked_once(
    text: str, rows: list[Any], tools: bool, allow: tuple[str, ...]
) -> None:
    both = json_array([[WEATHER] if row % 2 else [] for row in range(len(rows))]) if tools else None
    chats, failures = ConversationBatch(encode_conversations(rows), both), list[RenderError]()
    rendered, single = traced(text)(chats, failures=failures), template_renderer(text)
    wanted = LossGuard(single, allow).check_rows(chats, replace(rendered, groups=None))
    found = LossGuard(single, allow).check_rows(chats, rendered)
    assert list(found.items()) == list(wanted.items())


def test_one_row_of_many_that_must_lose_the_same_is_checked() -> None:
    chats = ConversationBatch(encode_conversations([WITH_SYSTEM, PLAIN] * 50))
    rendered, guard = traced(NO_SYSTEM)(chats), LossGuard(template_renderer(NO_SYSTEM))
    lost = {Loss(0, "system", "content"): [*range(0, 100, 2)]}
    assert guard.check_rows(chats, rendered) == lost and guard.checked == 1
    assert guard.check_rows(chats, rendered) == lost and guard.checked == 2


def test_data_in_place_of_text_is_lost_where_a_template_prints_text_alone() -> None:
    template = "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}"
    for data in ({"degrees": 3}, {"rain": False}, [{"degrees": 3}]):
        assert names(template, *PLAIN, {"role": "tool", "content": data}) == [(2, "tool", "content", False)]
        assert names("{{ messages | tojson }}", *PLAIN, {"role": "tool", "content": data}) == []


def test_data_in_place_of_text_makes_a_new_shape() -> None:
    turns: list[Any] = [[*PLAIN, {"role": "tool", "content": data}] for data in ("3", {"degrees": 3}, [{"degrees": 3}])]
    assert len({int(shape) for shape in message_shapes(encode_conversations(turns))[1][2::3]}) == 3


def test_tools_and_documents_of_a_row_make_a_new_shape() -> None:
    guard, messages = LossGuard(template_renderer(CHATML), first_rows=1), encode_conversations([PLAIN] * 3)
    tools = json_array([None, None, [WEATHER]], [False, False, True])
    assert guard.check(ConversationBatch(messages, tools)) == Loss(None, "tools", "tools", row=2)
    none: pa.Array = json_array([[], [], []])
    assert LossGuard(template_renderer(CHATML)).check(ConversationBatch(messages, none)) is None


def test_shapes_are_the_same_in_other_batches_and_with_other_columns() -> None:
    plain = message_shapes(encode_conversations([PLAIN]))[1].tolist()
    assert message_shapes(encode_conversations([WITH_SYSTEM, PLAIN]))[1].tolist()[3:] == plain
    assert plain != message_shapes(encode_conversations([[*PLAIN, PLAIN[0]]]))[1].tolist()[:2]
    blank = message_shapes(encode_conversations([[PLAIN[0], say("assistant", "")]]))[1].tolist()
    assert blank[0] == plain[0] and blank[1] != plain[1]
    assert message_shapes(encode_conversations([None, []]))[1].tolist() == []
    first, second = message_shapes(encode_conversations([[PLAIN[0], PLAIN[0]], [PLAIN[1], PLAIN[0]]]))[1][
        [1, 3]
    ].tolist()
    assert first != second
    thought = [{"role": "user", "reasoning_content": "x"}, PLAIN[1]]
    assert message_shapes(encode_conversations([thought]))[1].tolist()[0] != plain[0]


def test_no_false_alarm_on_plain_conversations_of_known_templates() -> None:
    alarms = [
        (name, id)
        for name, text in sampled(known_templates(), 3)
        for id in ("one turn", "turns", "whitespace", "unicode", "like a token")
        if any(loss.field == "content" for loss in LossFinder(template_renderer(text, name)).find(CONVERSATIONS[id]))
    ]
    parts_only = {name for name, _ in alarms}
    assert all("idefics" in name or "smolvlm" in name for name in parts_only), alarms
