"""Turns as Python values, for dialects that parse the text of turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ...errors import located
from ...field_path import value_at
from ...schema import Turn
from ..kit.columns import Columns, SourceRow
from ..kit.roles import is_call_role, to_role
from ..kit.tool_calls import parse_calls, required_calls, split_thought
from .messages import find_messages_parts
from .turns import CONTENT_KEYS, ROLE_KEYS, find_turn_keys, role_name, turns_at


def read_plain_turns(record: SourceRow, columns: Columns, most: int | None = None) -> list[Turn]:
    """Return the turns of a row, or the first ones, with keys and roles renamed to the usual ones.

    The content of a turn with a role such as `function_call` becomes `tool_calls`. Raises DialectError `msg.role`.
    """
    return plain_turns(turns_at(record, columns.path("messages") or "messages") or [], columns, most)


def with_preamble(columns: Columns) -> Columns:
    """Return the columns with the system text as the part `preamble`, which the dialect itself makes a turn of."""
    path = columns.path("system")
    if path is None:
        return columns
    fields, late = ({k: v for k, v in each.items() if k != "system"} for each in (columns.fields, columns.late))
    return replace(columns, fields={**fields, "preamble": path}, late=late)


def turns_after_preamble(record: SourceRow, columns: Columns, most: int | None = None) -> list[Turn]:
    """Return the turns of a row, or the first ones, after a system turn of its `preamble`, if that is text.

    Raises as above.
    """
    text = value_at(record, columns.path("preamble") or "")
    first: list[Turn] = [{"role": "system", "content": text}] if isinstance(text, str) and text.strip() else []
    return first + read_plain_turns(record, columns, most)


def plain_turns(turns: Sequence[Mapping[str, Any]], columns: Columns, most: int | None = None) -> list[Turn]:
    """Return turns, or the first ones, with keys and roles renamed to the usual ones; raises as above."""
    keys = find_turn_keys(turns, columns) or {}
    return [_plain_turn(turn, message, keys, columns) for message, turn in enumerate(turns[:most])]


def _plain_turn(turn: Mapping[str, Any], message: int, keys: Mapping[str, str], columns: Columns) -> Turn:
    wanted: dict[str, tuple[str | None, ...]]
    wanted = {"role": (keys.get("messages.role"), *ROLE_KEYS), "content": (keys.get("messages.content"), *CONTENT_KEYS),
              "reasoning_content": (columns.fields.get("messages.reasoning"),)}  # fmt: skip
    own = {new: next((key for key in names if turn.get(key or "") is not None), None) for new, names in wanted.items()}
    names = {old: new for new, old in own.items() if old is not None}
    with located(message=message):
        renamed = {names.get(key, key): value for key, value in turn.items() if key in names or own.get(key) is None}
        return _read_call({**renamed, "role": role_name(renamed.get("role"))}, columns)


def _read_call(turn: Turn, columns: Columns) -> Turn:
    """Return the turn with its role renamed, and with `tool_calls` if it has them or its role says so."""
    role, text = turn["role"], turn.get("content")
    known = {**turn, "role": to_role(role, columns.roles)}
    if turn.get("tool_calls"):
        return {**known, "tool_calls": required_calls(turn["tool_calls"], columns)}
    if not (isinstance(text, str) and is_call_role(role, columns.roles)):
        return known
    thought, rest = split_thought(text)
    calls = parse_calls(rest, columns)
    if calls is None:
        return known
    kept = {key: value for key, value in known.items() if key != "content"}
    return {**kept, **({} if thought is None else {"content": thought}), "tool_calls": calls}


def find_written_parts(record: SourceRow, columns: Columns, *marks: str) -> dict[str, str] | None:
    """Return the parts of a row with turns of which one contains one of `marks`."""
    found = find_messages_parts(record, columns) if mentions(record, *marks) else None
    if found is None:
        return None
    content = found.get("messages.content", "content")
    texts = [turn[content] for turn in turns_at(record, found["messages"]) or [] if isinstance(turn.get(content), str)]
    return found if any(mark in text for mark in marks for text in texts) else None


def mentions(record: SourceRow, *marks: str) -> bool:
    """Return whether a text of a row, or of a turn in it, contains one of `marks`: a quick look."""
    for value in record.values():
        for text in (value,) if isinstance(value, str) else _texts_of_turns(value) if isinstance(value, list) else ():
            for mark in marks:  # half the time of `any`
                if mark in text:
                    return True
    return False


def _texts_of_turns(turns: Sequence[Any]) -> Iterator[str]:
    """Yield the texts in a list of objects or of texts."""
    for turn in turns:
        if isinstance(turn, str):
            yield turn
        elif isinstance(turn, dict):
            for text in turn.values():  # half the time of `yield from`, and of `Mapping`
                if isinstance(text, str):
                    yield text
