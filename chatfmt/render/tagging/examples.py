"""Conversations of every ordinary kind, from which it is learnt what a template trains. Each text is a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from ..masks.turn_boundaries import THINKING, as_parts
from ..single import Chat

Turn = Mapping[str, Any]
ARGUMENTS: tuple[Any, ...] = (
    {"first": "qxone", "second": 7},
    '{"first": "qxone"}',
    {"first": "qxone", "second": [True, None, {"third": "qxtwo"}], "fourth": {"fifth": 1.5}},
    {},
)
PARAMETERS: Turn = {
    "type": "object",
    "properties": {
        "first": {"type": "string", "description": "qxfirst", "enum": ["qxone", "qxtwo"]},
        "second": {"type": "array", "items": {"type": "integer"}, "description": "qxsecond"},
        "fourth": {"type": "object", "properties": {"fifth": {"type": "number", "description": "qxfifth"}}},
    },
    "required": ["first"],
}
TOOLS: Sequence[Turn] = [
    {"type": "function", "function": {"name": name, "description": "qxabout", "parameters": PARAMETERS}}
    for name in ("qxtool", "qxother")
]
PATTERNS = (
    "ua", "sua", "uaua", "suaua", "uauaua", "u", "su", "ur", "urua", "urur", "uaur", "ui", "uiua", "uaui", "ub",
    "uaub", "ubua", "uaa", "uua", "auau", "uasua", "dua", "dsua", "ssua", "uo", "uoua", "ue", "ueua",
)  # fmt: skip
"""One letter a message: system, developer, user, answer, answer with reasoning, with inline reasoning, without text.

Also answers with inline reasoning that is not ended (o) or empty (e).
"""
WITH_TOOLS = ("ua", "suaua")
"""Patterns without calls that are also given with tools."""
IN_PARTS = ("ua", "sua", "suaua", "ur", "uasua")
"""Patterns whose texts are also given as lists of parts."""
WITH_IMAGES = ("uv", "uw", "uvuw")
"""Patterns of answers with an image after the text (v) or before it (w)."""
CALLING = (
    "uc", "uct", "ucta", "suctaua", "uacta", "uxta", "uctcta", "umtta", "umt", "upta", "uctr", "urcta", "uptr",
    "ucctta", "uctua", "uatua", "uctru", "uxtua",
)  # fmt: skip
"""The same with calls: a call, one with text (x), with reasoning (p), two calls (m), and tool results."""
INLINE = {"i": "<think>\n{}\n</think>\n\n{}", "o": "<think>\n{}", "e": "<think>\n\n</think>\n\n{}"}


def examples(source: str, lead: Sequence[Turn], tools: Sequence[Any] | None) -> Iterator[Chat]:
    """Yield the conversations, each after the turns of `lead`, if it has no system message of its own."""
    for pattern in PATTERNS:
        turns = _turns(pattern, ARGUMENTS[0])
        yield Chat(_led(turns, lead), tools)
        if pattern in IN_PARTS:
            yield Chat(_led([as_parts(turn) for turn in turns], lead), tools)
    if "image" in source:
        yield from (Chat(_led(_turns(pattern, ARGUMENTS[0]), lead), tools) for pattern in WITH_IMAGES)
    for arguments in ARGUMENTS:
        for pattern in CALLING if arguments is ARGUMENTS[0] else CALLING[:4]:
            for given in (TOOLS, tools) if "tools" in source else (tools,):
                yield Chat(_led(_turns(pattern, arguments), lead), given)
    if "tools" in source:
        yield from (Chat(_led(_turns(pattern, ARGUMENTS[0]), lead), TOOLS) for pattern in WITH_TOOLS)
    for name in THINKING:
        if name in source:
            for on in (False, True):
                for pattern in ("ua", "suaua", "ucta", *(("ur", "urua", "uctr", "ui") if on else ())):
                    chat = Chat(_led(_turns(pattern, ARGUMENTS[0]), lead), tools, variables={name: on})
                    yield chat


def _led(turns: list[Turn], lead: Sequence[Turn]) -> list[Turn]:
    return turns if turns[0].get("role") == "system" else [*lead, *turns]


def _turns(pattern: str, arguments: Any) -> list[Turn]:
    words, ids, waiting, found = (f"qx{number}q" for number in count(10)), count(10), list[str](), list[Turn]()
    for letter in pattern:
        role = {"s": "system", "d": "developer", "u": "user", "t": "tool"}.get(letter, "assistant")
        turn: dict[str, Any] = {"role": role, "content": "" if letter in "bcmp" else next(words)}
        if letter in "rp":
            turn["reasoning_content"] = next(words)
        if letter in INLINE:
            turn["content"] = INLINE[letter].format(*(next(words) for _ in range(INLINE[letter].count("{}"))))
        if letter in "vw":
            turn["content"] = [{"type": "text", "text": turn["content"]}, {"type": "image"}][
                :: 1 if letter == "v" else -1
            ]
        if letter in "cxmp":
            new = [f"qxid000{next(ids)}" for _ in range(2 if letter == "m" else 1)]
            waiting += new
            turn["tool_calls"] = [_call(id, arguments) for id in new]
        if letter == "t":
            turn |= {"name": "qxtool", "tool_call_id": waiting.pop(0) if waiting else "qxid00099"}
        found.append(turn)
    return found


def _call(id: str, arguments: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "qxtool", "arguments": arguments}}
