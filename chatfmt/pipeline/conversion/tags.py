"""The column TAG of an output: what the second pass compares and orders conversations by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ... import writers
from ...errors import UsageError


def with_tags(batch: pa.RecordBatch, hashes: Sequence[bytes], groups: Sequence[bytes]) -> pa.RecordBatch:
    """Add the column TAG, which is passed through: two hashes of each conversation and its index in the batch.

    Of conversations with the same hash, `--dedup` keeps the first; those with the same group are in the same split.
    """
    if writers.TAG in batch.schema.names:
        raise UsageError(f"the column name `{writers.TAG}` is reserved", hint="leave it out of --keep")
    table = np.zeros((len(batch), writers.TAG_TYPE.byte_width), np.uint8)
    table[:, :16] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)
    table[:, 16:32] = np.frombuffer(b"".join(groups), np.uint8).reshape(-1, 16)
    table[:, 32:36] = np.arange(len(batch), dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    tags = pa.Array.from_buffers(writers.TAG_TYPE, len(batch), [None, pa.py_buffer(table)])
    return batch.append_column(writers.TAG, tags)


def with_token_counts(output: pa.RecordBatch) -> pa.RecordBatch:
    """Return a tagged batch with the number of tokens of each row in its tag."""
    index, tags = output.schema.get_field_index(writers.TAG), output.column(writers.TAG)
    counts = output.column("num_tokens") if "num_tokens" in output.schema.names else output.column("input_ids")
    counts = counts if pa.types.is_integer(counts.type) else counts.value_lengths()
    table = np.concatenate(
        [writers.tag_bytes(tags)[:, :36], counts.to_numpy().astype(np.uint32).view(np.uint8).reshape(-1, 4)], axis=1
    )
    tags = pa.Array.from_buffers(tags.type, len(tags), [None, pa.py_buffer(np.ascontiguousarray(table))])
    return output.set_column(index, writers.TAG, tags)
