"""Checks of tool calls: against the tools of their row, the results that follow, and their own form."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, decode_conversations, loads
from ..schema import CONVERSATIONS, KEPT
from ..turn_columns import to_bools
from .column_view import TOOL, ColumnView, Finding, Limits

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


def unread_calls(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A call or a result, of which the trainer reads none."""
    if limits.unread_calls:
        found = view.filled(("tool_calls", "function_call")) | (view.roles == TOOL)
        hint = f"{limits.unread_calls} writes them"
        yield from view.at_turns("tool.unread", found, "the trainer does not read calls and results", lambda _: hint)


def results_in_a_row(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A result after another, if that is named: a trainer that renders turn by turn may end each of them."""
    if "tool.results" in limits.named:
        is_result = view.roles == TOOL
        after = np.append(False, is_result[:-1])
        after[view.starts[view.lengths > 0]] = False
        yield from view.at_turns("tool.results", is_result & after, "`tool` follows `tool`")


def unanswered_calls(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Calls with fewer results than calls before the next turn that is not a result."""
    ends = view.starts + view.lengths
    for turn, made in _decoded(view, "tool_calls"):
        end = int(ends[view.rows[turn]])
        results = 0
        while turn + 1 + results < end and view.roles[turn + 1 + results] == TOOL:
            results += 1
        if turn + 1 + results < end and isinstance(made, list) and len(made) > results:
            missing = len(made) - results
            yield view.finding("tool.unanswered", turn, f"{missing} of {len(made)} calls have no result")


def _calls_with_tools(view: ColumnView) -> Iterator[tuple[int, int, str, Any, Mapping[str, Any]]]:
    """Yield the turn, the number of the call, its name and arguments, and the parameters of the row's tools by name."""
    if view.tools is None:
        return
    known: dict[str, dict[str, Any]] = {}
    for turn, made in _decoded(view, "tool_calls"):
        text = view.tools[int(view.rows[turn])].as_py()
        if text is None or text == "null":
            continue
        if text not in known:
            known[text] = _parameters(loads(text))
        for number, function in _functions(made) if isinstance(made, list) and known[text] else ():
            if isinstance(function.get("name"), str):
                yield turn, number, function["name"], function.get("arguments"), known[text]


def long_integers(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """An integer of more than 64 bits in a value that is written as JSON: `datasets` cannot read it, nor the file."""
    for key in view.turns.type.names if limits.written else ():
        hint = "--transform arguments=text writes the arguments of calls as text" if key in _CALLS else ""
        for turn, detail in _long_integers_of(key, view.values(key)):
            yield view.finding("json.integer", turn, detail, hint)
    for column, values in view.beside.items():
        name = column.removeprefix(KEPT)
        if column not in CONVERSATIONS:
            as_text = shlex.quote(f"{name}={{{{ row[{json.dumps(name, ensure_ascii=False)}] | tojson }}}}")
            hint = f"--map {as_text} writes it as text"
        elif limits.written:
            hint = ""
        else:
            continue
        for row, detail in _long_integers_of(name, values):
            yield Finding("json.integer", row, None, detail, view.name, hint)


def _long_integers_of(name: str, values: pa.Array) -> Iterator[tuple[int, str]]:
    """Yield the indexes of values of JSON that have integers of more than 64 bits, and what is wrong with them."""
    for index in _with_digits(values) if values.type == JSON else ():
        for number in _long_integers(loads(values[index].as_py())):
            yield index, f"`{name}` has an integer of more than 64 bits, {number}"


_CALLS = ("tool_calls", "function_call")
_DIGITS = r"\d{19}"
"""What the text of an integer of more than 64 bits has."""


def _with_digits(values: pa.Array) -> list[int]:
    return np.flatnonzero(to_bools(pc.match_substring_regex(values.cast(TEXT), _DIGITS))).tolist()


def _long_integers(value: Any) -> Iterator[int]:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _long_integers(item)


def _decoded(view: ColumnView, name: str) -> Iterator[tuple[int, Any]]:
    """Yield the turns that have a value of a field of JSON, and the value."""
    values = view.values(name)
    if values.type == JSON:
        for turn in np.flatnonzero(to_bools(values.is_valid())).tolist():
            yield turn, loads(values[turn].as_py())


def _functions(calls: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the function of each call that is an object, in a list of calls or alone."""
    for number, call in enumerate(calls if isinstance(calls, list) else [calls]):
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield number, function


def _parameters(tools: Any) -> dict[str, Any]:
    """Return the parameters of tools by name."""
    named = (function for _, function in _functions(tools) if isinstance(function.get("name"), str))
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


def orphan_result(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A tool turn without a call before it, or without a call with its id."""
    tool = view.roles == TOOL
    if not tool.any():
        return
    rows = np.flatnonzero(view.has(tool))
    chosen = pa.array(rows)
    conversations = decode_conversations(view.column.take(chosen))
    prompts = decode_conversations(view.prompt.column.take(chosen)) if view.prompt is not None else [None] * len(rows)
    for row, turns, prompt in zip(rows.tolist(), conversations, prompts, strict=True):
        earlier = prompt or [] if view.prompted[row] or view.name == "completion" else []
        for position, detail in _orphans(earlier, turns or []):
            yield Finding("tool.orphan", row, position, detail, view.name)


def _orphans(earlier: list[dict[str, Any]], turns: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    open_calls, ids = 0, set()
    for position, turn in enumerate([*earlier, *turns], -len(earlier)):
        calls = turn.get("tool_calls")
        if isinstance(calls, list):
            open_calls += len(calls)
            ids |= {call["id"] for call in calls if isinstance(call, dict) and isinstance(call.get("id"), str)}
        open_calls += turn.get("function_call") is not None
        if turn.get("role") != "tool" or position < 0:
            continue
        answered_id = turn.get("tool_call_id")
        if isinstance(answered_id, str) and ids and answered_id not in ids:
            yield position, f"no call has the id `{answered_id}`"
        elif not open_calls:
            yield position, "no call comes before the result"


def unparsable_arguments(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Arguments of a call that are missing, or text but not a JSON object."""
    for turn, number, arguments in _arguments(view):
        if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
            detail = f"call {number} has no `arguments`"
            yield view.finding("tool.arguments", turn, detail, "--transform arguments=object")
        elif isinstance(arguments, str) and not _is_object(arguments):
            yield view.finding("tool.arguments", turn, f"the arguments of call {number} are not a JSON object")


def encoded_twice(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Arguments of a call that are JSON text, if the template prints text as a JSON string."""
    for turn, number, text in _arguments(view):
        if not isinstance(text, str):
            continue
        if not limits.encodes_twice():
            return
        if _is_object(text):
            detail = f"the template prints the arguments of call {number}, which are JSON text, as a quoted string"
            yield view.finding("tool.encoded", turn, detail)


def _arguments(view: ColumnView) -> Iterator[tuple[int, int, Any]]:
    """Yield the turn, the number and the arguments of each call, None without any."""
    for name in _CALLS:
        for turn, calls in _decoded(view, name):
            for number, function in _functions(calls):
                yield turn, number, function.get("arguments")


def _is_object(text: str) -> bool:
    try:
        return isinstance(loads(text), dict)
    except (ValueError, RecursionError):
        return False
