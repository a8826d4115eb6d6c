"""Keep the columns of media in step with conversations that lost, moved or repeated turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..json_columns import decode_conversations, message_columns, with_column
from ..schema import MEDIA, Conversation
from ..turn_columns import lengths_of, replace_rows, to_bools
from .attach import COLUMN, NUMBER
from .columns import ColumnIndex, with_media


def follow(batch: pa.RecordBatch, names: Collection[str]) -> tuple[pa.RecordBatch, Counter[str]]:
    """Return the batch with the media that its numbered parts name, in their order, without the numbers.

    `names` are the columns of media that belong to parts. Also counts the rows that have lost a medium with a turn.
    """
    lists = {MEDIA[name]: batch.column(name) for name in names if name in batch.schema.names}
    rows = np.zeros(len(batch), np.bool_)
    for column in lists.values():
        rows |= lengths_of(column) > 0
    if not rows.any():
        return batch, Counter()
    found: list[dict[str, list[ColumnIndex]]] = [{kind: [] for kind in lists} for _ in range(int(rows.sum()))]
    for name, column in message_columns(batch):
        conversations = decode_conversations(column.filter(pa.array(rows)))
        edited = [
            without_numbers(turns, media)
            for turns, media in zip(conversations, found, strict=True)
            if turns is not None
        ]
        batch = with_column(batch, name, replace_rows(column, rows & to_bools(column.is_valid()), edited))
    changes: Counter[str] = Counter()
    for kind, column in lists.items():
        media = [row[kind] for row in found]
        lost = int((lengths_of(column)[rows] > [len(row) for row in media]).sum())
        changes[f"media.{COLUMN[kind]}_dropped"] += lost
        batch = with_column(batch, COLUMN[kind], with_media(column, rows, media))
    return batch, +changes


def without_numbers(turns: Conversation, media: Mapping[str, list[ColumnIndex]]) -> Conversation:
    """Return the turns without the numbers of their parts, which are added to `media` by kind, each once."""

    def strip(part: Any) -> Any:
        if not isinstance(part, Mapping) or NUMBER not in part:
            return part
        number, numbers = ColumnIndex(part[NUMBER]), media[part["type"]]
        if number not in numbers:
            numbers.append(number)
        return {key: value for key, value in part.items() if key != NUMBER}

    return [
        {**turn, "content": [strip(part) for part in turn["content"]]}
        if isinstance(turn.get("content"), list)
        else turn
        for turn in turns
    ]
