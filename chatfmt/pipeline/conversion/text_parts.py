"""Join the text parts of conversations that hold no other parts, so that their content is plain text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ...json_columns import JSON, dumps, is_turns, loads, message_columns, with_column
from ...schema import is_text_part
from ...turn_columns import any_turn, field, rows_of_turns, text_where_all_text, to_bools, with_field


def join_text_parts(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
    """Return the CONVERSATIONS batch with plain text for `[{"type": "text", "text": …}]`, and the rows that changed.

    A conversation with any other part stays as it is.
    """
    changed = np.zeros(len(batch), np.bool_)
    for name, column in message_columns(batch):
        if field(column.flatten(), "content").type == JSON:
            column, rows = _joined(column)
            batch, changed = with_column(batch, name, column), changed | rows
    return batch, int(changed.sum())


def _joined(column: pa.ListArray) -> tuple[pa.ListArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    contents: list[Any] = [text and loads(text) for text in field(column.flatten(), "content").to_pylist()]
    lists = np.array([isinstance(content, list) for content in contents], np.bool_)
    other = any_turn(column, np.array([holds_other_parts(content) for content in contents], np.bool_))
    rows = any_turn(column, lists) & ~other
    joins = lists & rows[rows_of_turns(column)]
    texts = ["".join(part["text"] for part in content) if join else content
             for content, join in zip(contents, joins.tolist(), strict=True)]  # fmt: skip
    absent = to_bools(field(column.flatten(), "content").is_null())
    json_texts = [None if null else dumps(text) for text, null in zip(texts, absent.tolist(), strict=True)]
    return text_where_all_text(with_field(column, "content", pa.array(json_texts, JSON))), rows


def holds_other_parts(content: Any) -> bool:
    """Return whether the content of a turn is a list with more than text parts."""
    return isinstance(content, list) and not all(map(is_text_part, content))


def any_other_parts(batch: pa.RecordBatch) -> bool:
    """Return whether a conversation in the batch has parts other than text."""
    columns = [column for column in batch.columns if is_turns(column.type)]
    contents = [content for column in columns if (content := field(column.flatten(), "content")).type == JSON]
    return any(text and holds_other_parts(loads(text)) for content in contents for text in content.to_pylist())
