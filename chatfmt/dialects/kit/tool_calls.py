"""Tool calls of turns: as text, under OpenAI's older key, or with keys of other names.

A call becomes `{"type": "function", "function": {"name": …, "arguments": …}}`, with an `id` if it has one, and with its
other keys. Arguments stay an object or text; the input of a custom tool is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, schema
from ...errors import DialectError, refuse_rows
from ...schema import Turn
from ...turn_columns import any_turn, refuse_turns, replace_rows, rows_of_turns, to_bools
from .columns import Columns
from .literals import read_literal

NAMES = ("name", "function", "function_name", "tool_name", "tool")
ARGUMENTS = ("arguments", "parameters", "args", "input", "params", "kwargs", "tool_input")
_IDS = ("id", "call_id", "tool_call_id")


def read_calls(
    fields: dict[str, pa.Array], is_call: pa.Array, columns: Columns, lists: pa.ListArray
) -> dict[str, pa.Array]:
    """Return the fields of turns with all calls under `tool_calls`, in OpenAI's form.

    `is_call` marks the turns whose content should be a call as text; content that is not a call stays content.
    Raises DialectError `msg.type` for `tool_calls` that are none.
    """
    for key in (columns.fields.get("messages.tool_calls"), "function_call"):
        if key in fields and key != "tool_calls":
            fields = _from_other_key(key, fields, columns)
    if "tool_calls" in fields:
        fields = {**fields, "tool_calls": _read_calls(fields["tool_calls"], columns, lists)}
    return _parse_content(fields, is_call, columns) if pc.any(is_call).as_py() else fields


def join_calls(column: pa.ListArray, is_call: pa.Array) -> pa.ListArray:
    """Return the messages column with turns that are calls by their role, one after another, as one turn (ms-swift).

    A turn stays apart if it has text, or another key than the turn before it.
    """
    if not pc.any(is_call).as_py():
        return column
    calls, rows = to_bools(is_call), rows_of_turns(column)
    again = np.zeros(len(calls), np.bool_)
    again[1:] = calls[1:] & calls[:-1] & (rows[1:] == rows[:-1])
    if not again.any():
        return column
    changed, joined = any_turn(column, again), list[list[Any]]()
    follows = iter(again[changed[rows]].tolist())
    for turns in json_columns.decode_conversations(column.filter(pa.array(changed))):
        joined.append([])
        for turn in turns or ():
            last = joined[-1][-1] if next(follows) else {}
            rest = {key: value for key, value in turn.items() if key != "tool_calls"}
            if "tool_calls" in turn and "tool_calls" in last and rest.items() <= last.items():
                joined[-1][-1] = {**last, "tool_calls": [*last["tool_calls"], *turn["tool_calls"]]}
            else:
                joined[-1].append(turn)
    return replace_rows(column, changed, joined)


_WRAPPED = r'^(null$|\[(\]|\{("(id|index|type)":("[^"\\]*"|\d+),)*"function":\{"name":"[^"\\]*"(,"arguments":|\})))'
"""JSON of calls whose first one is in OpenAI's form."""
_FLAT = r'\},\{("[a-z_]+":"[^"\\]*",)*"(name|arguments|parameters|args|input|function)":("|[^"]*,"(args|input))'
"""JSON in which a later call, or an object in arguments, may not be."""


def _read_calls(values: pa.Array, columns: Columns, lists: pa.ListArray) -> pa.Array:
    """Return a field of calls in OpenAI's form, from objects of other keys and from JSON text; raises `msg.type`."""
    values = _as_json(values)
    done = pc.match_substring_regex(values, _WRAPPED)
    done = pc.and_(done, pc.invert(pc.match_substring_regex(values, _FLAT))).fill_null(True)
    if _named_keys(columns):
        done = values.is_null()
    turns = pc.indices_nonzero(pc.invert(done)).to_pylist()
    if not turns:
        return values
    found = json_columns.decode_values(values)
    for turn in turns:
        found[turn] = call_list(found[turn], columns)
    wrong = pc.and_not(pa.array([value is None for value in found]), done)  # a null stays
    refuse_turns(lists, wrong, lambda _: _no_calls())
    return json_columns.json_array(found, [value is not json_columns.ABSENT for value in found])


def _no_calls() -> DialectError:
    hint = "name their keys with --map tool_calls.name=KEY --map tool_calls.arguments=KEY"
    return DialectError("`tool_calls` does not hold calls with a name", hint=hint, code="msg.type")


