"""Conversations whose content is a list of blocks: Anthropic, Bedrock, OpenAI Responses, LLaMA-Factory v1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import DialectError, located
from ...field_path import value_at
from ...schema import Turn
from ..dialect import Dialect
from ..kit.blocks import THOUGHTS, join_blocks, text_of
from ..kit.columns import Columns, SourceRow, find_side_parts, json_type
from ..kit.literals import read_list_literal
from ..kit.names import MESSAGES
from ..kit.output import OutputRow, by_row
from ..kit.roles import to_role
from ..kit.tool_calls import named_call, parse_calls
from .messages import find_messages_parts
from .turns import find_turn_keys, turns_at

ANTHROPIC = frozenset({"tool_use", "tool_result", *THOUGHTS, "redacted_thinking"})
BEDROCK = {"toolUse": ("tool_use", "id"), "toolResult": ("tool_result", "tool_use_id")}
"""The blocks of Bedrock's Converse API with the type of Anthropic's, and its key for what they call `toolUseId`."""
OPENTELEMETRY: dict[str, tuple[str, dict[str, str]]] = {
    "tool_call": ("tool_use", {"arguments": "input"}),
    "tool_call_response": ("tool_result", {"id": "tool_use_id", "response": "content", "result": "content"}),
}
"""The parts of OpenTelemetry's GenAI messages with the types of Anthropic's blocks, and their keys with its names."""
RESPONSES = frozenset({"input_text", "output_text", "input_image", "input_audio", "input_file"})
CALL_ITEMS = {"function_call": "arguments", "custom_tool_call": "input", "local_shell_call": "action"}
"""The items of the Responses API that are calls, with the keys of their arguments."""
RESULT_ITEMS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
RESPONSES_ITEMS = frozenset({"message", "reasoning", *CALL_ITEMS, *RESULT_ITEMS})
LLAMAFACTORY = frozenset({"text", "reasoning", "tool_call", "image_url", "video_url", "audio_url"})


@by_row
def anthropic(record: SourceRow, columns: Columns) -> OutputRow:
    """Messages with blocks of text, thinking, tool use and tool results (Anthropic's Messages API).

    In:  `{"system": "Be brief.", "messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content":
           [{"type": "text", "text": "Let me see."}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
           {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "no"}]}]}`
    Out: `{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"},
           {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "t1", "type": "function",
           "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "tool_call_id": "t1", "content": "no"}]}`

    Blocks keep their order: a block after a call starts a new message. A single text block becomes text; images and
    other blocks stay content parts. Thinking becomes `reasoning_content` without its signature. The blocks of Bedrock's
    Converse API (`toolUse`, `toolResult`, `reasoningContent`) are read as these, and its tools in `toolConfig`; so are
    the `parts` of OpenTelemetry's GenAI messages.
    Raises DialectError `msg.role`, `msg.type`.
    """
    system = [] if columns.path("system") else _system(record)
    return {"messages": system + _turns(record, columns, "messages", _anthropic_turn)}


def _system(record: SourceRow) -> list[Turn]:
    """Return the system turn if `system` is a list of blocks; text is read for every dialect."""
    blocks = record.get("system")
    return [{"role": "system", "content": join_blocks(blocks)}] if isinstance(blocks, list) and blocks else []


def _turns(
    record: SourceRow, columns: Columns, part: str, read: Callable[[Mapping[str, Any], Columns], list[Turn]]
) -> list[Turn]:
    out: list[Turn] = []
    path = columns.path(part) or part
    turns = turns_at(record, path) or []
    keys = find_turn_keys(turns, columns) or {}
    names = {keys.get(f"messages.{name}", name): name for name in ("role", "content")}
    for message, turn in enumerate(turns):
        with located(message=message):
            out += read({names.get(key, key): value for key, value in turn.items()}, columns)
    return out


def _kind(block: Any) -> str:
    """Return the type of a block or an item; empty if it has none, or is not an object."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    return kind if isinstance(kind, str) else ""


def _blocks(turn: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return the blocks of a turn, None if its content is text; raises DialectError `msg.type` or `msg.content`."""
    content = turn.get("content")
    if isinstance(content, str):
        return None
    if content is None:
        raise DialectError("the turn has no content", code="msg.content")
    if not isinstance(content, list) or not all(isinstance(block, Mapping) for block in content):
        raise DialectError(f"the content is {json_type(content)}, not text or blocks", code="msg.type")
    return content


def _anthropic_turn(turn: Mapping[str, Any], columns: Columns) -> list[Turn]:
    role = to_role(turn.get("role"), columns.roles)
    rest = {key: value for key, value in turn.items() if key not in ("role", "content")}
    blocks = _blocks(turn)
    if blocks is None:
        return [{**turn, "role": role}]
    builder = TurnBuilder(role, rest)
    for block in map(_as_anthropic, blocks):
        builder.add(_ANTHROPIC_BLOCKS.get(_kind(block), "part"), block)
    return builder.finish()


def _as_anthropic(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a block of Bedrock's Converse API or of OpenTelemetry as one of Anthropic's, any other as it is."""
    if _kind(block) in OPENTELEMETRY:
        kind, names = OPENTELEMETRY[block["type"]]
        return {"type": kind, **{names.get(key, key): value for key, value in block.items() if key != "type"}}
    if isinstance(text := value_at(block, "reasoningContent.reasoningText.text"), str):
        return {"type": "thinking", "thinking": text}
    key = next(iter(BEDROCK.keys() & block.keys()), "")
    if not isinstance(inner := block.get(key), Mapping):
        return block
    kind, name = BEDROCK[key]
    made = {"type": kind, **{name if each == "toolUseId" else each: value for each, value in inner.items()}}
    if isinstance(parts := made.get("content"), list):
        made["content"] = [
            {"text": json.dumps(part["json"], ensure_ascii=False)}
            if isinstance(part, Mapping) and "json" in part
            else part
            for part in parts
        ]
    return made


_ANTHROPIC_BLOCKS = {
    "tool_use": "call",
    "tool_result": "result",
    **dict.fromkeys(THOUGHTS, "reasoning"),
    "redacted_thinking": "nothing",
}


class TurnBuilder:
    """Builds messages from the blocks of one turn, in order."""

    def __init__(self, role: str, rest: Mapping[str, Any]) -> None:
        self.role, self.rest = role, rest
        self.out: list[Turn] = []
        self.parts: list[Mapping[str, Any]] = []
        self.calls: list[Turn] = []
        self.reasoning: list[str] = []

    def add(self, kind: str, block: Mapping[str, Any]) -> None:
        """Add one block of a kind: `part`, `call`, `result`, `reasoning` or `nothing`."""
        if kind in ("part", "reasoning", "result") and self.calls:
            self.close()
        if kind == "part":
            self.parts.append(block)
        elif kind == "call":
            self.calls.append(
                dict(block)
                if isinstance(block.get("function"), Mapping)
                else named_call(block.get("name"), block.get("input", {}), block.get("id"))
            )
        elif kind == "reasoning":
            self.reasoning.append(_thought(block))
        elif kind == "result":
            self.close()
            self.out.append(_tool_result(block))

    def close(self) -> None:
        """Finish the current message, if there is one."""
        if self.parts or self.calls or self.reasoning:
            turn: Turn = {"role": self.role}
            turn |= {"reasoning_content": "\n\n".join(self.reasoning)} if self.reasoning else {}
            turn |= {"content": join_blocks(self.parts)} if self.parts else {}
            turn |= {"tool_calls": self.calls} if self.calls else {}
            self.out.append({**turn, **self.rest})
        self.parts, self.calls, self.reasoning = [], [], []

    def finish(self) -> list[Turn]:
        """Return the messages; a turn without blocks becomes one with empty content."""
        self.close()
        return self.out or [{"role": self.role, "content": "", **self.rest}]


def _thought(block: Mapping[str, Any]) -> str:
    text = next((text for value in (block.get("thinking"), block) if (text := text_of(value)) is not None), None)
    if text is None:
        raise DialectError("the block of thinking has no text", code="msg.type")
    return text


def _tool_result(block: Mapping[str, Any]) -> Turn:
    content = "" if block.get("content") is None else block["content"]
    rest = {
        key: value for key, value in block.items() if key not in ("type", "tool_use_id", "content", "cache_control")
    }
    return {**_result(block.get("tool_use_id"), content), **rest}


def _result(call_id: Any, content: Any) -> Turn:
    answered = {} if call_id is None else {"tool_call_id": call_id}
    return {"role": "tool", **answered, "content": join_blocks(content) if isinstance(content, list) else content}


def find_anthropic_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose messages have a block that only Anthropic uses."""
    found = _with_blocks(record, columns, _is_anthropic)
    if found and "system" not in found and isinstance(record.get("system"), list):
        found["system_blocks"] = "system"
    if found and isinstance(value_at(record, "toolConfig.tools"), list):
        found["tools"] = "toolConfig.tools"
    return found


def _is_anthropic(block: Mapping[str, Any]) -> bool:
    named = _kind(block) in ANTHROPIC or _kind(block) == "tool_call_response" or _is_call(block)
    return named or _has_source(block) or not BEDROCK.keys().isdisjoint(block)


def _is_call(block: Mapping[str, Any]) -> bool:
    """Return whether a block is a call of OpenTelemetry; LLaMA-Factory's has its arguments in a `value`."""
    return block.get("type") == "tool_call" and "arguments" in block


def _has_source(block: Mapping[str, Any]) -> bool:
    return block.get("type") in ("image", "document") and isinstance(block.get("source"), Mapping)


def _with_blocks(
    record: SourceRow, columns: Columns, is_wanted: Callable[[Mapping[str, Any]], bool]
) -> dict[str, str] | None:
    names = columns.paths("messages", [name for name in MESSAGES if name in record])
    turns = next((turns for name in names if (turns := turns_at(record, name))), [])
    usual = "parts" if turns and "parts" in turns[0] and "content" not in turns[0] else "content"
    key = columns.fields.get("messages.content", usual)
    contents = [content for turn in turns if isinstance(content := turn.get(key), list)]
    blocks = [block for content in contents for block in content]
    if not any(isinstance(block, Mapping) and is_wanted(block) for block in blocks):
        return None
    found = find_messages_parts(record, columns)
    return {part: path for part, path in found.items() if "." not in part} if found else None


@by_row
def responses(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """Items of OpenAI's Responses API: messages with `input_text` and `output_text`, calls, results and reasoning.

    In:  `{"instructions": "Be brief.", "input": [
           {"role": "user", "content": [{"type": "input_text", "text": "Rain?"}]},
           {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
           {"type": "function_call_output", "call_id": "c1", "output": "no"}]}`
    Out: `{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"},
           {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function",
           "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c1", "content": "no"}]}`

    The items of an `output` column follow. The `base_instructions` with which a session of Codex begins, which it sends
    as `instructions`, are a system turn. A reasoning item belongs to the message after it. Consecutive calls are one
    message. Raises DialectError `msg.role`, `msg.type`.
    """
    items = [item for part in ("messages", "output") for item in _items(record, columns.path(part))]
    out: list[Turn] = []
    for message, item in enumerate(items):
        with located(message=message):
            _add_item(out, item, columns)
    return {"messages": out}


def _items(record: SourceRow, path: str | None) -> list[Any]:
    value = read_list_literal(value_at(record, path)) if path else None
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return value if isinstance(value, list) else []


def _add_item(out: list[Turn], item: Any, columns: Columns) -> None:
    if not isinstance(item, Mapping):
        raise DialectError(f"the item is {json_type(item)}, not an object", code="msg.type")
    kind = _kind(item) or "message"
    last = out[-1] if out else {}
    open_ = last.get("role") == "assistant" and "content" not in last
    if kind in CALL_ITEMS:
        name = "local_shell" if kind == "local_shell_call" else item.get("name")
        call = named_call(name, item.get(CALL_ITEMS[kind]), item.get("call_id"))
        if not open_:
            out.append(last := {"role": "assistant"})
        last.setdefault("tool_calls", []).append(call)
    elif kind in RESULT_ITEMS:
        output = item.get("output")
        if output is None:
            raise DialectError(f"the `{kind}` has no output", code="msg.content")
        out.append(_result(item.get("call_id"), output))
    elif "type" not in item and isinstance(text := value_at(item, "base_instructions.text"), str):
        turn = {"role": "system", "content": text}
        out += [turn] if turn not in out else []  # a session that is resumed repeats them
    elif kind == "reasoning":
        out.append({"role": "assistant", "reasoning_content": _summary(item)})
    else:
        turn = {"role": to_role(item.get("role"), columns.roles), "content": _content(item)}
        if open_ and "tool_calls" not in last and turn["role"] == "assistant":
            last.update(turn)
        else:
            out.append(turn)


def _content(turn: Mapping[str, Any]) -> Any:
    blocks = _blocks(turn)
    return turn["content"] if blocks is None else join_blocks(blocks) if blocks else ""


def _summary(item: Mapping[str, Any]) -> str:
    parts = item.get("content") or item.get("summary") or []
    return "\n\n".join(
        part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    )


def find_responses_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with items or content parts of the Responses API."""
    names = columns.paths("messages", ("input", "messages", "conversation"))
    path = next((name for name in names if any(map(_is_responses, _listed(record, name)))), names[0])
    output = {"output": "output"} if any(map(_is_item, _listed(record, "output"))) else {}
    if not (any(map(_is_responses, _listed(record, path))) or (output and value_at(record, path))):
        return None
    system = {"system": "instructions"} if isinstance(record.get("instructions"), str) else {}
    return {"messages": path, **output, **find_side_parts(record, columns), **system}


def _listed(record: SourceRow, name: str) -> list[Any]:
    value = read_list_literal(value_at(record, name))
    return value if isinstance(value, list) else []


def _is_item(item: Any) -> bool:
    """Return whether an object is an item of the Responses API; a message has a role."""
    return _kind(item) in RESPONSES_ITEMS and (item["type"] != "message" or "role" in item)


def _is_responses(item: Any) -> bool:
    blocks = item.get("content") if isinstance(item, Mapping) else None
    return _is_item(item) or (isinstance(blocks, list) and any(_kind(block) in RESPONSES for block in blocks))


@by_row
def llamafactory(record: SourceRow, columns: Columns) -> OutputRow:
    """Messages whose content is a list of `{"type", "value"}` (LLaMA-Factory v1), also chosen and rejected ones.

    In:  `{"messages": [{"role": "user", "content": [{"type": "text", "value": "hi"}], "loss_weight": 0.0},
           {"role": "assistant", "content": [{"type": "reasoning", "value": "Hm."},
           {"type": "text", "value": "hello"}]}]}`
    Out: `{"messages": [{"role": "user", "content": "hi", "loss_weight": 0.0},
           {"role": "assistant", "reasoning_content": "Hm.", "content": "hello"}]}`

    A `tool_call` (JSON text) is added to `tool_calls`; if it is not a call, it stays text. Other keys are kept.
    Raises DialectError `msg.role`, `msg.type`.
    """
    names = (name for name in ("messages", "chosen", "rejected") if columns.path(name))
    return {name: _turns(record, columns, name, _llamafactory_turn) for name in names}


def _llamafactory_turn(turn: Mapping[str, Any], columns: Columns) -> list[Turn]:
    role = to_role(turn.get("role"), columns.roles)
    rest = {key: value for key, value in turn.items() if key not in ("role", "content")}
    builder = TurnBuilder(role, rest)
    for block in _blocks(turn) or []:
        kind, value = _kind(block), block.get("value")
        calls = parse_calls(value, columns) if kind == "tool_call" and isinstance(value, str) else None
        if calls:
            for call in calls:
                builder.add("call", call)
        elif kind == "reasoning":
            builder.add("reasoning", {"thinking": value})
        else:
            builder.add("part", {"type": "text", "text": value} if kind in ("text", "tool_call") else block)
    return builder.finish()


def find_llamafactory_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose content is a list of typed values."""
    if any(name in record for name in ("chosen_messages", "rejected_messages")):
        found = {"chosen": "chosen_messages", "rejected": "rejected_messages"}
    else:
        found = {"messages": columns.path("messages") or "messages"}
    turns = [turn for path in found.values() for turn in turns_at(record, path) or [{}]]
    return {**found, **find_side_parts(record, columns)} if all(map(_has_values, turns)) else None


def _has_values(turn: Mapping[str, Any]) -> bool:
    content = turn.get("content")
    return (
        isinstance(content, list)
        and bool(content)
        and all(_kind(block) in LLAMAFACTORY and "value" in block for block in content)
    )


DIALECTS = {
    "llamafactory": Dialect(llamafactory, find_llamafactory_parts,
                            "messages with typed content blocks (LLaMA-Factory v1)", rank=135,
                            parts=frozenset({"messages", "chosen", "rejected"})),
    "anthropic": Dialect(anthropic, find_anthropic_parts, "messages with content blocks of Anthropic or Bedrock",
                         rank=250, covers=frozenset({"messages", "sharegpt", "speakers"})),
    "responses": Dialect(responses, find_responses_parts, "OpenAI Responses API items", rank=260,
                         covers=frozenset({"messages"})),
}  # fmt: skip
