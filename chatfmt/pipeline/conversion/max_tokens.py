"""Enforce `--max-tokens`: conversations that are too long raise an error, are dropped, or become several rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from ... import tokens
from ...errors import raise_first
from ...json_columns import decode_conversations, encode_conversations
from ...schema import Turns
from ...tokens import Tokenizer
from ...views.batch import RenderableBatch, whole_conversations
from .row_counts import RowCounts


def apply_max_tokens(
    batch: RenderableBatch, tokenizer: Tokenizer, limit: int, policy: str, counts: RowCounts
) -> pa.RecordBatch:
    """Return the batch without conversations of more than `limit` tokens; `policy` is `--over-length`.

    Raises CheckError for them if the policy is `error`, and for a single exchange that is too long.
    """
    errors = tokens.over_length(tokenizer.count(batch.render(whole_conversations(batch)).text), limit)
    if not errors:
        return batch.record_batch
    if policy == "error":
        raise_first(errors)
    rows = [error.at.row for error in errors if error.at.row is not None]
    counts.changes[f"over_length.{policy}"] += len(rows)
    if policy == "drop":
        kept = np.ones(len(batch.record_batch), bool)
        kept[rows] = False
        counts.filtered += len(rows)
        return batch.record_batch.filter(pa.array(kept))
    return _split(batch, tokenizer, limit, dict(zip(rows, errors, strict=True)))


def _split(batch: RenderableBatch, tokenizer: Tokenizer, limit: int, errors: Mapping[int, Exception]) -> pa.RecordBatch:
    """Split each long conversation into several rows; all other columns are repeated."""
    conversations = decode_conversations(batch.required("messages"))
    split: list[Turns | None] = []
    origin: list[int] = []
    for row, turns in enumerate(conversations):
        parts = (
            [turns] if row not in errors else tokens.split_turns(turns or (), fits_limit(batch, row, tokenizer, limit))
        )
        if parts is None:
            raise errors[row]
        split += parts
        origin += [row] * len(parts)
    repeated = batch.record_batch.take(pa.array(origin))
    return repeated.set_column(repeated.schema.get_field_index("messages"), "messages", encode_conversations(split))


def fits_limit(batch: RenderableBatch, row: int, tokenizer: Tokenizer, limit: int) -> Callable[[Turns], bool]:
    """Return a predicate: do turns, rendered with the tools and variables of the row, fit into `limit` tokens?"""
    single = batch.take(pa.array([row]))

    def fits(turns: Turns) -> bool:
        text = single.render(encode_conversations([turns])).text
        return int(tokenizer.count(text)[0].as_py()) <= limit

    return fits
