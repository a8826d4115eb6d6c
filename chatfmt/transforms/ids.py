"""Ids of calls: made where there are none, and of nine letters or digits where a template takes no others."""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from ..json_columns import dumps
from ..turn_columns import any_turn, field, role_is, to_bools
from .edit import Changed, Conversation, edit_rows, message_columns, with_column

Turn = dict[str, Any]

_SIGNS = string.digits + string.ascii_letters
_NINE = re.compile(r"[0-9A-Za-z]{9}")


def call_ids(batch: pa.RecordBatch, value: str) -> Changed:
    """Ids of calls and of their results; counts rows.

        fill   a call without an id gets one, and so does its result
        nine   besides, an id that is not nine letters or digits becomes one that is, the same for call and result

    The rule of nine is that of Mistral's templates (mistral-common, `InvalidFunctionCallException`). An id depends on
    nothing but the old id, or on the call and its place among those of its column, so runs agree. Results without an id
    belong to the calls before them in order, if there are as many; else they, and results of no call, stay as they are.
    """
    changed = np.zeros(len(batch), np.bool_)
    for name in message_columns(batch):
        column = batch.column(name)
        turns = column.flatten()
        concerned = to_bools(field(turns, "tool_calls").is_valid()) | role_is(turns, "tool")
        if concerned.any():
            column, rows = edit_rows(column, any_turn(column, concerned), lambda told: _with_ids(told, value == "nine"))
            batch, changed = with_column(batch, name, column), changed | rows
    return batch, Counter(call_ids=int(changed.sum()))


def _with_ids(turns: Conversation, nine: bool) -> Conversation:
    told: Conversation = []
    place, calls = 0, 0
    while place < len(turns):
        end = place + 1
        while end < len(turns) and turns[end].get("role") == "tool":
            end += 1
        turn, count = _with_call_ids(turns[place], calls, nine)
        told += [turn, *_answering(turn, turns[place + 1 : end], nine)]
        place, calls = end, calls + count
    return told


def _with_call_ids(turn: Turn, before: int, nine: bool) -> tuple[Turn, int]:
    """The turn with the ids of its calls, and how many there are; `before` counts the calls of earlier turns."""
    calls = turn.get("tool_calls")
    if turn.get("role") == "tool" and not _is_missing(turn.get("tool_call_id")):  # a result that begins the column
        return {**turn, "tool_call_id": _kept(turn["tool_call_id"], nine)}, 0
    if not isinstance(calls, list):
        return turn, 0
    return {**turn, "tool_calls": [_with_id(call, before + i, nine) for i, call in enumerate(calls)]}, len(calls)


def _with_id(call: Any, place: int, nine: bool) -> Any:
    if not isinstance(call, dict):
        return call
    if not _is_missing(call.get("id")):
        return {**call, "id": _kept(call["id"], nine)}
    made = _nine_from(dumps([place, {key: value for key, value in call.items() if key != "id"}]))
    return {**call, "id": made} if "id" in call else {"id": made, **call}


def _answering(turn: Turn, results: Conversation, nine: bool) -> Conversation:
    """The results that follow the turn; where none has an id and there is one a call, they get those of its calls."""
    calls = turn.get("tool_calls")
    ids = [call.get("id") if isinstance(call, dict) else None for call in calls] if isinstance(calls, list) else []
    bare = all(_is_missing(result.get("tool_call_id")) for result in results)
    if bare and len(ids) == len(results):
        return [
            result if own is None else {**result, "tool_call_id": own} for result, own in zip(results, ids, strict=True)
        ]
    return [
        result
        if _is_missing(result.get("tool_call_id"))
        else {**result, "tool_call_id": _kept(result["tool_call_id"], nine)}
        for result in results
    ]


def _is_missing(id: Any) -> bool:
    return id is None or id == ""


def _kept(id: Any, nine: bool) -> Any:
    """The id itself, or the one that stands for it."""
    fits = isinstance(id, str) and _NINE.fullmatch(id) is not None
    return id if fits or not nine else _nine_from(dumps(id))


def _nine_from(text: str) -> str:
    """Nine letters or digits that depend on nothing but the text."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    signs = []
    for _ in range(9):
        number, sign = divmod(number, len(_SIGNS))
        signs.append(_SIGNS[sign])
    return "".join(signs)
