"""Datasets of function calls as JSON: Hermes, Glaive, xLAM, BFCL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...errors import DialectError
from ...field_path import value_at
from ...schema import Turn
from ..chat.messages import find_messages_parts
from ..chat.plain_turns import find_written_parts, mentions, turns_after_preamble, with_preamble
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, json_type
from ..kit.literals import read_literal
from ..kit.output import by_row, convert_rows
from ..kit.roles import to_role
from ..kit.tool_calls import parse_calls, to_call, with_calls
from ..kit.tool_specs import SCHEMA_TYPES, specs_in, to_spec
from .agent_traces import find_question_part, with_question

_CALL = re.compile(r"\s*<tool_call>\s*(.*?)\s*</tool_call>\s*", re.DOTALL)
_RESPONSE = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*", re.DOTALL)
_TOOLS = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)


def hermes(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    r"""Turns with calls in `<tool_call>`, results in `<tool_response>`, and tools in `<tools>` of the system turn.

    In:  `{"conversations": [{"from": "system", "value": "Be brief. <tools>[{\"name\": \"f\"}]</tools>"},
           {"from": "gpt", "value": "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"},
           {"from": "tool", "value": "<tool_response>\n{\"rain\": false}\n</tool_response>"}]}`
    Out: `{"messages": [{"role": "system", "content": "Be brief. "}, {"role": "assistant",
           "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "content": "{\"rain\": false}"}],
           "tools": [{"type": "function", "function": {"name": "f"}}]}`

    The tools are moved out of the system text, so that a template prints them once; the rest of it is unchanged. A turn
    with a call that cannot be parsed stays text. Each response becomes a turn. A question in another column is inserted
    as in `traces`. Without tools it is read only by name.
    Raises DialectError `msg.role`.
    """
    return convert_rows(batch, with_preamble(columns), _hermes)


def _hermes(record: SourceRow, columns: Columns) -> dict[str, Any]:
    turns = with_question(turns_after_preamble(record, columns), record, columns)
    listed = value_at(record, columns.path("tools") or "")
    tools, text = _hermes_tools(system_text(turns))
    if tools and (not listed or names_of(tools) <= names_of(specs_in(listed) or [])):
        turns = with_system_text(turns, text)
    made = [new for turn in turns for new in _hermes_turn(turn, columns)]
    return {"messages": made, "tools": None if listed else tools or None}


def system_text(turns: Sequence[Turn]) -> str:
    """Return the text of the system turn that opens a conversation, empty if there is none."""
    text = turns[0].get("content") if turns and turns[0]["role"] == "system" else ""
    return text if isinstance(text, str) else ""


def with_system_text(turns: Sequence[Turn], text: str) -> list[Turn]:
    """Return the turns with another text in the system turn that opens them, without the turn if it is blank."""
    return [*([{**turns[0], "content": text}] if text.strip() else []), *turns[1:]]


def names_of(specs: Sequence[Any]) -> set[str]:
    """Return the names of tools."""
    functions = [spec.get("function", spec) for spec in specs if isinstance(spec, Mapping)]
    return {str(function.get("name")) for function in functions if isinstance(function, Mapping)}


def _hermes_tools(text: str) -> tuple[list[Any], str]:
    """Return the specifications between tags in a system text, and the text without them.

    The first pair of tags may only mention them.
    """
    for match in _TOOLS.finditer(text):
        found = match[1]
        specs = read_literal(found.strip())
        lines = [read_literal(line) for line in found.splitlines() if line.strip()]
        specs = lines if isinstance(specs, str) else specs if isinstance(specs, list) else [specs]
        if specs and all(isinstance(spec, Mapping) for spec in specs):
            return [to_spec(spec) for spec in specs], text[: match.start()] + text[match.end() :]
    return [], text


def _hermes_turn(turn: Turn, columns: Columns) -> list[Turn]:
    text = turn.get("content")
    if not isinstance(text, str):
        return [turn]
    if turn["role"] in ("tool", "user"):  # Qwen's templates print results in the turns of the user
        found = _RESPONSE.findall(text)
        results = [{**turn, "role": "tool", "content": result} for result in found]
        return results if found and not _RESPONSE.sub("", text) else [turn]
    blocks = _CALL.findall(text) if turn["role"] == "assistant" else []
    calls = [parse_calls(block, columns) for block in blocks]
    if not calls or not all(calls):
        return [turn]
    return [with_calls(turn, _CALL.sub("", text) or None, [call for some in calls for call in some or []])]


def find_hermes_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with `<tool_call>` in a turn, or tools in `<tools>` of the system turn."""
    if not mentions(record, "<tool"):  # half the time of both tags
        return None
    found = find_written_parts(record, columns, "<tool_call>", "<tools>")
    if found is None and mentions(record, "<tools>"):  # in a system column
        found = find_messages_parts(record, columns)
    return None if found is None else {**found, **find_question_part(record, columns)}


