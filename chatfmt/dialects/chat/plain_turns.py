"""Turns as Python values, for dialects that parse the text of turns."""

from __future__ import annotations

from ...errors import located
from ...schema import Turn
from ..kit.columns import Columns, SourceRow
from ..kit.roles import is_call_role, to_role
from ..kit.tool_calls import parse_calls
from .messages import find_messages_parts, turns_at


def read_plain_turns(record: SourceRow, columns: Columns) -> list[Turn]:
    """Return the turns of a row with keys and roles renamed to the usual ones.

    The content of a turn with a role such as `function_call` becomes `tool_calls`. Raises DialectError `msg.role`.
    """
    role, content = (columns.fields.get(f"messages.{key}", key) for key in ("role", "content"))
    names = {role: "role", content: "content"}
    turns = []
    for message, turn in enumerate(turns_at(record, columns.path("messages") or "messages") or []):
        with located(message=message):
            renamed = {names.get(key, key): value for key, value in turn.items()}
            turns.append(_read_call({**renamed, "role": str(renamed.get("role"))}, columns))
    return turns


def _read_call(turn: Turn, columns: Columns) -> Turn:
    """Return the turn with its role renamed, and with `tool_calls` if the role says that its content is a call."""
    role, text = turn["role"], turn.get("content")
    calls = parse_calls(text, columns) if isinstance(text, str) and is_call_role(role, columns.roles) else None
    known = {**turn, "role": to_role(role, columns.roles)}
    return known if calls is None else {**{key: known[key] for key in known if key != "content"}, "tool_calls": calls}


def find_written_parts(record: SourceRow, columns: Columns, text: str) -> dict[str, str] | None:
    """Return the parts of a row with turns of which one contains `text`."""
    found = find_messages_parts(record, columns)
    if found is None:
        return None
    content = found.get("messages.content", "content")
    turns = turns_at(record, found["messages"]) or []
    return found if any(text in turn[content] for turn in turns if isinstance(turn.get(content), str)) else None
