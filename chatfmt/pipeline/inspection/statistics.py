"""Statistics of output batches: turns per role, turns per row, characters per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ...json_columns import JSON, is_turns, json_values
from ...schema import CONVERSATION_COLUMNS


class Spread(Struct, frozen=True):
    """The smallest, median and largest of some numbers."""

    smallest: int
    median: int
    largest: int


def turns_of(batch: pa.RecordBatch) -> Iterator[pa.ListArray]:
    """Yield the messages columns of an output batch."""
    for name in CONVERSATION_COLUMNS:
        if name in batch.schema.names and is_turns(batch.column(name).type):
            yield batch.column(name)


def count_roles(batch: pa.RecordBatch) -> Counter[str]:
    """Return the number of turns of each role in the batch."""
    return sum((count_roles_in_column(column) for column in turns_of(batch)), Counter[str]())


def count_turns(batch: pa.RecordBatch) -> list[int]:
    """Return the number of turns of each row, in all messages columns together."""
    counts = [column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for column in turns_of(batch)]
    return [int(count) for count in sum(counts, np.zeros(len(batch), int))] if counts else []


def count_characters(batch: pa.RecordBatch) -> list[int]:
    """Return the number of characters of each row, in the content of its turns and in text outside turns."""
    total = np.zeros(len(batch), int)
    for column in turns_of(batch):
        flat = column.flatten()
        if flat.type.get_field_index("content") >= 0:
            content = pc.struct_field(flat, "content")
            add_characters(total, column, texts_of_parts(content) if content.type == JSON else content)
    for name in ("text", "completions"):
        column = batch.column(name) if name in batch.schema.names else pa.nulls(len(batch))
        if pa.types.is_list(column.type) and column.type.value_type == pa.string():
            add_characters(total, column, column.flatten())
        elif column.type == pa.string():
            total += pc.utf8_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return [int(count) for count in total]


def texts_of_parts(content: pa.Array) -> pa.StringArray:
    """Return the text of JSON content: itself, or that of its parts joined."""
    texts = [
        "".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
        if isinstance(value, list)
        else value
        for value in json_values(content)
    ]
    return pa.array([text if isinstance(text, str) else None for text in texts], pa.string())


def add_characters(total: np.ndarray[Any, Any], lists: pa.ListArray, texts: pa.StringArray) -> None:
    """Add to the `total` of each row the characters of the items of its list; `texts` are the items of all rows."""
    sizes = pc.utf8_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    np.add.at(total, rows, sizes)


def to_spread(numbers: Iterable[int]) -> Spread | None:
    """Return the spread of the numbers; None without numbers."""
    ordered = sorted(numbers)
    return Spread(ordered[0], ordered[len(ordered) // 2], ordered[-1]) if ordered else None


def count_roles_in_column(messages: pa.ListArray) -> Counter[str]:
    """Return the number of turns of each role."""
    counted = pc.value_counts(pc.struct_field(messages.flatten(), "role"))
    return Counter({item["values"]: item["counts"] for item in counted.to_pylist()})
