"""Calls and tools: arguments as object or text, parallel calls one by one, specs with or without their wrapping."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from ..json_columns import JSON, json_array, loads
from ..turn_columns import any_turn, field, to_bools
from .edit import Changed, Conversation, edit_rows, message_columns, with_column

Turn = dict[str, Any]


def change_arguments(batch: pa.RecordBatch, value: str) -> Changed:
    """Arguments of calls as `object` or as `text`; counts rows, and `arguments.unparsable` calls whose text is not
    that of a JSON object: they stay text.

        object   "arguments": "{\\"city\\": \\"Oslo\\"}"   →   "arguments": {"city": "Oslo"}
        text     the reverse, spelled as Python's json does: `", "`, `": "`, characters as they are
    """
    unparsable: Counter[str] = Counter()

    def change(turns: Conversation) -> Conversation:
        return [_with_arguments(turn, value, unparsable) for turn in turns]

    batch, counts = _on_calls(batch, "arguments", change)
    return batch, counts + unparsable


def _on_calls(batch: pa.RecordBatch, label: str, change: Callable[[Conversation], Conversation]) -> Changed:
    changed = np.zeros(len(batch), np.bool_)
    for name in message_columns(batch):
        column = batch.column(name)
        turns = column.flatten()
        calls = to_bools(field(turns, "tool_calls").is_valid()) | to_bools(field(turns, "function_call").is_valid())
        if calls.any():
            column, rows = edit_rows(column, any_turn(column, calls), change)
            batch, changed = with_column(batch, name, column), changed | rows
    return batch, Counter({label: int(changed.sum())})


def _with_arguments(turn: Turn, value: str, unparsable: Counter[str]) -> Turn:
    changed = dict(turn)
    if isinstance(turn.get("function_call"), dict):
        changed["function_call"] = _call(turn["function_call"], value, unparsable)
    if isinstance(turn.get("tool_calls"), list):
        changed["tool_calls"] = [_call(call, value, unparsable) for call in turn["tool_calls"]]
    return changed


def _call(call: Any, value: str, unparsable: Counter[str]) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"], value, unparsable)}
    arguments = call.get("arguments")
    if value == "text" and isinstance(arguments, (dict, list)):
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}
    if value == "object" and isinstance(arguments, str):
        parsed = parse_arguments(arguments)
        unparsable["arguments.unparsable"] += parsed is None
        return call if parsed is None else {**call, "arguments": parsed}
    return call


def parse_arguments(text: str) -> dict[str, Any] | None:
    """The object that the text of arguments spells in strict JSON; None where it spells none, or a key twice."""
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def split_parallel_calls(batch: pa.RecordBatch, value: str) -> Changed:
    """`split`: an assistant turn with several calls becomes a turn a call, each followed by its result; counts rows.

        assistant [c1, c2], tool r1, tool r2   →   assistant [c1], tool r1, assistant [c2], tool r2

    Text and reasoning stay with the first call. Results find their call by id, else by their order; where that is not
    clear (a result missing, an unknown id) the conversation stays as it is.
    """
    return _on_calls(batch, "parallel_calls", _serial)


def _serial(turns: Conversation) -> Conversation:
    told: Conversation = []
    place = 0
    while place < len(turns):
        calls = turns[place].get("tool_calls")
        end = place + 1
        while end < len(turns) and turns[end].get("role") == "tool":
            end += 1
        if isinstance(calls, list) and len(calls) > 1:
            told += _one_by_one(turns[place], turns[place + 1 : end])
        else:
            told += turns[place:end]
        place = end
    return told


def _one_by_one(turn: Turn, results: Conversation) -> Conversation:
    ordered = _results_in_order(turn["tool_calls"], results)
    if ordered is None:
        return [turn, *results]
    bare = {key: value for key, value in turn.items() if key in ("role", "name")}
    told: Conversation = []
    for place, call in enumerate(turn["tool_calls"]):
        told.append({**(bare if place else turn), "tool_calls": [call]})
        told += ordered[place : place + 1]
    return told


def _results_in_order(calls: list[Any], results: Conversation) -> Conversation | None:
    """The result of each call, in the order of the calls; none for calls at the very end; None where it is unclear."""
    if not results:
        return []
    by_id = {result.get("tool_call_id"): result for result in results}
    wanted = [call.get("id") if isinstance(call, dict) else None for call in calls]
    if len(results) != len(calls):
        return None
    if by_id.keys() == {None} or set(wanted) == {None}:
        return results
    return [by_id[one] for one in wanted] if len(by_id) == len(calls) and by_id.keys() == set(wanted) else None


def change_tools(batch: pa.RecordBatch, value: str) -> Changed:
    """Tool specs `bare` or `wrapped`; counts rows.

    wrapped   {"name": "f", …}   →   {"type": "function", "function": {"name": "f", …}}       bare: the reverse
    """
    if "tools" not in batch.schema.names or batch.schema.field("tools").type != JSON:
        return batch, Counter(tools=0)
    column = batch.column("tools")
    change = _wrapped if value == "wrapped" else _bare
    before = [None if text is None else loads(text) for text in column.to_pylist()]
    after = [[change(spec) for spec in specs] if isinstance(specs, list) else specs for specs in before]
    changed = sum(new != old for new, old in zip(after, before, strict=True))
    present = column.is_valid().to_pylist()
    return (with_column(batch, "tools", json_array(after, present)) if changed else batch), Counter(tools=changed)


def _wrapped(spec: Any) -> Any:
    return {"type": "function", "function": spec} if isinstance(spec, dict) and "name" in spec else spec


def _bare(spec: Any) -> Any:
    is_wrapped = isinstance(spec, dict) and spec.keys() == {"type", "function"} and isinstance(spec["function"], dict)
    return spec["function"] if is_wrapped else spec
