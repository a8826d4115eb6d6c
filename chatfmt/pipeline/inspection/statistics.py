"""Statistics of output batches: turns per role, turns per row, characters per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ...json_columns import JSON, json_values, message_columns
from ...turn_columns import IntArray, lengths_of, rows_of_turns


class Spread(Struct, frozen=True):
    """The smallest, median and largest of some numbers; of an even count, the lower of the two in the middle."""

    smallest: int
    median: int
    largest: int


def count_roles(batch: pa.RecordBatch) -> Counter[str]:
    """Return the number of turns of each role in the batch."""
    return sum((count_roles_in_column(column) for _, column in message_columns(batch)), Counter[str]())


def count_turns(batch: pa.RecordBatch) -> IntArray:
    """Return the number of turns of each row, in all messages columns together; none without such a column."""
    counts = [lengths_of(column) for _, column in message_columns(batch)]
    return np.asarray(sum(counts, np.zeros(len(batch), np.int64))) if counts else np.zeros(0, np.int64)


def count_characters(batch: pa.RecordBatch) -> IntArray:
    """Return the number of characters of each row, in the content of its turns and in text outside turns."""
    total = np.zeros(len(batch), np.int64)
    for rows, texts in texts_of(batch):
        sizes = pc.utf8_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
        total += np.bincount(rows, sizes, len(batch)).astype(np.int64)
    return total


def texts_of(batch: pa.RecordBatch) -> Iterator[tuple[IntArray, pa.StringArray]]:
    """Yield the texts of the turns, then those outside turns, each column with the row of each of its texts."""
    for _, column in message_columns(batch):
        turns = column.flatten()
        if turns.type.get_field_index("content") >= 0:
            content = pc.struct_field(turns, "content")
            texts = texts_of_parts(content) if content.type == JSON else content
            yield from [(rows_of_turns(column), texts)] if texts.type == pa.string() else []
    for name in ("text", "completions"):
        column = batch.column(name) if name in batch.schema.names else pa.nulls(len(batch))
        if pa.types.is_list(column.type) and column.type.value_type == pa.string():
            yield rows_of_turns(column), column.flatten()
        elif column.type == pa.string():
            yield np.arange(len(batch)), column


def texts_of_parts(content: pa.Array) -> pa.StringArray:
    """Return the text of JSON content: itself, or that of its parts joined."""
    texts = [
        "".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
        if isinstance(value, list)
        else value
        for value in json_values(content)
    ]
    return pa.array([text if isinstance(text, str) else None for text in texts], pa.string())


def to_spread(numbers: Iterable[int]) -> Spread | None:
    """Return the spread of the numbers; None without numbers."""
    ordered = sorted(map(int, numbers))
    return Spread(ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]) if ordered else None


def count_roles_in_column(messages: pa.ListArray) -> Counter[str]:
    """Return the number of turns of each role."""
    counted = pc.value_counts(pc.struct_field(messages.flatten(), "role"))
    return Counter({item["values"]: item["counts"] for item in counted.to_pylist()})
