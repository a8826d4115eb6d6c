"""Turns as Python values, for the dialects that parse what others leave as text."""

from __future__ import annotations

from ...errors import located
from ...schema import Turn
from ..kit.columns import Columns, SourceRow
from ..kit.roles import is_call_role, to_role
from ..kit.tool_calls import parse_calls
from .messages import find_messages_parts, turns_at


def read_plain_turns(record: SourceRow, columns: Columns) -> list[Turn]:
    """The turns of a record with the keys `role` and `content` and known roles, whatever they are called in it.

    A turn whose role says that its content is a call (`function_call`) has `tool_calls` in its place.
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
    """The turn with a known role, and with its call where the role says that the content writes one out."""
    role, text = turn["role"], turn.get("content")
    calls = parse_calls(text, columns) if isinstance(text, str) and is_call_role(role, columns.roles) else None
    known = {**turn, "role": to_role(role, columns.roles)}
    return known if calls is None else {**{key: known[key] for key in known if key != "content"}, "tool_calls": calls}


def find_written_parts(record: SourceRow, columns: Columns, mark: str) -> dict[str, str] | None:
    found = find_messages_parts(record, columns)
    if found is None:
        return None
    content = found.get("messages.content", "content")
    turns = turns_at(record, found["messages"]) or []
    return found if any(mark in turn[content] for turn in turns if isinstance(turn.get(content), str)) else None
