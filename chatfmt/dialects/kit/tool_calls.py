"""Tool calls of turns: as text, under OpenAI's older key, or with keys of other names.

A call becomes `{"type": "function", "function": {"name": …, "arguments": …}}`, with an `id` if it has one. Arguments
stay an object or text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, schema
from .columns import Columns
from .literals import read_literal

_ARGUMENTS = ("arguments", "parameters", "args", "input")


def read_calls(fields: dict[str, pa.Array], is_call: pa.Array, columns: Columns) -> dict[str, pa.Array]:
    """Return the fields of turns with all calls under `tool_calls`.

    `is_call` marks the turns whose content should be a call as text; content that is not a call stays content.
    """
    if "function_call" in fields:
        fields = _from_function_call(fields, columns)
    if "tool_calls" in fields and _named_keys(columns):
        calls = _map_json(fields["tool_calls"], lambda calls: _calls(calls, columns))
        fields = {**fields, "tool_calls": calls}
    return _parse_content(fields, is_call, columns) if pc.any(is_call).as_py() else fields


def to_call(value: Any, columns: Columns) -> dict[str, Any] | None:
    """Return the call in an object, None if it is not one; mapped `tool_calls.name`, … name its keys."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("function"), Mapping):
        return dict(value)
    keys = _named_keys(columns)
    name = value.get(keys.get("name", "name"))
    arguments = next((key for key in (keys.get("arguments"), *_ARGUMENTS) if key is not None and key in value), None)
    if not isinstance(name, str):
        return None
    function = {"name": name} | ({"arguments": value[arguments]} if arguments else {})
    return ({"id": value["id"]} if isinstance(value.get("id"), str) else {}) | {
        "type": "function",
        "function": function,
    }


def parse_calls(text: str, columns: Columns) -> list[dict[str, Any]] | None:
    """Return the calls in `text`: an object, a list of objects, or Glaive's notation; None if it is not a call."""
    value = _glaive(text) or read_literal(text)
    calls = [to_call(item, columns) for item in (value if isinstance(value, list) else [value])]
    return calls if calls and all(calls) else None  # type: ignore[return-value]


_GLAIVE = re.compile(r"""\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*'(.*)'\s*\}\s*""", re.DOTALL)


def _glaive(text: str) -> Any:
    """Return the call in `{"name": "f", "arguments": '{"a": 1}'}`, which is JSON except for the single quotes."""
    match = _GLAIVE.fullmatch(text)
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


def _calls(value: Any, columns: Columns) -> Any:
    calls = value if isinstance(value, list) else [value]
    return [to_call(call, columns) or call for call in calls]


def _map_json(values: pa.Array, read: Callable[[Any], Any]) -> pa.Array:
    """Apply `read` to each value of a JSON column; absent values and nulls stay."""
    found = json_columns.json_values(values)
    return json_columns.json_array(
        [None if value is None else read(value) for value in found], values.is_valid().to_pylist()
    )


def _from_function_call(fields: dict[str, pa.Array], columns: Columns) -> dict[str, pa.Array]:
    """Move `function_call` (an object) to `tool_calls`; turns that have both keep their `tool_calls`."""
    older = fields["function_call"]
    if older.type == json_columns.TEXT:
        texts = older.to_pylist()
        older = json_columns.json_array(
            [text and read_literal(text) for text in texts], [text is not None for text in texts]
        )
    calls = _map_json(older, lambda value: _calls(value, columns))
    calls = pc.if_else(pc.equal(calls, "null").fill_null(True), pa.scalar(None, json_columns.JSON), calls)
    if "tool_calls" in fields:
        calls = pc.coalesce(fields["tool_calls"], calls)
    kept = {
        ("tool_calls" if name == "function_call" else name): values
        for name, values in fields.items()
        if name != "tool_calls"
    }
    return {**kept, "tool_calls": calls, **_replace_in_keys(kept, pa.array([True] * len(calls)), "function_call")}


def _parse_content(fields: dict[str, pa.Array], is_call: pa.Array, columns: Columns) -> dict[str, pa.Array]:
    turns = pc.indices_nonzero(is_call)
    texts = json_columns.decode_values(fields["content"].take(turns))
    read = {
        turn: parse_calls(text, columns) if isinstance(text, str) else None
        for turn, text in zip(turns.to_pylist(), texts, strict=True)
    }
    found = {turn: calls for turn, calls in read.items() if calls is not None}
    if not found:
        return fields
    values = [found.get(turn) for turn in range(len(is_call))]
    calls = json_columns.json_array(values, [value is not None for value in values])
    own = fields.get("tool_calls")
    done = calls.is_valid()
    content = fields["content"]
    rest = {**fields, "content": pc.if_else(done, pa.scalar(None, content.type), content)}
    return {
        **rest,
        "tool_calls": calls if own is None else pc.coalesce(own, calls),
        **_replace_in_keys(rest, done, "content"),
    }


def _replace_in_keys(fields: Mapping[str, pa.Array], turns: pa.Array, old: str) -> dict[str, pa.Array]:
    """Return `#keys` with `tool_calls` instead of the key `old` in the given turns."""
    if schema.KEYS not in fields:
        return {}
    texts = [
        text if text is None or not there else json_columns.dumps(_replace_key(json_columns.loads(text), old))
        for text, there in zip(fields[schema.KEYS].to_pylist(), turns.to_pylist(), strict=True)
    ]
    return {schema.KEYS: pa.array(texts, json_columns.TEXT)}


def _replace_key(keys: list[str], old: str) -> list[str]:
    if old in keys and "tool_calls" not in keys:
        return ["tool_calls" if key == old else key for key in keys]
    return [key for key in keys if key != old]
