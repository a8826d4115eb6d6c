"""Trajectories of agents: steps and events that hold calls, results and thoughts under keys of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import DialectError, Location, located
from ...field_path import value_at
from ...schema import Turn
from ..dialect import Dialect
from ..kit.blocks import join_blocks
from ..kit.columns import Columns, SourceRow, find_side_parts, json_type
from ..kit.literals import are_objects, read_list_literal
from ..kit.output import OutputRow, by_row
from ..kit.tool_calls import named_call, required_calls
from ..kit.tool_specs import specs_in

Step = Mapping[str, Any]


@by_row
def atif(record: SourceRow, columns: Columns) -> OutputRow:
    """Steps of the Agent Trajectory Interchange Format (Harbor): a message, calls and their results in one step.

    In:  `{"schema_version": "ATIF-v1.4", "agent": {"name": "a"}, "steps": [
           {"step_id": 1, "source": "user", "message": "Rain?"},
           {"step_id": 2, "source": "agent", "message": "", "reasoning_content": "Look.", "tool_calls": [
             {"tool_call_id": "c1", "function_name": "f", "arguments": {"a": 1}}],
            "observation": {"results": [{"source_call_id": "c1", "content": "no"}]}}]}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "reasoning_content": "Look.",
           "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "tool_call_id": "c1", "content": "no"}]}`

    The result of a step without calls is what the environment says: a user turn. `tool_definitions` of the agent become
    `tools`. Other keys of steps, such as metrics, are left behind. Raises DialectError `msg.role`.
    """
    return _turns(record, columns, _add_atif)


def _add_atif(out: list[Turn], step: Step) -> None:
    source, message = step.get("source"), step.get("message")
    if source not in ("system", "user", "agent"):
        raise DialectError(f"unknown source `{source}`", code="msg.role")
    calls = [
        _call(call.get("function_name"), call.get("arguments"), call.get("tool_call_id"))
        for call in step.get("tool_calls") or []
    ]
    role = "assistant" if source == "agent" else str(source)
    out.append(_turn(role, message, calls, step.get("reasoning_content")))
    for result in (step.get("observation") or {}).get("results") or []:
        content = _content(result.get("content")) or ""
        named = {"tool_call_id": result["source_call_id"]} if result.get("source_call_id") else {}
        out.append({"role": "tool", **named, "content": content} if calls else {"role": "user", "content": content})


@by_row
def agent_data(record: SourceRow, columns: Columns) -> OutputRow:
    """Actions and observations of the Agent Data Protocol.

    In:  `{"id": "1", "content": [{"class_": "text_observation", "source": "user", "content": "Rain?"},
           {"class_": "api_action", "function": "f", "kwargs": {"a": 1}, "description": "Look."},
           {"class_": "text_observation", "source": "environment", "content": "no"},
           {"class_": "code_action", "language": "bash", "content": "ls", "description": null},
           {"class_": "message_action", "content": "No.", "description": null}]}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Look.", "tool_calls": [
           {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "content": "no"}, {"role": "assistant", "tool_calls": [
           {"type": "function", "function": {"name": "bash", "arguments": {"code": "ls"}}}]},
           {"role": "assistant", "content": "No."}]}`

    Code is a call of its language. An observation after a call is its result, of any other source but the user too; a
    web page is its accessibility tree, or its HTML without one. Raises DialectError `msg.type` for an image.
    """
    return _turns(record, columns, _add_agent_data)


def _add_agent_data(out: list[Turn], step: Step) -> None:
    kind, text = step.get("class_"), step.get("description")
    if kind == "message_action":
        out.append(_turn("assistant", step.get("content"), [], text))
    elif kind == "api_action":
        out.append(_turn("assistant", text, [_call(step.get("function"), step.get("kwargs"))]))
    elif kind == "code_action":
        out.append(_turn("assistant", text, [_call(step.get("language"), {"code": step.get("content")})]))
    elif kind in ("text_observation", "web_observation"):
        answers = step.get("source") != "user" and bool(out) and _is_answerable(out)
        content = step.get("content") or step.get("axtree") or step.get("html") or ""
        out.append({"role": "tool" if answers else "user", "content": content})
    else:
        raise DialectError(f"`{kind}` is not text", code="msg.type")


def _is_answerable(out: Sequence[Turn]) -> bool:
    """Return whether the last turns are a call and perhaps some of its results."""
    last = next((turn for turn in reversed(out) if turn["role"] != "tool"), {})
    return "tool_calls" in last


@by_row
def openhands(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """Events of OpenHands: actions and observations, or the events of its software agent SDK (`kind`).

    In:  `{"history": [{"id": 0, "source": "user", "action": "message", "args": {"content": "Rain?"}},
           {"id": 1, "source": "environment", "observation": "agent_state_changed", "content": ""},
           {"id": 2, "source": "agent", "action": "run", "args": {"command": "ls", "thought": ""},
            "tool_call_metadata": {"tool_call_id": "c1", "function_name": "bash", "model_response": {"id": "r1",
             "choices": [{"message": {"role": "assistant", "content": "Look.", "tool_calls": [{"id": "c1", "type":
             "function", "function": {"name": "bash", "arguments": "{}"}}]}}]}}},
           {"id": 3, "source": "agent", "observation": "run", "content": "no", "cause": 2,
            "tool_call_metadata": {"tool_call_id": "c1", "function_name": "bash"}}]}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Look.", "tool_calls": [
           {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]},
           {"role": "tool", "tool_call_id": "c1", "content": "no"}]}`

    The calls of one response of the model are one turn. The tools of the system event become `tools`, and image URLs
    parts after the text. Events that the model does not see are left out: changes of
    state, recalled knowledge, condensations. An action without a response of the model is a call of its own name.
    Raises DialectError `msg.tools` if a second system event has other tools.
    """
    found = _turns(record, columns, _add_openhands)
    tools: Any = None
    for number, event in enumerate(read_list_literal(value_at(record, columns.path("messages") or "messages"))):
        own = value_at(event, "tools" if "kind" in event else "args.tools")
        if own and tools not in (None, own):
            raise DialectError(
                "the system event has other tools than the one before", code="msg.tools", at=Location(message=number)
            )
        tools = own or tools
    return found if tools is None or "tools" in columns.fields else {**found, "tools": specs_in(tools)}


def _add_openhands(out: list[Turn], event: Step) -> None:
    add = _add_sdk_event if "kind" in event else _add_action if event.get("action") else _add_observation
    add(out, event)


def _add_action(out: list[Turn], event: Step) -> None:
    name, args, source = event.get("action"), event.get("args") or {}, event.get("source")
    response = (event.get("tool_call_metadata") or {}).get("model_response")
    if name in ("message", "system"):
        role = "system" if name == "system" else "user" if source == "user" else "assistant"
        out.append(_turn(role, with_images(args.get("content"), args.get("image_urls")), []))
    elif source == "agent" and isinstance(response, Mapping):
        message = value_at(response, "choices[0].message") or {}
        turn = _turn(
            "assistant", message.get("content"), message.get("tool_calls") or [], message.get("reasoning_content")
        )
        ids = [call.get("id") for call in turn.get("tool_calls", ())]
        if not all(ids) or turn not in out:  # several actions of one response repeat it
            out.append(turn)
    elif source == "agent" and name not in _UNSEEN:
        rest = {key: value for key, value in args.items() if key != "thought"}
        out.append(_turn("assistant", args.get("thought"), [_call(name, rest)]))


def _add_observation(out: list[Turn], event: Step) -> None:
    call = (event.get("tool_call_metadata") or {}).get("tool_call_id")
    if event.get("observation") not in _UNSEEN and (call or (out and _is_answerable(out))):
        content = with_images(event.get("content"), value_at(event, "extras.image_urls"))
        out.append({"role": "tool", **({"tool_call_id": call} if call else {}), "content": content or ""})


def with_images(content: Any, urls: Any) -> Any:
    """Return content with image URLs as parts after it."""
    if not urls:
        return content
    before = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
    return [*before, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]


_UNSEEN = frozenset({
    "agent_state_changed", "change_agent_state", "null", "recall", "condensation", "condensation_request",
    "loop_detection_pause", "loop_recovery", "task_tracking_state",
})  # fmt: skip
"""Actions and observations of OpenHands that the model does not see."""


def _add_sdk_event(out: list[Turn], event: Step) -> None:
    kind = event["kind"]
    if kind == "SystemPromptEvent":
        out.append(_turn("system", event.get("system_prompt"), []))
    elif kind == "MessageEvent":
        message = event.get("llm_message") or {}
        calls, reasoning = message.get("tool_calls") or [], message.get("reasoning_content")
        out.append(_turn(str(message.get("role")), message.get("content"), calls, reasoning))
    elif kind == "ActionEvent":
        call = event.get("tool_call") or {}
        made = _call(event.get("tool_name"), call.get("arguments", event.get("action")), event.get("tool_call_id"))
        turn = _turn("assistant", event.get("thought"), [made], event.get("reasoning_content"))
        last = out[-1] if out else {}
        if last.get("role") == "assistant" and "tool_calls" in last and turn.keys() == {"role", "tool_calls"}:
            last["tool_calls"].append(made)
        else:
            out.append(turn)
    elif event.get("tool_call_id"):
        found = event.get("observation") or event.get("error") or event.get("rejection_reason")
        content = found.get("content") or found.get("output") if isinstance(found, Mapping) else found
        out.append({"role": "tool", "tool_call_id": event["tool_call_id"], "content": _content(content) or ""})


@by_row
def gemini_cli(record: SourceRow, columns: Columns) -> OutputRow:
    """Sessions of Gemini CLI: turns with thoughts, and calls that hold their results.

    In:  `{"sessionId": "s", "messages": [{"id": "1", "type": "user", "content": "Rain?"},
           {"id": "2", "type": "info", "content": "Update available."},
           {"id": "3", "type": "gemini", "content": "Look.", "thoughts": [{"subject": "Sky", "description": "Ask f."}],
            "toolCalls": [{"id": "c1", "name": "f", "args": {"a": 1}, "status": "success", "result": [
             {"functionResponse": {"id": "c1", "name": "f", "response": {"output": "no"}}}]}]}]}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant",
           "reasoning_content": "Sky\\nAsk f.", "content": "Look.", "tool_calls": [{"id": "c1", "type": "function",
           "function": {"name": "f", "arguments": {"a": 1}}}]},
           {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "no"}]}`

    Notices of the program (`info`, `warning`, `error` and others) are left out.
    """
    return _turns(record, columns, _add_gemini_cli)


def _add_gemini_cli(out: list[Turn], step: Step) -> None:
    if step.get("type") == "user":
        out.append(_turn("user", step.get("content"), []))
    if step.get("type") != "gemini":
        return
    thoughts = ["\n".join(thought[key] for key in ("subject", "description") if thought.get(key))
                for thought in step.get("thoughts") or []]  # fmt: skip
    calls = step.get("toolCalls") or []
    made = [_call(call.get("name"), call.get("args"), call.get("id")) for call in calls]
    out.append(_turn("assistant", step.get("content"), made, "\n\n".join(thoughts)))
    for call in calls:
        if call.get("result") is not None:
            named = {
                key: value for key, value in (("tool_call_id", call.get("id")), ("name", call.get("name"))) if value
            }
            out.append({"role": "tool", **named, "content": _gemini_result(call["result"])})


def _gemini_result(result: Any) -> Any:
    """Return what a call of Gemini CLI gave: its output if there is nothing else, all of it as data otherwise."""
    found = [value_at(part, "functionResponse.response") for part in result] if isinstance(result, list) else []
    if not found or None in found:
        return _content(result)
    if len(found) == 1 and isinstance(found[0], Mapping) and len(found[0]) == 1:
        return next(iter(found[0].values()))
    return found[0] if len(found) == 1 else found


def _turns(record: SourceRow, columns: Columns, add: Callable[[list[Turn], Step], None]) -> dict[str, Any]:
    """Return the conversation that `add` makes of the steps of a row."""
    steps = read_list_literal(value_at(record, columns.path("messages") or "messages"))
    if not isinstance(steps, list):
        raise DialectError(f"the steps are {json_type(steps)}, not a list", code="col.type")
    out: list[Turn] = []
    for number, step in enumerate(steps):
        with located(message=number):
            if not isinstance(step, Mapping):
                raise DialectError(f"the step is {json_type(step)}, not an object", code="msg.type")
            add(out, step)
    return {"messages": out}


def _turn(role: str, content: Any, calls: Any, reasoning: Any = None) -> Turn:
    """Return a turn; its content is left out if it is empty and there are calls."""
    calls = required_calls(calls, Columns())
    text = _content(content)
    thought = {"reasoning_content": reasoning} if isinstance(reasoning, str) and reasoning else {}
    said = {} if calls and not text else {"content": "" if text is None else text}
    return {"role": role, **thought, **said, **({"tool_calls": calls} if calls else {})}


def _content(value: Any) -> Any:
    blocks = are_objects(value)
    if blocks and any("image_urls" in block for block in value):  # OpenHands has several images in one block
        value = [part for block in value for part in (with_images([], block.get("image_urls")) or [block])]
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        return value["text"]
    return join_blocks(value) if blocks else value or None


def _call(name: Any, arguments: Any, call_id: Any = None) -> dict[str, Any]:
    return named_call(name, {} if arguments is None else arguments, call_id)


_COLUMNS = ("steps", "content", "history", "trajectory", "messages", "events")


def _finder(is_step: Callable[[Step], bool], tools: str | None = None) -> Callable[..., dict[str, str] | None]:
    """Return the function that finds the column whose items are such steps, all of them."""

    def find(record: SourceRow, columns: Columns) -> dict[str, str] | None:
        for name in columns.paths("messages", [name for name in _COLUMNS if name in record]):
            steps = read_list_literal(value_at(record, name))
            if isinstance(steps, list) and steps and all(isinstance(step, Mapping) and is_step(step) for step in steps):
                own = {"tools": tools} if tools and isinstance(value_at(record, tools), list) else {}
                return {"messages": name, **find_side_parts(record, columns), **own}
        return None

    return find


def _is_openhands(step: Step) -> bool:
    if isinstance(step.get("kind"), str) and step["kind"].endswith(("Event", "Observation", "Condensation", "Request")):
        return "source" in step
    return "source" in step and isinstance(step.get("action") or step.get("observation"), str)


def find_gemini_cli_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a session of Gemini CLI: at least one turn is by `gemini`."""
    found = _finder(lambda step: isinstance(step.get("type"), str) and "role" not in step)(record, columns)
    steps = read_list_literal(value_at(record, found["messages"])) if found else []
    return found if any(step["type"] == "gemini" for step in steps) else None


DIALECTS = {
    "atif": Dialect(atif,
                    _finder(lambda step: {"step_id", "source", "message"} <= step.keys(), "agent.tool_definitions"),
                    "steps of the Agent Trajectory Interchange Format", rank=202),
    "agent-data": Dialect(agent_data, _finder(lambda step: isinstance(step.get("class_"), str)),
                          "actions and observations of the Agent Data Protocol", rank=204),
    "openhands": Dialect(openhands, _finder(_is_openhands), "events of OpenHands", rank=206),
    "gemini-cli": Dialect(gemini_cli, find_gemini_cli_parts, "sessions of Gemini CLI", rank=208),
}  # fmt: skip
