"""Check that the keys that mark trained turns still fit, weigh spans by them, and refuse rows that train nothing.

`train_detail` names parts of a turn, see `render.masks.train_detail`. Weights other than 0 and 1 become those of spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import CheckError, Location, raise_first
from ...json_columns import decode_conversations, dumps, loads, message_columns
from ...render.masks.masker import MaskOptions, trained_turns
from ...schema import TRAIN_DETAILS, train_flag
from ...turn_columns import lengths_of, offsets_of, to_bools, train_flags
from ...views.batch import Fields
from .source_rows import to_records


def misled_parts(batch: pa.RecordBatch, source: pa.RecordBatch, mask: MaskOptions | None) -> list[CheckError]:
    """Return an error for each turn whose content is not that of the source, or whose role is not trained.

    `source` has the rows that the CONVERSATIONS batch was made from.
    """
    found = [*_detailed_turns(batch)]
    known = {pair for record in to_records(source) for pair in _pairs(record)} if found else set()
    return [error for at, turn in found if (error := _part_error(at, turn, known, mask))]


def _part_error(
    at: Location, turn: dict[str, Any], known: set[tuple[str, str]], mask: MaskOptions | None
) -> CheckError | None:
    name = next(name for name in TRAIN_DETAILS if turn.get(name))
    content = turn.get("content")
    if known and isinstance(content, str) and (dumps(turn[name]), content) not in known:
        return CheckError(
            f"`{name}` counts the characters of the content in the source, which the conversion changes",
            hint=f"leave out the option that changes it, or the key, as with --drop messages.{name}, to train it all",
            at=at,
            code="mask.offsets",
        )
    if mask is None or not mask.flags or turn.get("role") in mask.roles or train_flag(turn)[1] in (False, 0):
        return None
    if not any(isinstance(part, dict) and part.get("train") for part in turn[name]):
        return None
    return CheckError(
        f"`{name}` names parts to train in a turn of the role `{turn.get('role')}`, which is not trained",
        hint=f"leave out the key, as with --drop messages.{name}",
        at=at,
        code="mask.flag",
    )


def _detailed_turns(batch: pa.RecordBatch) -> Iterator[tuple[Location, dict[str, Any]]]:
    """Yield the turns that name parts, with their row in the batch."""
    for _, column in message_columns(batch):
        if all(column.type.value_type.get_field_index(key) < 0 for key in TRAIN_DETAILS):
            continue
        for row, turns in enumerate(decode_conversations(column)):
            for number, turn in enumerate(turns or ()):
                if any(isinstance(turn.get(key), list) and turn[key] for key in TRAIN_DETAILS):
                    yield Location(row=row, message=number), turn


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the parts that an object names, as JSON, with each text of the object, for all objects in a value."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with suppress(ValueError):
            yield from _pairs(loads(value))
    elif isinstance(value, list):
        for item in value:
            yield from _pairs(item)
    elif isinstance(value, dict):
        details = [dumps(value[key]) for key in TRAIN_DETAILS if value.get(key)]
        yield from ((detail, text) for detail in details for text in value.values() if isinstance(text, str))
        for item in value.values():
            yield from _pairs(item)


SPAN_WEIGHTS = "span_weights"
"""The column beside `assistant_spans`, with a number for each span."""


def has_fractions(batch: pa.RecordBatch) -> bool:
    """Return whether a turn of a CONVERSATIONS batch has a weight other than 0 and 1."""
    flags = (flag for _, column in message_columns(batch) for flag in train_flags(column.flatten()))
    return any(isinstance(value, (int, float)) and value not in (0, 1) for _, value in flags)


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
                errors.append(_weight_error(row, weights, trained))
    raise_first(errors)
    return pa.array(found, pa.list_(pa.float64()))


def _weight(message: Mapping[str, Any]) -> float:
    value = train_flag(message)[1]
    return 1.0 if value is None else float(value)


def _weight_error(row: int, weights: Sequence[float], spans: Sequence[Any]) -> CheckError:
    return CheckError(
        f"the trained text is in {len(spans)} spans, and {len(weights)} messages with different weights are trained",
        hint="give the messages of the row one weight, or --on-error skip", code="mask.weights", at=Location(row=row),
    )  # fmt: skip


def untrained_rows(fields: Fields, rows: int) -> list[CheckError]:
    """Return an error for each row without a trained character, which teaches a model nothing."""
    trained, hint = fields.get("assistant_spans"), "--on-error skip drops such rows"
    if trained is not None:
        counts, hint = trained.value_lengths().fill_null(0), f"{hint}; without --mask all text is trained"
    elif (segments := fields.get("segments")) is not None:
        labels = to_bools(segments.flatten().field("label")).astype(np.int64)
        counts = pa.array(np.diff(offsets_of(labels)[offsets_of(lengths_of(segments))]))
    else:
        return []
    empty = np.flatnonzero(pc.equal(counts, 0).to_numpy(zero_copy_only=False))
    if not len(empty):
        return []
    error = CheckError("no text of the row is trained", hint=hint, code="row.untrained")
    return [error.of_rows((empty * rows // len(counts)).tolist())]
