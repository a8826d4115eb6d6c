"""Tool calls in the text of assistant turns: in brackets (ToolACE), as thought and action (ReAct)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError, located
from ...schema import Turn
from ..chat.messages import find_messages_parts
from ..chat.plain_turns import find_written_parts, mentions, read_plain_turns, turns_after_preamble, with_preamble
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow
from ..kit.literals import read_literal
from ..kit.output import OutputRow, by_row, convert_rows
from ..kit.tool_calls import named_call, with_calls
from ..kit.tool_specs import to_spec
from .functions import names_of, system_text, with_system_text


def toolace(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    r"""Assistant turns with calls in brackets; the functions are specified as JSON in the system text (ToolACE).

    In:  `{"system": "Functions:\n[{\"name\": \"Get Rain\"}]", "conversations": [{"from": "user", "value": "Rain?"},
           {"from": "assistant", "value": "[Get Rain(city=\"Oslo\", days=2)]"}]}`
    Out: `{"messages": [{"role": "system", "content": "Functions:\n"}, {"role": "user",
           "content": "Rain?"}, {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name":
           "Get Rain", "arguments": {"city": "Oslo", "days": 2}}}]}],
           "tools": [{"type": "function", "function": {"name": "Get Rain"}}]}`

    Values are parsed as literals, never executed; a turn that is not only calls stays text. The list is moved out of
    the system text, so that a template prints the functions once; the rest of it is unchanged. A system turn is read
    like the column.
    Raises DialectError `msg.role`.
    """
    return convert_rows(batch, with_preamble(columns), _toolace)


def _toolace(record: SourceRow, columns: Columns) -> dict[str, Any]:
    turns = turns_after_preamble(record, columns)
    specs, text = _listed_specs(turns)
    if specs:
        turns = with_system_text(turns, text)
    names = sorted(map(str, names_of(specs)), key=len, reverse=True)
    made = [_with_bracket_calls(turn, names) for turn in turns]
    return {"messages": made, "tools": [to_spec(spec) for spec in specs] or None}


def _with_bracket_calls(turn: Turn, names: Sequence[str]) -> Turn:
    calls = bracket_calls(turn.get("content"), names) if turn["role"] == "assistant" else None
    return with_calls(turn, None, calls) if calls else turn


def _listed_specs(turns: Sequence[Turn]) -> tuple[list[Any], str]:
    """Return the first JSON list of functions in the system turn, and the text of the turn without it."""
    text = system_text(turns)
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\[\s*\{", text):
        try:
            found, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        named = all(isinstance(spec, Mapping) and isinstance(spec.get("name"), str) for spec in found)
        return (found, text[: match.start()] + text[end:]) if named else ([], text)
    return [], text


def bracket_calls(text: Any, names: Sequence[str]) -> list[Turn] | None:
    """Return the calls in `[Name(a="b", n=1), Other()]`, None for other text; the longest known name wins."""
    if not isinstance(text, str) or not (text.startswith("[") and text.rstrip().endswith("]")):
        return None
    rest = text.rstrip()[1:-1].strip()
    calls: list[Turn] = []
    while rest:
        name = next((name for name in names if rest.startswith(f"{name}(")), None) or _leading_identifier(rest)
        end = _closing_bracket(rest, len(name)) if name else None
        arguments = None if not name or end is None else _arguments(rest[len(name) + 1 : end])
        if name is None or end is None or arguments is None:
            return None
        calls.append(named_call(name, arguments))
        rest = rest[end + 1 :].lstrip().removeprefix(",").lstrip()
    return calls or None


def _leading_identifier(text: str) -> str | None:
    match = re.match(r"[A-Za-z_][\w.]*(?=\()", text)
    return match[0] if match else None


_MARK = re.compile(r"""\"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[][(){},]""", re.DOTALL)


def _marks(text: str, start: int) -> Iterator[tuple[int, str, int]]:
    """Yield the brackets and commas outside quotes: the index, the character, and the depth of brackets after it."""
    depth = 0
    for mark in _MARK.finditer(text, start):
        depth += (mark[0] in "([{") - (mark[0] in ")]}")
        yield mark.start(), mark[0], depth


def _closing_bracket(text: str, start: int) -> int | None:
    """Return the index of the bracket that closes the one at `start`; brackets in quotes do not count."""
    return next((index for index, _, depth in _marks(text, start) if depth == 0), None)


_KEYWORD = re.compile(r"\s*,?\s*([$\w]+)\s*=\s*")