def has_hermes_tools(record: SourceRow, columns: Columns) -> bool:
    """Return whether the tools of a row are known: in a column, or in its system turn."""
    found = with_preamble(columns.adding(find_hermes_parts(record, columns) or {}))
    if value_at(record, found.path("tools") or ""):
        return True
    try:
        return bool(_hermes_tools(system_text(turns_after_preamble(record, found)))[0])
    except DialectError:
        return False


def has_hermes_calls(record: SourceRow, columns: Columns) -> bool:
    """Return whether a turn has a call that can be parsed, or the row tools; Qwen3-Coder's calls are not JSON."""
    found = columns.adding(find_hermes_parts(record, columns) or {})
    blocks = (
        block for turn in turns_after_preamble(record, found) for block in _CALL.findall(str(turn.get("content")))
    )
    return any(parse_calls(block, columns) for block in blocks) or has_hermes_tools(record, columns)


_GLAIVE = re.compile(r"(?:^|\n)\s*(USER|ASSISTANT|FUNCTION RESPONSE):[ \t]?")
_FUNCTION_CALL = re.compile(r"\s*<functioncall>\s*(\{.*\})\s*", re.DOTALL)
_END = re.compile(r"\s*<\|endoftext\|>\s*\Z|\n+\Z")


@by_row
def glaive(record: SourceRow, columns: Columns) -> dict[str, Any]:
    r"""A system text with JSON objects and a chat as one text (glaive-function-calling-v2).

    In:  `{"system": "SYSTEM: You are a helpful assistant with access to the
           following functions. Use them if required -\n{\"name\": \"f\"}", "chat": "USER: Rain?\n\n\nASSISTANT:
           <functioncall> {\"name\": \"f\", \"arguments\": '{\"a\": 1}'} <|endoftext|>\n\n\nFUNCTION RESPONSE: no\n"}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": {"a": 1}}}]}, {"role": "tool", "name": "f", "content": "no"}],
           "tools": [{"type": "function", "function": {"name": "f"}}]}`

    The objects of the system text, which may also begin the chat (`sample` in the first version), become `tools`. The
    rest of it becomes a system turn, without the sentence that introduces them in this dataset. Line breaks between
    turns and `<|endoftext|>` are dropped. A call that cannot be parsed stays text. Raises DialectError `msg.type`.
    """
    path = columns.path("chat") or "chat"
    chat, system = value_at(record, path), value_at(record, columns.path("preamble") or "system")
    pieces = _GLAIVE.split(chat) if isinstance(chat, str) else []
    before = pieces[0] if pieces else ""
    system = system or (before if before.startswith("SYSTEM:") else system)
    if len(pieces) < 3 or before not in ("", system):
        raise DialectError(f"column `{path}` does not begin with `USER:`", code="msg.type")
    tools, text = _glaive_tools(system) if isinstance(system, str) else ([], "")
    turns: list[Turn] = [{"role": "system", "content": text}] if text else []
    for name, content in zip(pieces[1::2], pieces[2::2], strict=True):
        turns.append(_glaive_turn(name, _END.sub("", content), turns, columns))
    return {"messages": turns, "tools": tools or None}


