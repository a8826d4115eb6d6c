"""Change the messages columns of a batch: only the rows concerned are decoded, and all others keep their bytes.

What a kernel of `turn_columns` can do is not done here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ..json_columns import decode_conversations, integers, message_columns, with_column
from ..schema import CONVERSATION_COLUMNS, Conversation
from ..turn_columns import BoolArray, any_turn, pick_turns, replace_rows, rows_of_turns, to_bools

Changed = tuple[pa.RecordBatch, Counter[str]]

HEADS = ("messages", "prompt", "chosen", "rejected")
"""Columns in which a conversation may begin; `chosen` and `rejected` only in rows without a prompt."""
TAILS = ("messages", "completion", "chosen", "rejected")
"""Columns in which a conversation may end."""


def all_rows(batch: pa.RecordBatch, names: Sequence[str] = CONVERSATION_COLUMNS) -> Iterator[tuple[str, BoolArray]]:
    """Yield each messages column of these names, with all of its rows marked."""
    return ((name, np.ones(len(batch), np.bool_)) for name, _ in message_columns(batch, names))


def heads(batch: pa.RecordBatch) -> Iterator[tuple[str, BoolArray]]:
    """Yield each column in which conversations begin, with the rows that begin there."""
    prompted = np.zeros(len(batch), np.bool_)
    if "prompt" in batch.schema.names:
        prompted = to_bools(batch.column("prompt").is_valid())
    for name, column in message_columns(batch, HEADS):
        present = to_bools(column.is_valid())
        yield name, present & ~prompted if name in ("chosen", "rejected") else present


def edit_conversations(
    batch: pa.RecordBatch,
    transform: str,
    concerned: Callable[[pa.ListArray], BoolArray],
    change: Callable[[Conversation], Conversation],
    *,
    after_prompt: bool = False,
) -> Changed:
    """Apply `change` to the conversations with a turn that `concerned` marks; counts rows under `transform`.

    `after_prompt`: what continues a prompt is changed as one conversation with it; `change` keeps the number of turns.
    """
    changed = np.zeros(len(batch), np.bool_)
    prompts = batch.column("prompt") if after_prompt and "prompt" in batch.schema.names else None
    for name, column in message_columns(batch):
        rows = any_turn(column, concerned(column))
        if rows.any():
            column, rows = edit_rows(column, rows, change, None if name == "prompt" else prompts)
            batch, changed = with_column(batch, name, column), changed | rows
    return batch, Counter({transform: int(changed.sum())})


def drop_turns(
    batch: pa.RecordBatch,
    transform: str,
    chosen: Callable[[pa.ListArray], BoolArray],
    within: Iterable[tuple[str, BoolArray]] | None = None,
) -> Changed:
    """Drop the turns that `chosen` marks in rows `within`, by default in all; counts rows under `transform`."""
    changed = np.zeros(len(batch), np.bool_)
    for name, rows in within or all_rows(batch):
        column = batch.column(name)
        turns = chosen(column) & rows[rows_of_turns(column)]
        if turns.any():
            changed |= any_turn(column, turns)
            batch = with_column(batch, name, pick_turns(column, ~turns))
    return batch, Counter({transform: int(changed.sum())})


def edit_rows(
    column: pa.ListArray,
    rows: BoolArray,
    change: Callable[[Conversation], Conversation],
    prompts: pa.ListArray | None = None,
) -> tuple[pa.ListArray, BoolArray]:
    """Apply `change` to the marked rows, after their `prompts`; returns the column and the rows that differ.

    A field keeps its type unless it gets a value that the type cannot hold.
    """
    indexes = np.flatnonzero(rows)
    before = decode_conversations(column.take(integers(indexes)))
    heads = [[]] * len(before) if prompts is None else decode_conversations(prompts.take(integers(indexes)))
    after = [
        None if turns is None else change([*(head or []), *turns])[len(head or []) :]
        for head, turns in zip(heads, before, strict=True)
    ]
    differs = np.array([new != old for new, old in zip(after, before, strict=True)], np.bool_)
    changed = np.zeros(len(column), np.bool_)
    changed[indexes[differs]] = True
    edited = [new for new, old in zip(after, before, strict=True) if new is not None and new != old]
    return (replace_rows(column, changed, edited) if edited else column), changed


def with_results(turns: Conversation) -> Iterator[Conversation]:
    """Yield the conversation in groups: a turn and the tool turns that follow it."""
    group: Conversation = []
    for turn in turns:
        if group and turn.get("role") != "tool":
            yield group
            group = []
        group.append(turn)
    if group:
        yield group
