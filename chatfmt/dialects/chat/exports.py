"""Conversations exported from products: Gemini contents, ChatGPT data exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import DialectError, located
from ...field_path import value_at
from ...schema import Turn
from ..dialect import Dialect
from ..kit.blocks import join_blocks
from ..kit.columns import Columns, SourceRow, columns_named, json_type
from ..kit.literals import read_literal
from ..kit.names import MESSAGES
from ..kit.output import by_row
from ..kit.roles import to_role
from ..kit.tool_calls import named_call
from ..kit.tool_specs import specs_in


@by_row
def gemini(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """Gemini contents: lists of parts with text, function calls and function responses.

    In:  `{"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [
           {"role": "user", "parts": [{"text": "Rain?"}]},
           {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
           {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"rain": false}}}]}]}`
    Out: `{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"},
           {"role": "assistant", "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "name": "f", "content": {"rain": false}}]}`

    Thought parts become `reasoning_content`; other parts (images) stay parts. Keys may be in camelCase or snake_case.
    Function declarations become `tools`. Raises DialectError `msg.role`, `msg.type`.
    """
    system = _get(record, "systemInstruction", "system_instruction")
    first = [{"role": "system", "content": _system_content(system)}] if system else []
    contents = read_literal(value_at(record, columns.path("messages") or "contents"))
    if not isinstance(contents, list):
        raise DialectError(f"`contents` is {json_type(contents)}, not a list", code="col.type")
    turns: list[Turn] = []
    for message, content in enumerate(contents):
        with located(message=message):
            turns += _gemini_turns(content, columns)
    return {"messages": first + turns, "tools": _declarations(record)}


def _get(value: Mapping[str, Any], camel: str, snake: str) -> Any:
    return value.get(camel) if value.get(camel) is not None else value.get(snake)


def _system_content(system: Any) -> Any:
    if isinstance(system, str):
        return system
    parts = system.get("parts") if isinstance(system, Mapping) else None
    parts = [parts] if isinstance(parts, Mapping) else parts
    if not isinstance(parts, list):
        raise DialectError("`systemInstruction` has no parts", code="col.type")
    return join_blocks(parts)


def _gemini_turns(content: Any, columns: Columns) -> list[Turn]:
    parts = content.get("parts") if isinstance(content, Mapping) else None
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise DialectError("the turn has no list of parts", code="msg.type")
    role = to_role("user" if content.get("role") is None else content["role"], columns.roles)
    thoughts = [part["text"] for part in parts if part.get("thought") is True and isinstance(part.get("text"), str)]
    calls = [call for part in parts if (call := _get(part, "functionCall", "function_call"))]
    results = [result for part in parts if (result := _get(part, "functionResponse", "function_response"))]
    said = [part for part in parts if part.get("thought") is not True and not _is_function(part)]
    plain = [{key: item for key, item in part.items() if key != "thought"} for part in said]
    turn: Turn = {"role": role} | ({"reasoning_content": "".join(thoughts)} if thoughts else {})
    turn |= {"content": join_blocks(plain)} if plain else {}
    turn |= {"tool_calls": [_gemini_call(call) for call in calls]} if calls else {}
    return [_gemini_result(result) for result in results] + ([turn] if len(turn) > 1 or not results else [])


def _is_function(part: Mapping[str, Any]) -> bool:
    return any(key in part for key in ("functionCall", "function_call", "functionResponse", "function_response"))


def _gemini_call(call: Any) -> Turn:
    call = call if isinstance(call, Mapping) else {}
    return named_call(call.get("name"), call.get("args", {}), call.get("id"))


def _gemini_result(result: Any) -> Turn:
    if not isinstance(result, Mapping) or result.get("response") is None:
        raise DialectError("the function response has no `response`", code="msg.content")
    named = {"name": result["name"]} if isinstance(result.get("name"), str) else {}
    answered = {"tool_call_id": result["id"]} if isinstance(result.get("id"), str) else {}
    return {"role": "tool", **answered, **named, "content": result["response"]}


def _declarations(record: SourceRow) -> list[Any] | None:
    """Return the function declarations in Gemini's `tools` as specifications; None if there are none."""
    groups = read_literal(record.get("tools"))
    groups = [group for group in groups if isinstance(group, Mapping)] if isinstance(groups, list) else []
    return specs_in([group for group in groups if _get(group, "functionDeclarations", "function_declarations")])


