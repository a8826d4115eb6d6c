# ruff: noqa: E501
"""JSON rows that are not conversations, or whose names clash with chatfmt's own."""

from __future__ import annotations

import json
from typing import Any

from .case import GOOD, Bad, Case, Error, Kept, lines

OK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


def second(name: str, messages: Any, code: str, says: str = "", **more: Any) -> Case:
    row = json.dumps({"messages": messages, **more}, ensure_ascii=False, separators=(",", ":")).encode()
    return Case(name, {"in.jsonl": lines(GOOD, row, GOOD)}, Bad(code, says))


def beside(title: str, /, **columns: Any) -> Case:
    """A row with more keys than the messages, which must come through as they are."""
    row = json.dumps({"messages": OK, **columns}, ensure_ascii=False, separators=(",", ":")).encode()
    return Case(f"beside, {title}", {"in.jsonl": lines(row, row)}, Kept())


def turn(title: str, /, **keys: Any) -> Case:
    """A turn with more keys than role and content, which must come through as they are."""
    row = json.dumps({"messages": [OK[0], {**OK[1], **keys}]}, ensure_ascii=False, separators=(",", ":")).encode()
    return Case(f"turn, {title}", {"in.jsonl": lines(GOOD, row, GOOD)}, Kept())


CASES: list[Case] = [
    second("messages is text", "hi", "col.type"), second("messages is a number", 7, "col.type"), second("messages is an object", {"role": "user"}, "msg.content"), second("messages is true", True, "col.type"),
    second("a turn is null", [OK[0], None], "msg.type"), second("a turn is a list", [OK[0], []], "msg.type"), second("a turn is a number", [1], "msg.type"),
    second("no role", [{"content": "hi"}], "msg.role"), second("role is null", [{"role": None, "content": "hi"}], "msg.role"), second("role is empty", [{"role": "", "content": "hi"}], "msg.role"),
    second("role is a number", [{"role": 1, "content": "hi"}], "msg.role"), second("role is a list", [{"role": ["user"], "content": "hi"}], "msg.role"),
    second("role with a space", [{"role": "user ", "content": "hi"}], "msg.role"), second("role in other letters", [{"role": "usеr", "content": "hi"}], "msg.role"), second("an unknown role", [{"role": "robot", "content": "hi"}], "msg.role"),
    second("role with a hidden character", [{"role": "user\u200b", "content": "hi"}], "msg.role"), second("role of markup", [{"role": "[bold]user[/bold]", "content": "hi"}], "msg.role"), second("role of Jinja", [{"role": "{{ x }}", "content": "hi"}], "msg.role"),
    second("role of ten thousand letters", [{"role": "x" * 10_000, "content": "hi"}], "msg.role"), second("content is a number", [{"role": "user", "content": 1}], "msg.type"), second("content is true", [{"role": "user", "content": True}], "msg.type"),
    second("no messages", None, "col.null"), Case("an empty list", {"in.jsonl": lines(GOOD, b'{"messages":[]}', GOOD)}, Kept()),
    *(beside(f"a column named {name}", **{name: "x"}) for name in ("row", "label", "text", "segments", "labels", "completions")),
    Case("a column that cannot be kept", {"in.jsonl": lines(json.dumps({"messages": OK, "text": "x"}).encode())}, Error(2, "", "the column `text` cannot be kept: the output needs the name"), ("convert", "in.jsonl", "-o", "out.jsonl", "-t", "chatml", "--keep", "text")),
    beside("an empty name", **{"": 1}), beside("a name with a dot", **{"a.b": [1]}), beside("names of the engine", loop=1, self="x", namespace={}, range=[]), beside("odd names", **{"\x00": 1, "\n": 2, "\u202e": 3, "[/bold]": 4}),
    beside("data", big=2**70, small=-(2**70), double=1.0, none=None, nested=[[{"a": None}]], text2="None"), beside("a name of a thousand letters", **{"x" * 1000: 1}), beside("a thousand names", **{f"k{n}": n for n in range(1000)}),
    turn("name", name="bob"), turn("weight", weight=0), turn("null", name=None), turn("tool calls", tool_calls=[{"type": "function", "function": {"name": "f", "arguments": {"x": 1.0, "y": None, "z": 2**70}}}]),
    turn("odd keys", **{"": 1, "a b": [], "#x": None}), turn("reasoning", reasoning_content="because"), turn("dunder keys", __class__="x", __init__=1), turn("an empty list", tool_calls=[]),
]  # fmt: skip
