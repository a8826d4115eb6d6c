"""Plans that make data fit a template: only what the data needs, and they work."""

from __future__ import annotations

from typing import Any

import pytest

from chatfmt.render.fit import Features, features, fit_plan
from chatfmt.render.probe import Change, probe
from chatfmt.render.template import ChatTemplate
from tests.render.voices import ASKED, CHATML, NO_SYSTEM, THINKER, TOKENS, call, say

SAID = [say("user", "a"), say("assistant", "b")]
OBJECT = say("assistant", "", tool_calls=[call("f", {"x": 1})])
TEXT = say("assistant", "", tool_calls=[call("f", '{"x": 1}')])
FLAT = say("assistant", "", tool_calls=[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}])


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (SAID, Features()),
        ([say("system", "s"), *SAID], Features(system=True)),
        ([*SAID, say("system", "s")], Features(later_system=True)),
        ([say("developer", "s"), *SAID], Features(developer=True)),
        ([SAID[0], *SAID], Features(consecutive=True)),
        ([*SAID, SAID[1]], Features(consecutive=True)),
        ([SAID[0], say("tool", "x"), say("tool", "y")], Features()),
        ([SAID[0], say("assistant", "b", thinking="r")], Features(reasoning=True)),
        ([say("user", [{"type": "text", "text": "a"}]), SAID[1]], Features(parts=True)),
        ([say("user", [{"type": "image"}]), SAID[1]], Features()),
        ([say("user", []), SAID[1]], Features()),
        ([SAID[0], OBJECT], Features(object_arguments=True)),
        ([SAID[0], TEXT], Features(text_arguments=True)),
        ([SAID[0], FLAT], Features(object_arguments=True, parallel_calls=True)),
        ([], Features()),
    ],
)
def test_features_of_a_conversation(messages: list[dict[str, Any]], expected: Features) -> None:
    assert features([messages]) == expected
    assert features([None, messages, SAID]) == expected


def plan(template: str, *conversations: list[dict[str, Any]]) -> list[tuple[str, str]]:
    card = probe(ChatTemplate("test", template, TOKENS))
    return [(change.name, change.value) for change in fit_plan(card, features(conversations))]


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}"
    "{% endif %}{{ m.role ~ ':' ~ m.content ~ ';' }}{% endfor %}"
)


def test_only_what_the_data_needs_is_planned() -> None:
    assert plan(NO_SYSTEM, SAID) == []
    assert plan(NO_SYSTEM, SAID, [say("system", "s"), *SAID]) == [("system_turns", "fold")]
    assert plan(NO_SYSTEM, [say("developer", "s"), *SAID]) == [("developer", "system"), ("system_turns", "fold")]
    assert plan(CHATML, [say("system", "s"), *SAID], [SAID[0], *SAID]) == []
    assert plan(CHATML, [SAID[0], say("assistant", "b", reasoning_content="r")]) == [("reasoning", "inline")]
    assert plan(ALTERNATING, [SAID[0], *SAID]) == [("merge", "\n\n")]
    assert plan(ALTERNATING, [say("system", "s"), SAID[0], *SAID]) == [("system_turns", "fold"), ("merge", "\n\n")]


def test_calls_are_shaped_as_the_template_needs_them() -> None:
    assert plan(THINKER, ASKED) == []
    assert plan(THINKER, [SAID[0], TEXT]) == [("arguments", "object")]
    writing = THINKER.replace("c.function.arguments | tojson", "'' + c.function.arguments")
    assert plan(writing, [SAID[0], TEXT]) == []
    assert plan(writing, ASKED) == [("arguments", "text")]
    single = THINKER.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
    assert plan(single, [SAID[0], FLAT]) == [("parallel_calls", "split")]


def test_each_change_has_its_reason_in_words() -> None:
    card = probe(ChatTemplate("test", NO_SYSTEM, TOKENS))
    assert fit_plan(card, Features(system=True, parts=True)) == [
        Change("parts", "flatten", "content that is a list of parts is printed as code"),
        Change("system_turns", "fold", "a system message is dropped"),
    ]
    thinker = probe(ChatTemplate("test", THINKER, TOKENS))
    assert fit_plan(thinker, Features(text_arguments=True)) == [
        Change("arguments", "object", "arguments given as text would be escaped twice")
    ]