def find_gemini_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with Gemini contents."""
    names = columns.paths("messages", columns_named(record, ("contents", *MESSAGES)))
    path = next((name for name in names if _are_contents(read_literal(value_at(record, name)), name)), None)
    if path is None:
        return None
    extra = {"tools": "tools"} if record.get("tools") else {}
    instruction = next((name for name in ("systemInstruction", "system_instruction") if record.get(name)), None)
    return {"messages": path, **extra, **({"instruction": instruction} if instruction else {})}


def _are_contents(value: Any, name: str) -> bool:
    """Return whether a value is a list of turns with parts; only in `contents` may these have a `type`."""
    return isinstance(value, list) and value != [] and all(_has_parts(turn, name == "contents") for turn in value)


def _has_parts(turn: Any, typed: bool) -> bool:
    parts = turn.get("parts") if isinstance(turn, Mapping) else None
    if not isinstance(parts, list):
        return False
    return all(isinstance(part, Mapping) and (typed or "type" not in part) for part in parts)


@by_row
def chatgpt_export(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """A conversation of a ChatGPT data export: the path in the tree `mapping` that ends at `current_node`.

    In:  `{"current_node": "b", "mapping": {"r": {"parent": null, "message": null}, "a": {"parent": "r", "message":
           {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["hi"]}}}, "b": {"parent": "a",
           "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["hello"]}}}}}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    Nodes without a message and hidden messages are skipped. A message to a tool becomes a tool call with its text as
    arguments; thoughts become `reasoning_content`. Raises DialectError `msg.role`, `msg.type`.
    """
    nodes = value_at(record, columns.path("mapping") or "mapping")
    turns: list[Turn] = []
    for message, node in enumerate(_path(nodes, record.get("current_node"))):
        with located(message=message):
            turn = _chatgpt_turn(node["message"], columns)
        if turns and turn and set(turns[-1]) == {"role", "reasoning_content"} and turn["role"] == "assistant":
            turns[-1] = {**turns[-1], **turn}
        elif turn:
            turns.append(turn)
    return {"messages": turns}


def _path(nodes: Mapping[str, Any], last: Any) -> list[Mapping[str, Any]]:
    """Return the nodes with a message from the root to `last`, or to the newest leaf without one."""
    name: Any = last if last in nodes else next(reversed(list(nodes)), None)
    path: list[Mapping[str, Any]] = []
    while name in nodes and len(path) <= len(nodes):
        path.append(nodes[name])
        name = nodes[name].get("parent")
    return [node for node in reversed(path) if isinstance(node.get("message"), Mapping)]


def _chatgpt_turn(message: Mapping[str, Any], columns: Columns) -> Turn | None:
    author, content = message.get("author") or {}, message.get("content") or {}
    if (message.get("metadata") or {}).get("is_visually_hidden_from_conversation"):
        return None
    if content.get("content_type") in ("user_editable_context", "model_editable_context", "reasoning_recap"):
        return None
    role = to_role(author.get("role"), columns.roles)
    if content.get("content_type") == "thoughts":
        thoughts = [thought.get("content") or "" for thought in content.get("thoughts") or []]
        return {"role": role, "reasoning_content": "\n\n".join(thoughts)}
    text = _chatgpt_content(content)
    if role == "assistant" and message.get("recipient", "all") != "all":
        return {"role": role, "tool_calls": [named_call(message["recipient"], text)]}
    named = {"name": author["name"]} if role == "tool" and isinstance(author.get("name"), str) else {}
    return {"role": role, **named, "content": text}


def _chatgpt_content(content: Mapping[str, Any]) -> Any:
    """Return the text of a message, or its parts if one is not text."""
    parts = content.get("parts")
    if not isinstance(parts, list):
        text = next((content[key] for key in ("text", "result", "content") if isinstance(content.get(key), str)), None)
        if text is None:
            raise DialectError(f"the content of type `{content.get('content_type')}` has no text", code="msg.type")
        return text
    if all(isinstance(part, str) for part in parts):
        return "".join(parts)
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


def find_chatgpt_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a tree of nodes by id."""
    nodes = value_at(record, columns.path("mapping") or "mapping")
    nodes = nodes if isinstance(nodes, Mapping) else {}
    fits = bool(nodes) and all(
        isinstance(node, Mapping) and {"parent", "message", "children"} & set(node) for node in nodes.values()
    )
    last = {"current_node": "current_node"} if "current_node" in record else {}
    return {"mapping": columns.path("mapping") or "mapping", **last} if fits else None


DIALECTS = {
    "chatgpt-export": Dialect(chatgpt_export, find_chatgpt_parts, "conversation trees of a ChatGPT data export",
                              rank=230, parts=frozenset({"mapping"})),
    "gemini": Dialect(gemini, find_gemini_parts, "Gemini `contents` with parts", rank=240,
                      decided_by=frozenset({"thought"})),
}  # fmt: skip
