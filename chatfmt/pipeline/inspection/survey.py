"""Read all rows of a finished conversion to find its columns and the length of the longest row."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ... import sources
from ...checks.weights import LOSS_MASK, unread_weights
from ...json_columns import decode_values, is_turns
from ...schema import MEDIA, TRAIN_KEYS, IgnoredWeights
from ...sources import ParseOptions
from ...turn_columns import IntArray, lengths_of, role_is, rows_of_turns


class Survey(Struct, frozen=True):
    """The result of reading all rows of a folder."""

    columns: tuple[str, ...]
    longest: int
    """The bytes of text in the longest row."""
    paths: tuple[str, ...]
    """The columns of media that have relative paths."""
    weighted: frozenset[IgnoredWeights]
    """The kinds of weights that an answer in `messages` has: those that a trainer may ignore, and train in full."""
    has_earlier_answers: bool
    """Whether a row has several answers in `messages`."""


def survey(folder: Path) -> Survey:
    """Return what the rows in a folder that chatfmt wrote hold."""
    source = sources.resolve(str(folder), split="all", options=ParseOptions(allow_empty=True))
    names: dict[str, None] = {}
    paths: dict[str, None] = {}
    longest, weighted, has_earlier_answers = 0, frozenset[IgnoredWeights](), False
    for shard in sources.plan_splits(source, "all"):
        for batch in (batch for part in shard for batch in sources.read(part, columns=None)):
            names |= dict.fromkeys(name for name in batch.schema.names if not name.startswith("#"))
            paths |= dict.fromkeys(
                name for name in MEDIA if name in batch.schema.names and has_paths(batch.column(name))
            )
            weighted |= weights_unread(batch)
            has_earlier_answers |= "messages" in batch.schema.names and any_earlier_answer(batch.column("messages"))
            if len(batch):
                longest = max(longest, int(np.sum(list(map(text_bytes, batch.columns)), axis=0).max()))
    return Survey(tuple(names), longest, tuple(paths), weighted, has_earlier_answers)


def has_paths(column: pa.Array) -> bool:
    """Return whether a column of media has a relative path."""
    if pa.types.is_list(column.type):
        rows = column.to_pylist() if pa.types.is_string(column.type.value_type) else []
    else:
        rows = decode_values(column)
    media = (medium for row in rows for medium in (row if isinstance(row, list) else [row]))
    return any(isinstance(medium, str) and not re.match(r"/|[a-z]+:", medium) for medium in media)


def weights_unread(batch: pa.RecordBatch) -> frozenset[IgnoredWeights]:
    """Return which kinds of weights an answer in `messages` has: those that a trainer may ignore, and train in full."""
    column = batch.column("messages") if "messages" in batch.schema.names else None
    turns = column.flatten() if column is not None and is_turns(column.type) else None
    if turns is None or {*TRAIN_KEYS, LOSS_MASK}.isdisjoint(field.name for field in turns.type):
        return frozenset()
    answers = role_is(turns, "assistant")
    levels: tuple[IgnoredWeights, ...] = ("fractions", "parts", "all")
    return frozenset(level for level in levels if any(answers[turn] for turn, *_ in unread_weights(turns, level)))


def any_earlier_answer(column: pa.Array) -> bool:
    """Return whether a row of turns has several answers."""
    if not is_turns(column.type):
        return False
    rows = rows_of_turns(column)[role_is(column.flatten(), "assistant")]
    return len(rows) > len(np.unique(rows))


def text_bytes(column: pa.Array) -> IntArray:
    """Return the bytes of text in each value of a column; a number in a list counts as one, media as nothing."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    type = column.type
    if pa.types.is_string(type) or pa.types.is_large_string(type):
        return np.asarray(pc.fill_null(pc.binary_length(column), 0), np.int64)
    if pa.types.is_struct(type):
        return np.asarray(sum(map(text_bytes, column.flatten()), np.zeros(len(column), np.int64)))
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        ends, lengths = np.cumsum(lengths_of(column)), lengths_of(column)
        sums = np.concatenate([[0], np.cumsum(text_bytes(column.flatten()))])
        return np.asarray(sums[ends] - sums[ends - lengths], np.int64)
    return np.full(len(column), int(pa.types.is_integer(type)), np.int64)