def _arguments(text: str) -> dict[str, Any] | None:
    """Return the keyword arguments of a call; keys may be Python keywords or begin with `$`."""
    out: dict[str, Any] = {}
    while text.strip():
        match = _KEYWORD.match(text)
        if match is None:
            return None
        end = _value_end(text, match.end())
        try:
            out[match[1]] = _literal(text[match.end() : end].strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
        text = text[end:]
    return out


def _value_end(text: str, start: int) -> int:
    """Return the end of the value at `start`: the next comma outside brackets and quotes."""
    return next((index for index, mark, depth in _marks(text, start) if mark == "," and not depth), len(text))


def _literal(text: str) -> Any:
    names = {"true": True, "false": False, "null": None}
    value = names[text] if text in names else read_literal(text) if text[:1] in "[{" else ast.literal_eval(text)
    if isinstance(value, (set, bytes, complex)) or value is text:
        raise ValueError(text)
    return list(value) if isinstance(value, tuple) else value


def find_toolace_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose system text lists functions."""
    found = find_messages_parts(record, columns) if mentions(record, '"name"') else None
    if found is None:
        return None
    columns = with_preamble(columns.adding(found))
    try:
        lists_functions = _listed_specs(turns_after_preamble(record, columns, 1))[0]
        return found if lists_functions and turns_after_preamble(record, columns) else None
    except DialectError:
        return None


def has_bracket_calls(record: SourceRow, columns: Columns) -> bool:
    """Return whether an assistant turn of a row calls functions that its system text lists."""
    made = _toolace(record, with_preamble(columns.adding(find_toolace_parts(record, columns) or {})))
    known = names_of(made["tools"] or [])
    return any(call["function"]["name"] in known for turn in made["messages"] for call in turn.get("tool_calls") or [])


_REACT = re.compile(r"(.*?)\n?Action:[ \t]*([^\n]*)\n+Action Input:[ \t]*(.*)", re.DOTALL)


@by_row
def react(record: SourceRow, columns: Columns) -> OutputRow:
    r"""Assistant turns with a thought, an action and its input (ReAct, ToolBench).

    In:  `{"conversations": [{"from": "user", "value": "Rain?"}, {"from": "assistant", "value":
           "Thought: look.\nAction: f\nAction Input: {\"a\": 1}"}, {"from": "function", "value": "no"}]}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Thought: look.",
           "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "content": "no"}]}`

    A user turn that begins with `Observation:` after a call is its result. An input that is not JSON stays text.
    `Finish` is a call like any other. Raises DialectError `msg.role`, and `msg.type` for a turn that goes
    on after that.
    """
    return {"messages": _react_turns(read_plain_turns(record, columns))}


def _react_turns(turns: Sequence[Turn]) -> list[Turn]:
    out: list[Turn] = []
    for message, written in enumerate(turns):
        with located(message=message):
            turn = _react_turn(written)
        text = turn.get("content")
        match = _OBSERVATION.match(text) if isinstance(text, str) and turn["role"] == "user" else None
        answers = match is not None and bool(out) and "tool_calls" in out[-1]
        out.append({**turn, "role": "tool", "content": match.string[match.end() :]} if match and answers else turn)
    return out


_MORE = re.compile(r"\n(Observation|Thought|Action|Final Answer):")
_OBSERVATION = re.compile(r"\s*Observation:[ \t]*\n?")


def _react_turn(turn: Turn) -> Turn:
    text = turn.get("content")
    match = _REACT.fullmatch(text) if turn["role"] == "assistant" and isinstance(text, str) else None
    if match is None:
        return turn
    thought, name, arguments = match.groups()
    read = read_literal(arguments)
    if isinstance(read, str) and _MORE.search(read):
        raise DialectError("the turn goes on after the input of its action", code="msg.type")
    return with_calls(turn, thought or None, [named_call(name.strip(), read)])


DIALECTS = {
    "toolace": Dialect(toolace, find_toolace_parts, "tool calls in brackets (ToolACE)", rank=264,
                       covers=frozenset({"messages", "sharegpt"}), is_sure=has_bracket_calls, finds=has_bracket_calls),
    "react": Dialect(react, lambda record, columns: find_written_parts(record, columns, "\nAction Input:"),
                     "thoughts and actions (ReAct)", rank=530, covers=frozenset({"messages", "sharegpt"}), opt_in=True),
}  # fmt: skip
