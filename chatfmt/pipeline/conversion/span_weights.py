"""`span_weights`: the weight of each trained span, where messages have weights other than 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import CheckError, Location, raise_first
from ...json_columns import decode_conversations
from ...render.masks.masker import MaskOptions, trained_turns
from ...schema import CONVERSATION_COLUMNS, train_flag
from ...turn_columns import train_flags

NAME = "span_weights"
"""The column beside `assistant_spans`, with a number for each span."""


def has_fractions(batch: pa.RecordBatch) -> bool:
    """Return whether a turn of a CONVERSATIONS batch has a weight other than 0 and 1."""
    columns = [batch.column(name) for name in CONVERSATION_COLUMNS if name in batch.schema.names]
    return any(_is_fraction(value) for column in columns for _, value in train_flags(column.flatten()))


def _is_fraction(value: object) -> bool:
    return isinstance(value, (int, float)) and value not in (0, 1)


def span_weights(messages: pa.ListArray, spans: pa.ListArray, mask: MaskOptions) -> pa.ListArray:
    """Return the weight of each span of each conversation, null without spans; a message without one has weight 1.

    Raises CheckError (`mask.weights`) for a row whose spans are not one for each trained message, unless all of these
    have the same weight.
    """
    found: list[list[float] | None] = []
    errors = []
    for row, (chat, trained) in enumerate(zip(decode_conversations(messages), spans.to_pylist(), strict=True)):
        turns = chat or []
        weights = [_weight(turns[index]) for index in trained_turns(turns, mask)]
        if trained is None:
            found.append(None)
        elif len(weights) == len(trained):
            found.append(weights)
        else:
            found.append(weights[:1] * len(trained))
            if len({*weights}) > 1:
                errors.append(_error(row, weights, trained))
    raise_first(errors)
    return pa.array(found, pa.list_(pa.float64()))


def _weight(message: Mapping[str, Any]) -> float:
    value = train_flag(message)[1]
    return 1.0 if value is None else float(value)


def _error(row: int, weights: Sequence[float], spans: Sequence[Any]) -> CheckError:
    return CheckError(
        f"the trained text is in {len(spans)} spans, and {len(weights)} messages with different weights are trained",
        hint="give the messages of the row one weight, or --on-error skip", code="mask.weights", at=Location(row=row),
    )  # fmt: skip
