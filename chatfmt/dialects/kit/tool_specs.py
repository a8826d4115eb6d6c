"""Specifications of the tools that a row may call, as a JSON list in OpenAI's format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from ... import json_columns
from ...errors import DialectError, map_rows
from .columns import json_type
from .literals import read_literal, read_objects


def to_specs(values: pa.Array) -> pa.Array:
    """Return a column of tool specifications as JSON, one list per row; null for a row without any (`""`, `[]`, null).

    A value is a list of objects or of JSON texts, one object, an object of the tools by name, or any of these as text;
    a tool may be a description alone, and an item of a list a group of tools, as Gemini's `functionDeclarations`.
    Raises DialectError `col.type` for anything else.
    """
    read = cache(specs_in)
    found = json_columns.decode_values(values)
    specs = map_rows(lambda value: read(value) if isinstance(value, str) else specs_in(value), found)
    return json_columns.json_or_null(specs)


def specs_in(value: Any) -> list[Any] | None:
    """Return the specifications in one value, None if there are none; raises DialectError `col.type`."""
    if value is None or value is json_columns.ABSENT or (isinstance(value, str) and value.strip() in ("", "null")):
        return None
    items = read_objects(value)
    items = _listed(items) if isinstance(items, Mapping) else items
    if isinstance(items, list):
        items = [read_literal(item) for item in items]
        items = [spec for item in items for spec in (_listed(item) if item and isinstance(item, Mapping) else [item])]
    else:
        raise DialectError(
            f"`tools` is {json_type(items)}, not a list of specifications",
            hint="map another column with --map tools=COLUMN",
            code="col.type",
        )
    return [to_spec(item) for item in items] or None


def _listed(tools: Mapping[str, Any]) -> list[Any]:
    """Return one specification, or those in `{"f": {"description": …, "parameters": …}}` or `{"f": "…"}`, as a list."""
    if not tools:
        return []
    if "function" in tools or isinstance(tools.get("name"), str):
        return [tools]
    if all(isinstance(spec, Mapping) and not _SPEC_KEYS.isdisjoint(spec) for spec in tools.values()):
        return [spec if "function" in spec else {"name": name, **spec} for name, spec in tools.items()]
    if all(isinstance(text, str) and " " in text.strip() and name not in _OTHER_KEYS for name, text in tools.items()):
        return [{"name": name, "description": text} for name, text in tools.items()]
    inner = next((tools[key] for key in _GROUPS if isinstance(tools.get(key), list)), None)
    return [tools] if inner is None else inner


_SPEC_KEYS = frozenset({"description", "parameters", "input_schema", "inputSchema", "function", "name", "arguments"})
_OTHER_KEYS = _SPEC_KEYS | {"type", "text", "content"}
_GROUPS = ("tools", "functions", "functionDeclarations", "function_declarations")


def to_spec(value: Any) -> Any:
    """Return one specification as `{"type": "function", "function": {"name": …, "parameters": …}}`.

    A bare function is wrapped, and the key of its schema renamed to `parameters` (`input_schema` of Anthropic,
    `inputSchema` of MCP, `toolSpec` of Bedrock); JSON text in place of an object is read.
    """
    item = read_literal(value)
    if not isinstance(item, Mapping):
        raise DialectError(
            f"a specification in `tools` is {json_type(item)}, not an object",
            hint="--drop COLUMN leaves the column of tools behind",
            code="col.type",
        )
    item = _with_objects(item["toolSpec"] if isinstance(item.get("toolSpec"), Mapping) else item)
    if "function" in item or not isinstance(item.get("name"), str):
        return item
    if item.get("type", "function") != "function":
        return item
    names = {} if "parameters" in item else dict.fromkeys(_SCHEMAS, "parameters")
    function = {names.get(key, key): _schema_in(part) for key, part in item.items() if key != "type"}
    return {"type": "function", "function": function}


def _with_objects(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification whose function and schema are objects, also where they are written as JSON text."""
    read = {key: read_literal(part) if key in _OBJECTS else part for key, part in spec.items()}
    return {**read, "function": _with_objects(read["function"])} if isinstance(read.get("function"), Mapping) else read


SCHEMA_TYPES = {
    "str": "string", "string": "string", "int": "integer", "integer": "integer", "float": "number", "number": "number",
    "bool": "boolean", "boolean": "boolean", "list": "array", "array": "array", "set": "array", "tuple": "array",
    "dict": "object", "object": "object",
}  # fmt: skip
"""The types of Python and JSON Schema, as JSON Schema has them."""
_SCHEMAS = ("input_schema", "inputSchema")
_OBJECTS = frozenset({"function", "parameters", *_SCHEMAS})


def _schema_in(part: Any) -> Any:
    """Return a schema without the wrapper `{"json": …}` of Bedrock, anything else unchanged."""
    return part["json"] if isinstance(part, Mapping) and set(part) == {"json"} else part