def _glaive_turn(name: str, content: str, before: Sequence[Turn], columns: Columns) -> Turn:
    if name == "USER":
        return {"role": "user", "content": content}
    if name == "FUNCTION RESPONSE":
        calls = before[-1].get("tool_calls") if before else None
        named = {"name": calls[-1]["function"]["name"]} if calls else {}
        return {"role": "tool", **named, "content": content}
    match = _FUNCTION_CALL.fullmatch(content)
    calls = parse_calls(match[1], columns) if match else None
    return {"role": "assistant", "tool_calls": calls} if calls else {"role": "assistant", "content": content}


def _glaive_tools(system: str) -> tuple[list[Any], str]:
    """Return the JSON objects in the system text as specifications, and the rest of the text without `SYSTEM:`."""
    text = system.removeprefix("SYSTEM:").removeprefix(" ")
    start, rest, end = text.find("{"), "", 0
    specs: list[Any] = []
    decoder = json.JSONDecoder()
    while start >= 0:
        try:
            spec, after = decoder.raw_decode(text, start)
        except ValueError:
            break
        specs.append(to_spec(spec))
        rest, end = rest + text[end:start], after
        start = text.find("{", end)
    return specs, _INTRODUCTION.sub("", rest + text[end:]).strip() if specs else text


_INTRODUCTION = re.compile(
    r"(?:You are a helpful assistant,? with|You have) access to the following functions\. Use them if required -"
)


def find_glaive_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a chat in Glaive's format."""
    path = columns.path("chat") or next((name for name in ("chat", "sample") if name in record), "")
    chat = value_at(record, path)
    if not isinstance(chat, str) or not (_GLAIVE.match(chat) or (chat[:7] == "SYSTEM:" and _GLAIVE.search(chat))):
        return None
    return {"chat": path, **({"preamble": "system"} if isinstance(record.get("system"), str) else {})}


@by_row
def xlam(record: SourceRow, columns: Columns) -> dict[str, Any]:
    r"""A query, tools and the calls that answer it, the last two as JSON (xlam-function-calling-60k).

    In:  `{"query": "Rain?", "tools": "[{\"name\": \"f\", \"description\": \"d\", \"parameters\": {\"a\": {\"type\":
           \"int\", \"description\": \"x\"}}}]", "answers": "[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": {"a": 1}}}]}], "tools": [{"type": "function", "function": {"name":
           "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer",
           "description": "x"}}, "required": ["a"]}}}]}`

    Python type names are replaced by those of JSON Schema; a parameter that is not `optional` and has no default is
    required. Raises DialectError `col.type`.
    """
    query, tools, answers = (value_at(record, columns.path(part) or part) for part in ("prompt", "specs", "answers"))
    if not isinstance(query, str):
        raise DialectError(f"the query is {json_type(query)}, not text", code="col.type")
    calls = (
        parse_calls(answers, columns)
        if isinstance(answers, str)
        else [to_call(call, columns) for call in answers or []]
    )
    if not calls or not all(calls):
        raise DialectError("the answers are not a list of calls", code="col.type")
    specs = specs_in(tools)
    turns = [{"role": "user", "content": query}, {"role": "assistant", "tool_calls": calls}]
    return {"messages": turns, "tools": [_xlam_spec(spec) for spec in specs] if specs else None}


def _xlam_spec(spec: Any) -> Any:
    function = dict(spec.get("function", {}))
    parameters = function.get("parameters")
    if not isinstance(parameters, Mapping) or "properties" in parameters:
        return spec
    required = [name for name, param in parameters.items() if not _optional(param)]
    schema = {"type": "object", "properties": {name: _json_schema(param) for name, param in parameters.items()}}
    return {**spec, "function": {**function, "parameters": {**schema, "required": required}}}


