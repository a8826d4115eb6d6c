"""Ids of tool calls: fill in missing ones, or make all of them nine letters or digits, or of the name of the tool."""

from __future__ import annotations

import hashlib
import re
import string
from typing import Any

import pyarrow as pa

from ..json_columns import dumps
from ..schema import Conversation, Turn
from ..turn_columns import BoolArray, field, role_is, to_bools
from .edit import Changed, edit_conversations, with_results

_ALPHABET = string.digits + string.ascii_letters
_NINE = re.compile(r"[0-9A-Za-z]{9}")


def call_ids(batch: pa.RecordBatch, value: str) -> Changed:
    """Fill in or replace the ids of calls and of their results; counts rows.

        fill   a call without an id gets one, and so does its result
        nine   also, an id that is not nine letters or digits is replaced, in call and result alike
        named  also, an id that is not `functions.NAME:N` is replaced, in call and result alike, with N counted from 0

    Nine is the rule of Mistral's templates (mistral-common, `InvalidFunctionCallException`), and Kimi K2's print the id
    for the name (its tool calling guide). A new id depends only on the old id, or on the call and its position in the
    conversation, from the prompt to the end of the completion, so runs agree. Results without an id answer the calls
    before them in order, if there are as many of them; otherwise they stay as they are, as do results of no call.
    """
    change = _with_names if value == "named" else lambda turns: _with_ids(turns, value == "nine")
    return edit_conversations(batch, "call_ids", _calls_and_results, change, after_prompt=True)


def _calls_and_results(column: pa.ListArray) -> BoolArray:
    turns = column.flatten()
    return to_bools(field(turns, "tool_calls").is_valid()) | role_is(turns, "tool")


def _with_ids(turns: Conversation, nine: bool) -> Conversation:
    changed: Conversation = []
    calls = 0
    for first, *results in with_results(turns):
        turn, count = _with_call_ids(first, calls, nine)
        changed += [turn, *_with_result_ids(turn, results, nine)]
        calls += count
    return changed


def _with_call_ids(turn: Turn, before: int, nine: bool) -> tuple[Turn, int]:
    """The turn with ids in its calls, and the number of calls; `before` counts the calls of earlier turns."""
    calls = turn.get("tool_calls")
    if turn.get("role") == "tool" and not _is_missing(turn.get("tool_call_id")):  # a result at the start
        return {**turn, "tool_call_id": _keep_or_replace(turn["tool_call_id"], nine)}, 0
    if not isinstance(calls, list):
        return turn, 0
    return {**turn, "tool_calls": [_with_id(call, before + i, nine) for i, call in enumerate(calls)]}, len(calls)


def _with_id(call: Any, position: int, nine: bool) -> Any:
    if not isinstance(call, dict):
        return call
    if not _is_missing(call.get("id")):
        return {**call, "id": _keep_or_replace(call["id"], nine)}
    made = _nine_from(dumps([position, {key: value for key, value in call.items() if key != "id"}]))
    return {**call, "id": made} if "id" in call else {"id": made, **call}


def _with_result_ids(turn: Turn, results: Conversation, nine: bool) -> Conversation:
    """The results of a turn; if none has an id and there is one per call, they get the ids of the calls."""
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
        else {**result, "tool_call_id": _keep_or_replace(result["tool_call_id"], nine)}
        for result in results
    ]


def _with_names(turns: Conversation) -> Conversation:
    """The turns with ids that have the name of the tool and the number of the call in the conversation."""
    changed, new, position = list[Turn](), dict[Any, str](), 0
    for turn in _with_ids(turns, nine=False):
        if isinstance(turn.get("tool_calls"), list):
            calls = [_with_name(call, position + number, new) for number, call in enumerate(turn["tool_calls"])]
            turn, position = {**turn, "tool_calls": calls}, position + len(calls)
        old = turn.get("tool_call_id")
        changed.append({**turn, "tool_call_id": new[old]} if isinstance(old, (str, int)) and old in new else turn)
    return changed


def _with_name(call: Any, position: int, new: dict[Any, str]) -> Any:
    """The call with an id of its name and position, noted in `new` under the old id."""
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(call["id"], (str, int)):
        return call
    kept = re.fullmatch(rf"functions\.{re.escape(name)}:[0-9]+", str(call["id"]))
    new[call["id"]] = kept[0] if kept else f"functions.{name}:{position}"
    return {**call, "id": new[call["id"]]}


def _is_missing(id: Any) -> bool:
    return id is None or id == ""


def _keep_or_replace(id: Any, nine: bool) -> Any:
    fits = isinstance(id, str) and _NINE.fullmatch(id) is not None
    return id if fits or not nine else _nine_from(dumps(id))


def _nine_from(text: str) -> str:
    """Nine letters or digits made of the text only."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    characters = []
    for _ in range(9):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)