def required_calls(value: Any, columns: Columns) -> list[dict[str, Any]]:
    """Return the calls that `call_list` finds; raises DialectError `msg.type` if one of them is not a call."""
    calls = call_list(value, columns)
    if calls is None:
        raise _no_calls()
    return calls


def _as_json(values: pa.Array) -> pa.Array:
    """Return a field of calls as JSON, in which text is a string, and the empty text is null."""
    if values.type != json_columns.TEXT:
        return values
    texts = values.to_pylist()
    return json_columns.json_array([text or None for text in texts], [text is not None for text in texts])


def read_call_column(values: pa.Array, columns: Columns, path: str) -> pa.Array:
    """Return a column of calls as JSON, null where a row has none; raises DialectError `col.type`."""
    calls = [call_list(value, columns) if value else [] for value in json_columns.decode_or_none(values)]
    wrong = [row for row, call in enumerate(calls) if call is None]
    text = f"column `{path}` does not hold calls with a name"
    refuse_rows(wrong, lambda row: DialectError(text, code="col.type"))
    return json_columns.json_or_null(call or None for call in calls)


def named_call(name: Any, arguments: Any, call_id: Any = None) -> dict[str, Any]:
    """Return a call in OpenAI's form, without an id that is not text; raises DialectError `msg.type` without a name."""
    if not isinstance(name, str):
        raise DialectError("the call has no name", code="msg.type")
    named = {"id": call_id} if isinstance(call_id, str) else {}
    return {**named, "type": "function", "function": {"name": name, "arguments": arguments}}


def with_calls(turn: Turn, text: str | None, calls: Sequence[Turn]) -> Turn:
    """Return an assistant's turn with calls, and perhaps a text, in place of its content; its other keys follow."""
    content = {} if text is None else {"content": text}
    rest = {key: value for key, value in turn.items() if key not in ("role", "content")}
    return {"role": turn["role"], **content, "tool_calls": calls, **rest}


def to_call(value: Any, columns: Columns) -> dict[str, Any] | None:
    """Return the call in an object, None if it is not one; mapped `tool_calls.name`, … name its keys."""
    if not isinstance(value, Mapping):
        return None
    function = read_literal(value.get("function"))
    if isinstance(function, Mapping):
        function = _to_function(function, columns)
        return None if function is None else {**value, "function": function}
    custom = value.get("custom")
    if isinstance(custom, Mapping) and (function := _to_function(custom, columns)):
        rest = {key: item for key, item in value.items() if key not in ("custom", "type")}
        return {**rest, "type": "function", "function": function}
    name, arguments = _call_keys(value, columns)
    if name is None:
        return None
    function = {"name": value[name]} | ({"arguments": value[arguments]} if arguments else {})
    named = next((key for key in _IDS if isinstance(value.get(key), str)), None)
    rest = {key: item for key, item in value.items() if key not in (name, arguments, named, "type")}
    return ({"id": value[named]} if named else {}) | {"type": "function", "function": function} | rest


def _to_function(function: Mapping[str, Any], columns: Columns) -> dict[str, Any] | None:
    """Return the inner object of a call with its keys called `name` and `arguments`, None without a name."""
    name, arguments = _call_keys(function, columns)
    names = {name: "name", arguments: "arguments"}
    return None if name is None else {names.get(key, key): item for key, item in function.items()}


def _call_keys(value: Mapping[str, Any], columns: Columns) -> tuple[str | None, str | None]:
    """Return the keys of the name and of the arguments of a call."""
    keys = _named_keys(columns)
    name = next((key for key in (keys.get("name"), *NAMES) if key and isinstance(value.get(key), str)), None)
    return name, next((key for key in (keys.get("arguments"), *ARGUMENTS) if key is not None and key in value), None)


def parse_calls(text: str, columns: Columns) -> list[dict[str, Any]] | None:
    """Return the calls in `text`: an object, a list of objects, or Glaive's notation; None if it is not a call."""
    return call_list(_glaive(text) or read_literal(text), columns) or None


def split_thought(text: str) -> tuple[str | None, str]:
    """Return the `<think>` block that a text begins with, with the blanks after it, and the rest; None without one."""
    match = _THOUGHT.match(text)
    return (match[0], text[match.end() :]) if match else (None, text)


_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_GLAIVE = r"""\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*'(.*)'\s*\}\s*"""


