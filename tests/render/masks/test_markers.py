"""Markers: adding and removing them restores the conversation, and spans point at the marked texts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatfmt.render.masks.markers import (
    CALLS,
    CONTENT,
    ECHO,
    MAX_MARKERS,
    PLANES,
    REASONING,
    MarkerPlan,
    add_markers,
    keep_markers,
    remove_markers,
)
from chatfmt.render.single import Chat
from tests.render.templates import WEATHER, call, say

CHAT = Chat(
    [
        say("system", " Be short.\n"),
        say("user", "Rain?"),
        say("assistant", "", tool_calls=[call("forecast", {"place": "Turin"})]),
        say("assistant", "No.", reasoning_content="dry"),
    ],
    [WEATHER],
)


def printed(chat: Chat) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in chat.messages)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.booleans())
def test_removing_markers_restores_the_text(texts: list[str], blank: bool) -> None:
    chat = Chat([say("user", text) for text in texts])
    marked = add_markers(chat, MarkerPlan(blank=blank))
    if marked is None:
        return
    unmarked = remove_markers(printed(marked.chat), marked)
    assert unmarked.text == printed(chat)
    assert unmarked.lost == unmarked.torn == ()
    cores = [text.strip() for text in texts if blank or text.strip()]
    assert [unmarked.text[span.start : span.end] for span in unmarked.spans] == cores


def test_sources_name_message_field_and_whitespace() -> None:
    marked = add_markers(CHAT)
    assert marked is not None
    found = [(source.message, source.field, source.lead, source.trail) for source in marked.sources]
    assert found == [
        (0, CONTENT, " ", "\n"),
        (1, CONTENT, "", ""),
        (2, CALLS, "", ""),
        (2, CALLS, "", ""),
        (3, CONTENT, "", ""),
        (3, REASONING, "", ""),
    ]


def test_a_plan_chooses_the_texts() -> None:
    def fields(**plan: Any) -> set[tuple[int | None, str]]:
        marked = add_markers(CHAT, MarkerPlan(**plan))
        assert marked is not None
        return {(source.message, source.field) for source in marked.sources}

    everything = fields()
    assert everything - fields(others=False) == {(0, CONTENT), (1, CONTENT)}
    assert everything - fields(calls=False) == {(2, CALLS)}
    assert everything - fields(reasoning=False) == {(3, REASONING)}
    assert fields(blank=True) - everything == {(2, CONTENT)}
    assert fields(tools=True) - everything == {(None, "tools")}


def test_inline_reasoning_is_marked_separately_from_the_answer() -> None:
    marked = add_markers(Chat([say("assistant", "<think>\nhm\n</think>\n\nyes")]))
    assert marked is not None
    assert [(source.field, source.inline) for source in marked.sources] == [(REASONING, True), (CONTENT, False)]


def test_lost_and_torn_texts_and_echoes() -> None:
    marked = add_markers(CHAT)
    assert marked is not None
    name, place = (chr(marked.base + 2 * number) + "x" + chr(marked.base + 2 * number + 1) for number in (2, 3))
    user = chr(marked.base + 2) + "u" + chr(marked.base + 3)
    unmarked = remove_markers(f"{name}{place}{name}{user}{user}{chr(marked.base + 8)}", marked)
    assert unmarked.text == "xxxuu"
    assert [span.source for span in unmarked.spans if span.source is ECHO] == [ECHO]
    assert unmarked.torn == (marked.sources[1], marked.sources[4])
    assert unmarked.lost == (marked.sources[0], marked.sources[5])


def test_one_marker_can_be_kept() -> None:
    marked = add_markers(CHAT)
    assert marked is not None
    single = keep_markers(marked, [1])
    assert single.messages[1]["content"] == f"{chr(marked.base + 2)}Rain?{chr(marked.base + 3)}"
    assert [*single.messages[:1], *single.messages[2:]] == [*CHAT.messages[:1], *CHAT.messages[2:]]


def test_private_use_characters_of_the_data_choose_the_other_plane_or_none() -> None:
    first, second = map(chr, PLANES)
    for text, base in (("a", PLANES[0]), (first, PLANES[1]), (second, PLANES[0])):
        marked = add_markers(Chat([say("user", text)]))
        assert marked is not None and marked.base == base
        assert remove_markers(printed(marked.chat), marked).text == f"<user>{text}"
    assert add_markers(Chat([say("user", first + second)])) is None


def test_a_conversation_with_too_many_texts_is_not_marked() -> None:
    assert add_markers(Chat([say("user", "x")] * MAX_MARKERS)) is not None
    longer = Chat([say("user", "x")] * (2 * MAX_MARKERS + 99))
    assert add_markers(longer) is None
    partly = add_markers(longer, partly=True)
    assert partly is not None and len(partly.sources) == MAX_MARKERS
    assert remove_markers(printed(partly.chat), partly).text == printed(longer)