def _optional(param: Any) -> bool:
    return not isinstance(param, Mapping) or "default" in param or "optional" in str(param.get("type", ""))


def _json_schema(param: Any) -> Any:
    if not isinstance(param, Mapping) or not isinstance(param.get("type"), str):
        return param
    name = param["type"].split(",")[0].strip()
    base = name.split("[")[0].lower()
    return {**param, "type": SCHEMA_TYPES.get(base, "string" if base.startswith("callable") else name)}


def find_xlam_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a query, tools and calls as answers."""
    prompt = columns.path("prompt") or "query"
    answers = read_literal(record.get("answers"))
    calls = isinstance(answers, list) and answers and all(to_call(call, columns) for call in answers)
    fits = isinstance(value_at(record, prompt), str) and "tools" in record and calls
    return {"prompt": prompt, "specs": "tools", "answers": "answers"} if fits else None


@by_row
def bfcl(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """A question of messages and the functions it may call (Berkeley Function Calling Leaderboard), without answers.

    In:  `{"question": [[{"role": "user", "content": "Rain?"}]], "function": [{"name": "f", "parameters": {"type":
           "dict", "properties": {"a": {"type": "float"}}}}]}`
    Out: `{"prompt": [{"role": "user", "content": "Rain?"}], "tools": [{"type": "function", "function": {"name": "f",
           "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}}]}`

    The types `dict`, `float`, `tuple` and `any` are replaced by those of JSON Schema. The turns of a question are
    concatenated. Raises DialectError `col.type`, `msg.role`.
    """
    question = value_at(record, columns.path("prompt") or "question")
    specs = specs_in(value_at(record, columns.path("specs") or "function"))
    turns = [turn for turns in question for turn in turns] if _is_bfcl(question) else None
    if turns is None:
        raise DialectError("the question is not a list of lists of turns", code="col.type")
    named = [{**turn, "role": to_role(turn.get("role"), columns.roles)} for turn in turns]
    return {"prompt": named, "tools": [_bfcl_schema(spec) for spec in specs] if specs else None}


_BFCL_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def _bfcl_schema(value: Any) -> Any:
    if isinstance(value, list):
        return [_bfcl_schema(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _BFCL_TYPES.get(item, item) if key == "type" and isinstance(item, str) else _bfcl_schema(item)
        for key, item in value.items()
    }


def _is_bfcl(question: Any) -> bool:
    return (
        isinstance(question, list)
        and bool(question)
        and all(isinstance(turns, list) and all(isinstance(turn, Mapping) for turn in turns) for turns in question)
    )


def find_bfcl_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with functions and a question as lists of turns."""
    prompt = columns.path("prompt") or "question"
    fits = _is_bfcl(value_at(record, prompt)) and "function" in record
    return {"prompt": prompt, "specs": "function"} if fits else None


DIALECTS = {
    "bfcl": Dialect(bfcl, find_bfcl_parts, "questions with callable functions (BFCL)", rank=200,
                    parts=frozenset({"prompt", "specs"}), type="prompt-only"),
    "xlam": Dialect(xlam, find_xlam_parts, "a query, tools and tool calls (xLAM)", rank=210,
                    parts=frozenset({"prompt", "specs", "answers"})),
    "glaive": Dialect(glaive, find_glaive_parts, "a system text and a chat text with function calls (Glaive)", rank=220,
                      parts=frozenset({"chat", "preamble"})),
    "hermes": Dialect(hermes, find_hermes_parts, "tool calls in `<tool_call>` tags (Hermes)", rank=262,
                      parts=frozenset({"messages", "question"}), covers=frozenset({"messages", "sharegpt", "traces"}),
                      is_sure=has_hermes_tools, finds=has_hermes_calls),
}  # fmt: skip
