"""Say under one key whether an answer is trained."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..schema import TRAIN_FLAGS, Turn, train_flag
from ..turn_columns import BoolArray, train_flags
from .edit import Changed, edit_conversations


def change_weights(batch: pa.RecordBatch, key: str) -> Changed:
    """Write whether an answer is trained under `key`, whatever key says so; counts rows.

        {"role": "assistant", "content": "a", "loss_weight": 0.0}   →   {…, "weight": 0}   or   {…, "train": false}

    `weight` is 0 or 1, as OpenAI's API reads it, `loss` (ms-swift) and `train` (Axolotl) are true or false. Other turns
    lose such keys, as they are not trained either way. A value that is neither, such as 0.5, stays as it is.
    """
    return edit_conversations(batch, "weights", _flagged, lambda turns: [_with_key(turn, key) for turn in turns])


def _flagged(column: pa.ListArray) -> BoolArray:
    flags = train_flags(column.flatten())
    return np.array([bool(name) for name, _ in flags] or [False] * len(column.flatten()), np.bool_)


def _with_key(turn: Turn, key: str) -> Turn:
    name, value = train_flag(turn)
    if not name or value not in (0, 1):
        return turn
    bare = {name: value for name, value in turn.items() if name not in TRAIN_FLAGS}
    return {**bare, key: int(value) if key == "weight" else bool(value)} if turn.get("role") == "assistant" else bare
