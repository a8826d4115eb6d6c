"""Sample conversations to test a template with. Each text is a made-up word that no template prints by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..single import Chat

USER: Mapping[str, Any] = {"role": "user", "content": "qzuser"}
ANSWER: Mapping[str, Any] = {"role": "assistant", "content": "qzanswer"}
SECOND_USER: Mapping[str, Any] = {"role": "user", "content": "qzagain"}
SECOND_ANSWER: Mapping[str, Any] = {"role": "assistant", "content": "qzlast"}
SYSTEM: Mapping[str, Any] = {"role": "system", "content": "qzsystem"}
SECOND_SYSTEM: Mapping[str, Any] = {"role": "system", "content": "qzother"}
DEVELOPER: Mapping[str, Any] = {"role": "developer", "content": "qzsystem"}
NARRATOR: Mapping[str, Any] = {"role": "narrator", "content": "qznarrator"}
"""A message with a role that no template knows."""
ARGUMENTS = {"qzkey": "qzvalue"}
ARGUMENTS_TEXT = json.dumps(ARGUMENTS)
CALL_ID = "qzidqzid1"
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "qztool",
        "description": "qzdescription",
        "parameters": {"type": "object", "properties": {"qzkey": {"type": "string"}}, "required": ["qzkey"]},
    },
}
RESULT: Mapping[str, Any] = {"role": "tool", "name": "qztool", "tool_call_id": CALL_ID, "content": "qzresult"}
REASONING: Mapping[str, Any] = {**ANSWER, "reasoning_content": "qzthought"}
INLINE_REASONING: Mapping[str, Any] = {**ANSWER, "content": "<think>\nqzthought\n</think>\n\nqzanswer"}


def tool_call(arguments: Any, *, id: str | None = CALL_ID, name: str = "qztool") -> dict[str, Any]:
    """Return an assistant message with one tool call and no content."""
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": id, **call} if id else call]}


def usual_conversations() -> list[Chat]:
    """Return conversations of every ordinary kind, for reports on a template without the user's data."""
    turns = [
        (USER, ANSWER),
        (SYSTEM, USER, ANSWER),
        (USER, ANSWER, SECOND_USER, SECOND_ANSWER),
        (SYSTEM, USER, ANSWER, SECOND_USER, SECOND_ANSWER),
        (USER, REASONING),
        (USER, INLINE_REASONING),
        (USER, REASONING, SECOND_USER, SECOND_ANSWER),
    ]
    called = (USER, tool_call(ARGUMENTS), RESULT, SECOND_ANSWER)
    return [*map(Chat, turns), Chat((USER, ANSWER), [TOOL]), Chat(called, [TOOL])]
