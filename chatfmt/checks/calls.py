"""Checks of tool calls against the tools of their row, and against the results that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..json_columns import JSON, loads
from ..schema import ROLES
from ..turn_columns import to_bools
from .column_view import ColumnView, Finding, Limits

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,),
    "object": (dict,), "null": (type(None),),
}  # fmt: skip
"""The Python types of the types of JSON Schema; other names of types are not checked."""


def unknown_tools(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A call of a tool that the tools of the row do not have."""
    for turn, number, name, _, tools in _calls_with_tools(view):
        if name not in tools:
            yield view.finding("tool.unknown", turn, f"call {number} is to `{name}`, which is not one of the tools")


def unfit_arguments(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Arguments of a call that its tool does not take: one missing, one unknown, one of another type."""
    for turn, number, name, arguments, tools in _calls_with_tools(view):
        for problem in _misfits(arguments, tools.get(name)):
            yield view.finding("tool.misfit", turn, f"call {number} of `{name}`: {problem}")


def unanswered_calls(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Calls with fewer results than calls before the next turn that is not a result."""
    calls = view.values("tool_calls")
    if calls.type != JSON or calls.null_count == len(calls):
        return
    tool = ROLES.index("tool")
    ends = view.starts + view.lengths
    for turn in np.flatnonzero(to_bools(calls.is_valid())).tolist():
        end = int(ends[view.rows[turn]])
        results = 0
        while turn + 1 + results < end and view.roles[turn + 1 + results] == tool:
            results += 1
        made = loads(calls[turn].as_py())
        if turn + 1 + results < end and isinstance(made, list) and len(made) > results:
            missing = len(made) - results
            yield view.finding("tool.unanswered", turn, f"{missing} of {len(made)} calls have no result")


def _calls_with_tools(view: ColumnView) -> Iterator[tuple[int, int, str, Any, Mapping[str, Any]]]:
    """Yield the turn, the number of the call, its name and arguments, and the parameters of the row's tools by name."""
    calls = view.values("tool_calls")
    if view.tools is None or calls.type != JSON or calls.null_count == len(calls):
        return
    known: dict[str, dict[str, Any]] = {}
    for turn in np.flatnonzero(to_bools(calls.is_valid())).tolist():
        text = view.tools[int(view.rows[turn])].as_py()
        if text is None or text == "null":
            continue
        if text not in known:
            known[text] = _parameters(loads(text))
        made = loads(calls[turn].as_py())
        for number, call in enumerate(made if isinstance(made, list) and known[text] else ()):
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                yield turn, number, function["name"], function.get("arguments"), known[text]


def _parameters(tools: Any) -> dict[str, Any]:
    """Return the parameters of tools by name."""
    items = tools if isinstance(tools, list) else [tools]
    functions = [item.get("function", item) for item in items if isinstance(item, dict)]
    named = [function for function in functions if isinstance(function, dict) and isinstance(function.get("name"), str)]
    return {function["name"]: function.get("parameters") for function in named}


def _misfits(arguments: Any, parameters: Any) -> Iterator[str]:
    """Yield what is wrong with arguments, given the JSON Schema of an object; text that is not JSON is not checked."""
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if isinstance(arguments, str):
        try:
            arguments = loads(arguments)
        except ValueError:
            return
    if not isinstance(properties, dict) or not isinstance(arguments, dict):
        return
    required = parameters.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in arguments:
            yield f"the argument `{name}` is missing"
    for name, value in arguments.items():
        if name in properties:
            wanted = properties[name].get("type") if isinstance(properties[name], dict) else None
            if not _has_type(value, wanted):
                yield f"the argument `{name}` is not of type {wanted}"
        elif parameters.get("additionalProperties") in (None, False):
            yield f"there is no argument `{name}`"


def _has_type(value: Any, wanted: Any) -> bool:
    """Return whether a value has a type of JSON Schema, or one of several; an unknown name counts as any."""
    names: Sequence[Any] = wanted if isinstance(wanted, list) else [wanted]
    if any(not isinstance(name, str) or name not in _TYPES for name in names):
        return True
    numeric = isinstance(value, float) and value.is_integer() and "integer" in names
    is_bool = isinstance(value, bool)
    return numeric or any(isinstance(value, _TYPES[name]) and (not is_bool or name == "boolean") for name in names)
