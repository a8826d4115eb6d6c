"""Conversations measured in tokens: those that are too long stop the run, are left out, or become several rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ... import tokens
from ...json_columns import decode_conversations, encode_conversations
from ...tokens import Tokenizer
from ...views.batch import RenderableBatch, whole_conversations
from .row_counts import RowCounts

Turns = Sequence[Mapping[str, Any]]


def within(batch: RenderableBatch, tokenizer: Tokenizer, limit: int, policy: str, counts: RowCounts) -> pa.RecordBatch:
    """The batch without conversations of more than `limit` tokens, as `policy` (`--over-length`) asks.

    Raises CheckError for the first of them if the policy is `error`, and for an exchange that is too long by itself.
    """
    errors = tokens.over_length(tokenizer.count(batch.render(whole_conversations(batch)).text), limit)
    if not errors:
        return batch.record_batch
    if policy == "error":
        raise errors[0]
    places = [error.at.row for error in errors if error.at.row is not None]
    counts.changes[f"over_length.{policy}"] += len(places)
    if policy == "drop":
        kept = np.ones(len(batch.record_batch), bool)
        kept[places] = False
        counts.filtered += len(places)
        return batch.record_batch.filter(pa.array(kept))
    return _split(batch, tokenizer, limit, dict(zip(places, errors, strict=True)))


def _split(batch: RenderableBatch, tokenizer: Tokenizer, limit: int, errors: Mapping[int, Exception]) -> pa.RecordBatch:
    """The batch with each long conversation as several rows, all other columns repeated."""
    conversations = decode_conversations(batch.required("messages"))
    pieces: list[Turns | None] = []
    origin: list[int] = []
    for row, turns in enumerate(conversations):
        parts = [turns] if row not in errors else tokens.split_turns(turns or (), fits(batch, row, tokenizer, limit))
        if parts is None:
            raise errors[row]
        pieces += parts
        origin += [row] * len(parts)
    made = batch.record_batch.take(pa.array(origin))
    return made.set_column(made.schema.get_field_index("messages"), "messages", encode_conversations(pieces))


def fits(batch: RenderableBatch, row: int, tokenizer: Tokenizer, limit: int) -> Callable[[Turns], bool]:
    """Whether some turns, rendered with the tools and variables of that row, are at most `limit` tokens."""
    alone = batch.take(pa.array([row]))

    def measure(turns: Turns) -> bool:
        text = alone.render(encode_conversations([turns])).text
        return int(tokenizer.count(text)[0].as_py()) <= limit

    return measure
