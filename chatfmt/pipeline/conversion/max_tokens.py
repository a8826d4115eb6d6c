"""Enforce `--max-tokens`: conversations that are too long raise an error, are dropped, or become several rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ... import tokens
from ...errors import raise_first
from ...json_columns import decode_conversations, encode_conversations, with_column
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
    lengths = tokenizer.count(batch.render(whole_conversations(batch)).text)
    if policy != "split-turns":
        return drop_long(batch.record_batch, lengths, limit, policy, counts)
    errors = {error.at.row: error for error in tokens.over_length(lengths, limit) if error.at.row is not None}
    if not errors:
        return batch.record_batch
    counts.changes[f"over_length.{policy}"] += len(errors)
    return _split(batch, tokenizer, limit, errors)


def drop_long(
    batch: pa.RecordBatch, lengths: pa.Int32Array, limit: int, policy: str, counts: RowCounts
) -> pa.RecordBatch:
    """Return the batch without the rows of more than `limit` tokens; raises CheckError if the policy is `error`."""
    errors = tokens.over_length(lengths, limit)
    if policy == "error":
        raise_first(errors)
    if not errors:
        return batch
    counts.changes[f"over_length.{policy}"] += len(errors)
    counts.filtered += len(errors)
    return batch.filter(pc.fill_null(pc.less_equal(lengths, limit), True))


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
    return with_column(repeated, "messages", encode_conversations(split))


def fits_limit(batch: RenderableBatch, row: int, tokenizer: Tokenizer, limit: int) -> Callable[[Turns], bool]:
    """Return a predicate: do turns, rendered with the tools and variables of the row, fit into `limit` tokens?"""
    single = batch.take(pa.array([row]))

    def fits(turns: Turns) -> bool:
        text = single.render(encode_conversations([turns])).text
        return int(tokenizer.count(text)[0].as_py()) <= limit

    return fits
