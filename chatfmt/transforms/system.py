"""System and developer turns, and role names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, dumps, message_columns, with_column
from ..schema import Conversation, Turn
from ..turn_columns import (
    BoolArray,
    any_turn,
    encode_like,
    field,
    lengths_of,
    marked_so_far,
    pick_turns,
    positions_of_turns,
    prepend,
    role_is,
    rows_of_turns,
    with_field,
)
from .edit import Changed, drop_turns, edit_conversations, heads

SYSTEM = ("system", "developer")
JOINT = "\n\n"
"""The separator of texts that a transform joins."""


def rename_roles(batch: pa.RecordBatch, names: Mapping[str, str]) -> Changed:
    """Rename the roles that are keys of `names`; counts rows.

    names: {"narrator": "system"}   narrator, user, assistant  →  system, user, assistant
    """
    changed = np.zeros(len(batch), np.bool_)
    for name, column in message_columns(batch):
        turns = column.flatten()
        concerned = role_is(turns, *names)
        if concerned.any():
            batch = with_column(batch, name, with_field(column, "role", _rename(field(turns, "role"), names)))
            changed |= any_turn(column, concerned)
    return batch, Counter(roles=int(changed.sum()))


def _rename(role: pa.Array, names: Mapping[str, str]) -> pa.Array:
    in_json = role.type == JSON
    old = pa.array([dumps(name) if in_json else name for name in names], TEXT)
    new = pa.array([dumps(name) if in_json else name for name in names.values()], TEXT)
    found = new.take(pc.index_in(role.cast(TEXT), value_set=old))
    return pc.coalesce(found, role.cast(TEXT)).cast(role.type)


def developer_to_system(batch: pa.RecordBatch, value: str) -> Changed:
    """`system`: make developer turns system turns; counts rows."""
    batch, counts = rename_roles(batch, {"developer": "system"})
    return batch, Counter(developer=counts["roles"])


def default_system(batch: pa.RecordBatch, text: str) -> Changed:
    """Put a system turn with `text` first in conversations without a system or developer turn; counts rows.

    A row with a prompt gets it there, a row of chosen and rejected in both; a row without turns stays as it is.
    """
    changed = np.zeros(len(batch), np.bool_)
    for name, begins in heads(batch):
        column = batch.column(name)
        rows = begins & (lengths_of(column) > 0) & ~any_turn(column, role_is(column.flatten(), *SYSTEM))
        if rows.any():
            batch = with_column(batch, name, _with_first(column, rows, text))
            changed |= rows
    return batch, Counter(system=int(changed.sum()))


def override_system(batch: pa.RecordBatch, text: str) -> Changed:
    """Replace the system turns at the start of every conversation with one system turn with `text`; counts rows."""
    changed = np.zeros(len(batch), np.bool_)
    for name, rows in heads(batch):
        column = batch.column(name)
        other = rows & (lengths_of(column) > 0) & ~_begins_with_only(column, text)
        if other.any():
            kept = pick_turns(column, ~(_leading(column) & other[rows_of_turns(column)]))
            batch = with_column(batch, name, _with_first(kept, other, text))
            changed |= other
    return batch, Counter(system_override=int(changed.sum()))


def _begins_with_only(column: pa.ListArray, text: str) -> BoolArray:
    turns = column.flatten()
    content = field(turns, "content")
    wanted = dumps(text) if content.type == JSON else text
    same = pc.equal(content, pa.scalar(wanted, content.type)) if content.type in (TEXT, JSON) else None
    first = _leading(column) & role_is(turns, "system")
    alone = np.bincount(rows_of_turns(column)[_leading(column)], minlength=len(column)) == 1
    fits = first & np.asarray(pc.fill_null(same, False)) if same is not None else np.zeros(len(turns), np.bool_)
    return np.asarray(any_turn(column, fits) & alone, np.bool_)


def _leading(column: pa.ListArray) -> BoolArray:
    """Mark the system and developer turns that only such turns precede."""
    return np.asarray(marked_so_far(column, ~role_is(column.flatten(), *SYSTEM)) == 0, np.bool_)


def _with_first(column: pa.ListArray, rows: BoolArray, text: str) -> pa.ListArray:
    """The messages column with a system turn first in each marked row."""
    return prepend(column, rows, encode_like(column.type.value_type, [{"role": "system", "content": text}]))


def system_turns(batch: pa.RecordBatch, value: str) -> Changed:
    """`fold` system and developer turns into the user turn after them, or `drop` them; counts rows.

        system "be kind", user "hi"   →  fold: user "be kind\\n\\nhi"   →  drop: user "hi"

    A system turn that no user turn follows is not folded; content made of parts gets a text part.
    """
    if value == "drop":
        return drop_turns(batch, "system_turns", _system_turns)
    return edit_conversations(batch, "system_turns", _system_turns, fold)


def leading_system(batch: pa.RecordBatch, value: str) -> Changed:
    """`join` the system and developer turns that start a conversation into the first of them; counts rows.

        system "be kind", developer "be brief", user "hi"   →   system "be kind\\n\\nbe brief", user "hi"

    A turn with other keys than the first, such as another `name`, stays as it is.
    """
    return edit_conversations(batch, "leading_system", _more_leading, join_leading)


def _more_leading(column: pa.ListArray) -> BoolArray:
    """Mark the system and developer turns that start a conversation, except the first."""
    return _leading(column) & (positions_of_turns(column) > 0)


def join_leading(turns: Conversation) -> Conversation:
    """Join the system turns that start the conversation to the first, as far as their other keys agree."""
    end = next((index for index, turn in enumerate(turns) if turn.get("role") not in SYSTEM), len(turns))
    joined: Conversation = []
    for turn in turns[:end]:
        if joined and is_joinable(turn.get("content")) and _without_text(joined[-1]) == _without_text(turn):
            joined[-1] = {**joined[-1], "content": join([joined[-1]["content"], turn["content"]])}
        else:
            joined.append(turn)
    return joined + turns[end:]


def _without_text(turn: Turn) -> dict[str, Any]:
    """Return what decides whether a system turn can be joined: all but role and content, and whether it has content."""
    others = {key: value for key, value in turn.items() if key not in ("role", "content") and value is not None}
    return {**others, "content": is_joinable(turn.get("content"))}


def later_system(batch: pa.RecordBatch, value: str) -> Changed:
    """`fold` or `drop` system turns as `system_turns` does, except those that start the conversation."""
    if value == "drop":
        return drop_turns(batch, "later_system", _later_system_turns)
    return edit_conversations(batch, "later_system", _later_system_turns, fold_later)


def _system_turns(column: pa.ListArray) -> BoolArray:
    return role_is(column.flatten(), *SYSTEM)


def _later_system_turns(column: pa.ListArray) -> BoolArray:
    return _system_turns(column) & ~_leading(column)


def fold_later(turns: Conversation) -> Conversation:
    """Join system turns to the user turns that follow them, except those that start the conversation."""
    start = next((index for index, turn in enumerate(turns) if turn.get("role") not in SYSTEM), len(turns))
    return turns[:start] + fold(turns[start:])


def fold(turns: Conversation) -> Conversation:
    """Join every system turn to the next user turn, if there is one."""
    folded: Conversation = []
    user: int | None = None  # the index of the next user turn
    for turn in reversed(turns):
        if turn.get("role") == "user" and is_joinable(turn.get("content")):
            user = len(folded)
            folded.append(turn)
        elif turn.get("role") in SYSTEM and is_joinable(turn.get("content")) and user is not None:
            folded[user] = {**folded[user], "content": join([turn["content"], folded[user]["content"]])}
        else:
            folded.append(turn)
    return folded[::-1]


def is_joinable(content: Any) -> bool:
    """Return whether content is text or parts."""
    return isinstance(content, (str, list))


def join(contents: list[Any], joint: str = JOINT) -> Any:
    """Join contents that are not empty: texts by `joint`, or all of them as parts if one is made of parts."""
    filled = [content for content in contents if content not in ("", [])]
    if all(isinstance(content, str) for content in filled):
        return joint.join(filled)
    parts: list[Any] = []
    for content in filled:
        parts += content if isinstance(content, list) else [{"type": "text", "text": content}]
    return parts
