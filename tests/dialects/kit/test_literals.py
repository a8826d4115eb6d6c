"""Lists and objects written as text: JSON, Python literals, several objects one after another."""

from __future__ import annotations

from typing import Any

import pytest

from chatfmt.dialects.kit.literals import read_literal, read_objects

from ..batches import convert

SAME = ("", "plain text", '"a string"', "12", "[1, 2", "{not: json}", "[open('f')]", "{1: 2} and more")
"""Texts that are no list and no object."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('[1, {"a": null}]', [1, {"a": None}]),
        (' {"a": 1.0, "b": "c"}\n', {"a": 1.0, "b": "c"}),
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        ("[('a', 1), ('b', 2)]", [["a", 1], ["b", 2]]),
        ("[{'a': 1}\n {'a': 2}]", [{"a": 1}, {"a": 2}]),
        ("""['a' "b's"\n 'c' '"d" "e"\\'' '']""", ["a", "b's", "c", """ "d" "e"' """.strip(), ""]),
        ('{"a": 1}, {"b": 2}', [{"a": 1}, {"b": 2}]),
        ('{"a": 1}\n\n{"b": 2}', [{"a": 1}, {"b": 2}]),
    ],
)
def test_read_literal(text: str, value: Any) -> None:
    assert read_literal(text) == value
    assert read_objects(text) == value


@pytest.mark.parametrize("text", SAME)
def test_other_text_is_returned_unchanged(text: str) -> None:
    assert read_literal(text) is text
    assert read_objects(text) is text


@pytest.mark.parametrize("text", ["{1, 2}", "[b'a']", "[1j]"])
def test_a_literal_that_json_cannot_hold_is_text(text: str) -> None:
    assert read_literal(text) is text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('  {"a": {"b": "}{"}}{"c": []}  ', [{"a": {"b": "}{"}}, {"c": []}]),
        ('{"a": 1} {"a": 1} {"a": 1}', [{"a": 1}] * 3),
    ],
)
def test_read_objects_reads_objects_one_after_another(text: str, value: Any) -> None:
    assert read_objects(text) == value
    assert read_literal(text) is text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1} and {"b": 2}',
        '{"a": 1}{"b": }',
        'text {"a": 1}{"b": 2}',
    ],
)
def test_read_objects_returns_text_with_anything_else_in_it(text: str) -> None:
    assert read_objects(text) is text


def test_tools_may_be_objects_one_after_another() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    made, _ = convert([{"messages": turns, "tools": '{"name": "f"}\n{"name": "g"}'}])
    assert made[0]["tools"] == [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
