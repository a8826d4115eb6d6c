"""Check that `train_detail` still says which parts of a turn are trained, see `render.masks.train_detail`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa

from ...errors import CheckError, Location
from ...json_columns import decode_conversations, dumps, is_turns, loads
from ...render.masks.masker import MaskOptions
from ...schema import CONVERSATION_COLUMNS, TRAIN_DETAILS, train_flag
from .source_rows import to_records


def misled_parts(batch: pa.RecordBatch, source: pa.RecordBatch, mask: MaskOptions | None) -> list[CheckError]:
    """Return an error for each turn whose content is not that of the source, or whose role is not trained.

    `source` has the rows that the CONVERSATIONS batch was made from.
    """
    found = [*_detailed_turns(batch)]
    known = {pair for record in to_records(source) for pair in _pairs(record)} if found else set()
    return [error for at, turn in found if (error := _error(at, turn, known, mask))]


def _error(
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
    for name in CONVERSATION_COLUMNS:
        index = batch.schema.get_field_index(name)
        column = batch.column(index) if index >= 0 else None
        if column is None or not is_turns(column.type):
            continue
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