def _glaive(text: str) -> Any:
    """Return the call in `{"name": "f", "arguments": '{"a": 1}'}`, which is JSON except for the single quotes."""
    match = re.fullmatch(_GLAIVE, text, re.DOTALL)  # compiled where it is needed: it takes a millisecond
    if match is None:
        return None
    name, arguments = match.groups()
    for text in (arguments, arguments.replace("\\'", "'")):
        try:
            return {"name": json_columns.loads(name), "arguments": json_columns.loads(text)}
        except ValueError:
            continue
    return {"name": json_columns.loads(name), "arguments": arguments}


def _named_keys(columns: Columns) -> dict[str, str]:
    prefix = "tool_calls."
    return {part[len(prefix) :]: key for part, key in columns.fields.items() if part.startswith(prefix)}


def call_list(value: Any, columns: Columns) -> list[dict[str, Any]] | None:
    """Return the calls in a list, in one object, or in either as JSON text; None if one of them is not a call.

    Text, objects and lists without anything in them hold no calls.
    """
    value = read_literal(value)
    items = value if isinstance(value, list) else [value]
    if all(item in (None, "", "null", {}) for item in items):
        return []
    calls = [to_call(read_literal(item), columns) for item in items]
    return None if None in calls else calls  # type: ignore[return-value]


def _from_other_key(key: str, fields: dict[str, pa.Array], columns: Columns) -> dict[str, pa.Array]:
    """Move `function_call`, or the mapped key, to `tool_calls`; turns that have both keep their `tool_calls`."""
    older = fields[key]
    if older.type == json_columns.TEXT:
        texts = older.to_pylist()
        older = json_columns.json_array(
            [text and read_literal(text) for text in texts], [text is not None for text in texts]
        )
    calls = _without_empty(json_columns.map_json(older, lambda value: call_list(value, columns) or [value]))
    if "tool_calls" in fields:
        own = _as_json(fields["tool_calls"])
        calls = pc.coalesce(_without_empty(own), calls, own)
    kept = {("tool_calls" if name == key else name): values for name, values in fields.items() if name != "tool_calls"}
    return {**kept, "tool_calls": calls, **_replace_in_keys(kept, pa.array([True] * len(calls)), key)}


def _without_empty(values: pa.Array) -> pa.Array:
    empty = pc.or_(pc.equal(values, "null"), pc.equal(values, "[]")).fill_null(True)
    return pc.if_else(empty, pa.scalar(None, json_columns.JSON), values)


def _parse_content(fields: dict[str, pa.Array], is_call: pa.Array, columns: Columns) -> dict[str, pa.Array]:
    turns = pc.indices_nonzero(is_call)
    texts = json_columns.decode_values(fields["content"].take(turns))
    pairs = zip(turns.to_pylist(), texts, strict=True)
    split = {turn: split_thought(text) for turn, text in pairs if isinstance(text, str)}
    read = {turn: (thought, parse_calls(rest, columns)) for turn, (thought, rest) in split.items()}
    found = {turn: (thought, calls) for turn, (thought, calls) in read.items() if calls is not None}
    if not found:
        return fields
    thoughts, values = zip(*(found.get(turn, (None, None)) for turn in range(len(is_call))), strict=True)
    calls = json_columns.json_or_null(values)
    kept = json_columns.json_or_null(thoughts)
    own = fields.get("tool_calls")
    done = calls.is_valid()
    content = fields["content"]
    if content.type == json_columns.TEXT:
        kept = pa.array(thoughts, json_columns.TEXT)
    rest = {**fields, "content": pc.if_else(done, kept, content)}
    rest |= _replace_in_keys(rest, pc.and_(done, kept.is_valid()), "")
    return {
        **rest,
        "tool_calls": calls if own is None else pc.coalesce(own, calls),
        **_replace_in_keys(rest, pc.and_(done, kept.is_null()), "content"),
    }


def _replace_in_keys(fields: Mapping[str, pa.Array], turns: pa.Array, old: str) -> dict[str, pa.Array]:
    """Return `#keys` with `tool_calls` instead of the key `old`, or added, in the given turns."""
    if schema.KEYS not in fields:
        return {}
    keys = fields[schema.KEYS]
    return {schema.KEYS: pc.if_else(turns, json_columns.edit_keys(keys, lambda names: _replace_key(names, old)), keys)}


def _replace_key(keys: list[str], old: str) -> list[str]:
    if old in keys and "tool_calls" not in keys:
        return ["tool_calls" if key == old else key for key in keys]
    return [key for key in keys if key != old] if old else [*keys, "tool_calls"]
