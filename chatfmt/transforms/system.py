"""What stands before the conversation: system and developer messages, and the names of roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, dumps
from ..turn_columns import (
    BoolArray,
    any_turn,
    encode_like,
    field,
    lengths_of,
    pick_turns,
    prepend,
    role_is,
    rows_of_turns,
    with_field,
)
from .edit import Changed, Conversation, edit_rows, heads, message_columns, with_column

SYSTEM = ("system", "developer")
JOINT = "\n\n"
"""What stands between two texts that a transform joins."""


def rename_roles(batch: pa.RecordBatch, names: Mapping[str, str]) -> Changed:
    """Turns whose role is a key of `names` get the role it maps to; counts rows.

    names: {"narrator": "system"}   narrator, user, assistant  →  system, user, assistant
    """
    changed = np.zeros(len(batch), np.bool_)
    for name in message_columns(batch):
        column = batch.column(name)
        turns = column.flatten()
        concerned = role_is(turns, *names)
        if concerned.any():
            batch = with_column(batch, name, with_field(column, "role", _renamed(field(turns, "role"), names)))
            changed |= any_turn(column, concerned)
    return batch, Counter(roles=int(changed.sum()))


def _renamed(role: pa.Array, names: Mapping[str, str]) -> pa.Array:
    in_json = role.type == JSON
    old = pa.array([dumps(name) if in_json else name for name in names], TEXT)
    new = pa.array([dumps(name) if in_json else name for name in names.values()], TEXT)
    found = new.take(pc.index_in(role.cast(TEXT), value_set=old))
    return pc.coalesce(found, role.cast(TEXT)).cast(role.type)


def developer_to_system(batch: pa.RecordBatch, value: str) -> Changed:
    """`system`: developer turns become system turns; counts rows."""
    batch, counts = rename_roles(batch, {"developer": "system"})
    return batch, Counter(developer=counts["roles"])


def default_system(batch: pa.RecordBatch, text: str) -> Changed:
    """A system turn with `text` goes first in every conversation without a system or developer turn; counts rows.

    A row with a prompt gets it there, one of chosen and rejected only in both; a row without turns stays as it is.
    """
    return _each_head(batch, "system", text, lambda column: ~any_turn(column, role_is(column.flatten(), *SYSTEM)))


def override_system(batch: pa.RecordBatch, text: str) -> Changed:
    """Every conversation begins with one system turn, with `text`; those that led before are gone; counts rows."""
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
    """Which turns are system or developer turns with none but such before them."""
    turns = column.flatten()
    others = np.cumsum(~role_is(turns, *SYSTEM))
    lengths = lengths_of(column)
    before = np.concatenate([[0], others])[np.cumsum(lengths) - lengths]
    return np.asarray(others == np.repeat(before, lengths), np.bool_)


def _each_head(batch: pa.RecordBatch, name: str, text: str, concerned: Any) -> Changed:
    changed = np.zeros(len(batch), np.bool_)
    for column_name, rows in heads(batch):
        column = batch.column(column_name)
        wanted = rows & (lengths_of(column) > 0) & concerned(column)
        if wanted.any():
            batch = with_column(batch, column_name, _with_first(column, wanted, text))
            changed |= wanted
    return batch, Counter({name: int(changed.sum())})


def _with_first(column: pa.ListArray, rows: BoolArray, text: str) -> pa.ListArray:
    """The messages column with a system turn first in each marked row."""
    return prepend(column, rows, encode_like(column.type.value_type, [{"role": "system", "content": text}]))


def system_turns(batch: pa.RecordBatch, value: str) -> Changed:
    """System and developer turns `fold` into the user turn after them, or `drop` out; counts rows.

        system "be kind", user "hi"   →  fold: user "be kind\\n\\nhi"   →  drop: user "hi"

    Folding leaves a system turn that no user turn follows where it is; content made of parts gets a text part.
    """
    return _without_system(batch, value, "system_turns", lambda column: role_is(column.flatten(), *SYSTEM))


def later_system(batch: pa.RecordBatch, value: str) -> Changed:
    """As `system_turns`, for system turns after the conversation has begun; those that lead it stay."""
    return _without_system(
        batch, value, "later_system", lambda column: role_is(column.flatten(), *SYSTEM) & ~_leading(column)
    )


def _without_system(batch: pa.RecordBatch, value: str, label: str, chosen: Any) -> Changed:
    changed = np.zeros(len(batch), np.bool_)
    for name in message_columns(batch):
        column = batch.column(name)
        turns = chosen(column)
        if not turns.any():
            continue
        rows = any_turn(column, turns)
        if value == "drop":
            column = pick_turns(column, ~turns)
        else:
            column, rows = edit_rows(column, rows, fold if label == "system_turns" else fold_later)
        batch, changed = with_column(batch, name, column), changed | rows
    return batch, Counter({label: int(changed.sum())})


def fold_later(turns: Conversation) -> Conversation:
    """The conversation with the system turns after its beginning joined to the user turns that follow them."""
    begin = next((place for place, turn in enumerate(turns) if turn.get("role") not in SYSTEM), len(turns))
    return turns[:begin] + fold(turns[begin:])


def fold(turns: Conversation) -> Conversation:
    """The conversation with every system turn joined to the next user turn; one that none follows stays."""
    folded: Conversation = []
    waiting: list[Any] = []
    for turn in reversed(turns):
        if turn.get("role") == "user" and is_joinable(turn.get("content")):
            folded.append(turn)
            waiting = [len(folded) - 1]
        elif turn.get("role") in SYSTEM and is_joinable(turn.get("content")) and waiting:
            user = folded[waiting[0]]
            folded[waiting[0]] = {**user, "content": join([turn["content"], user["content"]])}
        else:
            folded.append(turn)
    return folded[::-1]


def is_joinable(content: Any) -> bool:
    """Whether content is text or parts."""
    return isinstance(content, (str, list))


def join(contents: list[Any], joint: str = JOINT) -> Any:
    """Contents as one: texts joined by `joint`; where one is made of parts, all of them as parts in order.

    Empty text adds nothing.
    """
    said = [content for content in contents if content not in ("", [])]
    if all(isinstance(content, str) for content in said):
        return joint.join(said)
    parts: list[Any] = []
    for content in said:
        parts += content if isinstance(content, list) else [{"type": "text", "text": content}]
    return parts
