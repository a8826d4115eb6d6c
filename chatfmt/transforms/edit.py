"""How a transform touches a messages column: only the rows and fields it concerns, everything else as it lies.

Columnar where a kernel can say it (`with_field`, `pick_turns`), in Python for the rows that need it (`edit_rows`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..json_columns import decode_conversations, is_turns
from ..schema import CONVERSATION_COLUMNS
from ..turn_columns import BoolArray, replace_rows, to_bools

Changed = tuple[pa.RecordBatch, Counter[str]]
Conversation = list[dict[str, Any]]

HEADS = ("messages", "prompt", "chosen", "rejected")
"""Columns in which a conversation may begin; `chosen` and `rejected` only where the row has no prompt."""
TAILS = ("messages", "completion", "chosen", "rejected")
"""Columns with which a conversation may end."""


def message_columns(batch: pa.RecordBatch, names: Sequence[str] = CONVERSATION_COLUMNS) -> Iterator[str]:
    """The names of those messages columns that the batch has."""
    for name in names:
        if name in batch.schema.names and is_turns(batch.schema.field(name).type):
            yield name


def heads(batch: pa.RecordBatch) -> Iterator[tuple[str, BoolArray]]:
    """The columns in which conversations begin, each with the rows that begin there."""
    prompted = np.zeros(len(batch), np.bool_)
    if "prompt" in batch.schema.names:
        prompted = to_bools(batch.column("prompt").is_valid())
    for name in message_columns(batch, HEADS):
        present = to_bools(batch.column(name).is_valid())
        yield name, present & ~prompted if name in ("chosen", "rejected") else present


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """The batch with this column in place of the one of its name, or as the last one."""
    place = batch.schema.get_field_index(name)
    if place < 0:
        return batch.append_column(name, column)
    return batch.set_column(place, name, column)


def edit_rows(
    column: pa.ListArray, rows: BoolArray, change: Callable[[Conversation], Conversation]
) -> tuple[pa.ListArray, BoolArray]:
    """The column with `change` applied to those rows, and the rows that differ from what they were.

    All other rows keep their bytes, and their types unless a field gets a value that its type cannot hold.
    """
    places = np.flatnonzero(rows)
    before = decode_conversations(column.take(pa.array(places)))
    after = [None if turns is None else change(turns) for turns in before]
    differs = np.array([new != old for new, old in zip(after, before, strict=True)], np.bool_)
    changed = np.zeros(len(column), np.bool_)
    changed[places[differs]] = True
    edited = [new for new, differs_ in zip(after, differs, strict=True) if differs_ and new is not None]
    return (replace_rows(column, changed, edited) if edited else column), changed
