"""Tool calls and tool specs: arguments as object or text, parallel calls one per turn, no empty lists, specs bare or
wrapped."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, json_array, json_values, message_columns, with_column
from ..schema import Conversation, Turn
from ..turn_columns import BoolArray, any_turn, field, lengths_of, to_bools
from .edit import Changed, edit_conversations, edit_rows, heads, with_results
from .system import SYSTEM, is_joinable, join


def change_arguments(batch: pa.RecordBatch, value: str) -> Changed:
    """Write the arguments of calls as `object` or as `text`; counts rows.

        object   "arguments": "{\\"city\\": \\"Oslo\\"}"   →   "arguments": {"city": "Oslo"}
        text     the reverse, as json.dumps writes it with ensure_ascii=False

    A call without arguments (none, null or blank text) gets an empty object. `arguments.unparsable` counts calls whose
    text is not a JSON object, which stays text.
    """
    unparsable: Counter[str] = Counter()

    def change(turns: Conversation) -> Conversation:
        return [_with_arguments(turn, value, unparsable) for turn in turns]

    batch, counts = edit_conversations(batch, "arguments", _calls, change)
    return batch, counts + unparsable


def _calls(column: pa.ListArray) -> BoolArray:
    turns = column.flatten()
    return to_bools(field(turns, "tool_calls").is_valid()) | to_bools(field(turns, "function_call").is_valid())


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
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {**call, "arguments": {} if value == "object" else "{}"}
    if value == "text" and isinstance(arguments, (dict, list)):
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}
    if value == "object" and isinstance(arguments, str):
        parsed = parse_arguments(arguments)
        unparsable["arguments.unparsable"] += parsed is None
        return call if parsed is None else {**call, "arguments": parsed}
    return call


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Parse arguments as a strict JSON object; None if they are anything else or repeat a key."""
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
    """`split`: an assistant turn with several calls becomes one turn per call, each before its result; counts rows.

        assistant [c1, c2], tool r1, tool r2   →   assistant [c1], tool r1, assistant [c2], tool r2

    Text and reasoning stay with the first call. Results belong to calls by id, else by order; a turn stays as it is if
    that is unclear (a result is missing, an id unknown).
    """
    return edit_conversations(batch, "parallel_calls", _calls, _split_calls)


def _split_calls(turns: Conversation) -> Conversation:
    return [turn for first, *results in with_results(turns) for turn in _one_turn_per_call(first, results)]


def _one_turn_per_call(turn: Turn, results: Conversation) -> Conversation:
    if not isinstance(turn.get("tool_calls"), list) or len(turn["tool_calls"]) < 2:
        return [turn, *results]
    ordered = _results_in_order(turn["tool_calls"], results)
    if ordered is None:
        return [turn, *results]
    bare = {key: value for key, value in turn.items() if key in ("role", "name")}
    turns: Conversation = []
    for index, call in enumerate(turn["tool_calls"]):
        turns.append({**(bare if index else turn), "tool_calls": [call]})
        turns += ordered[index : index + 1]
    return turns


def _results_in_order(calls: list[Any], results: Conversation) -> Conversation | None:
    """The result of each call, in the order of the calls; empty without results, None if it is unclear."""
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
    """Write tool specs `bare` or `wrapped`, or as JSON into the `system` message; counts rows.

    wrapped   {"name": "f", …}   →   {"type": "function", "function": {"name": "f", …}}       bare: the reverse
    system    system "be kind", tools [{"name": "f"}]   →   system "be kind\\n\\n[{\\"name\\": \\"f\\"}]"

    `system` adds the message to conversations that do not start with one, and leaves empty lists of tools as they are.
    """
    if "tools" not in batch.schema.names or batch.schema.field("tools").type != JSON:
        return batch, Counter(tools=0)
    column = batch.column("tools")
    if value == "system":
        return _tools_in_system(batch, column)
    change = _wrapped if value == "wrapped" else _bare
    before = json_values(column)
    after = [[change(spec) for spec in specs] if isinstance(specs, list) else specs for specs in before]
    changed = sum(new != old for new, old in zip(after, before, strict=True))
    present = column.is_valid().to_pylist()
    return (with_column(batch, "tools", json_array(after, present)) if changed else batch), Counter(tools=changed)


def _tools_in_system(batch: pa.RecordBatch, column: pa.Array) -> Changed:
    specs = json_values(column)
    listed = np.array([isinstance(each, list) and bool(each) for each in specs], np.bool_)
    written = np.zeros(len(batch), np.bool_)
    for name, begins in heads(batch):
        rows = listed & begins & (lengths_of(batch.column(name)) > 0)
        texts = iter([json.dumps(specs[row], ensure_ascii=False) for row in np.flatnonzero(rows)])
        turns, changed = edit_rows(batch.column(name), rows, lambda turns: _with_system_text(turns, next(texts)))  # noqa: B023
        batch, written = with_column(batch, name, turns), written | changed
    if written.any():
        batch = with_column(batch, "tools", pc.if_else(pa.array(written), pa.scalar(None, JSON), column))
    return batch, Counter(tools=int(written.sum()))


def _with_system_text(turns: Conversation, text: str) -> Conversation:
    """Return the conversation with extra text at the end of its first system message, which it gets if need be."""
    first = turns[0]
    if first.get("role") in SYSTEM and is_joinable(first.get("content")):
        return [{**first, "content": join([first["content"], text])}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]


def drop_empty_calls(batch: pa.RecordBatch, value: str) -> Changed:
    """Leave out the `tool_calls` of turns and the `tools` of rows that are empty lists; counts rows."""

    def change(turns: Conversation) -> Conversation:
        return [{key: item for key, item in turn.items() if key != "tool_calls" or item != []} for turn in turns]

    tools = batch.column("tools") if "tools" in batch.schema.names else pa.nulls(len(batch), JSON)
    empty = _is_empty(tools)
    rows = np.copy(empty)
    for name, column in message_columns(batch):
        calls = _is_empty(field(column.flatten(), "tool_calls"))
        column, edited = edit_rows(column, any_turn(column, calls), change)
        batch, rows = with_column(batch, name, column) if edited.any() else batch, rows | edited
    if empty.any():
        batch = with_column(batch, "tools", pc.if_else(pa.array(empty), pa.scalar(None, JSON), tools))
    return batch, Counter(empty_calls=int(rows.sum()))


def fill_call_content(batch: pa.RecordBatch, value: str) -> Changed:
    """`empty`: give turns with calls that have no content an empty text; counts rows."""

    def change(turns: Conversation) -> Conversation:
        return [
            {**turn, "content": ""} if turn.get("tool_calls") and turn.get("content") is None else turn
            for turn in turns
        ]

    return edit_conversations(batch, "call_content", _calls, change)


def _is_empty(column: pa.Array) -> BoolArray:
    """Return which values of a JSON column are empty lists."""
    if column.type != JSON:
        return np.zeros(len(column), np.bool_)
    return to_bools(pc.equal(column, pa.scalar("[]", JSON)))


def _wrapped(spec: Any) -> Any:
    return {"type": "function", "function": spec} if isinstance(spec, dict) and "name" in spec else spec


def _bare(spec: Any) -> Any:
    is_wrapped = isinstance(spec, dict) and spec.keys() == {"type", "function"} and isinstance(spec["function"], dict)
    return spec["function"] if is_wrapped else spec
