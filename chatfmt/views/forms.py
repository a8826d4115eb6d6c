"""Views in the forms of other tools: Alpaca's columns, ShareGPT's turns, OpenAI's messages.

A form has no place for some conversations. Such a row is an error that says what does not fit, and nothing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import pyarrow as pa

from ..errors import RowError, map_rows
from ..json_columns import TEXT, decode_conversations, dumps, encode_conversations, map_json
from ..schema import REASONING_FIELDS, Conversation, Turn
from .batch import OTHERS, Fields, RenderableBatch, refuse_inputs, template_inputs, whole_conversations

HINTS = {
    **dict.fromkeys(REASONING_FIELDS, "--transform reasoning=inline writes it into the text"),
    "tool_calls": "--to sharegpt holds calls and tools",
    "parts": "--media-tags writes placeholders for images, videos and audio",
    "arguments": "--transform arguments=object",
    "call_ids": "--transform call_ids=fill",
    "merge": "--transform 'merge= ' joins turns of one role that follow each other",
    "system": "--transform later_system=fold",
    "tool": "--transform parallel_calls=split",
}
"""The remedy for each thing that a form cannot hold, beside those that fit all."""


def alpaca(batch: RenderableBatch) -> Fields:
    """`instruction`, `input` (empty), `output`, with `system` and `history` (pairs of texts) if there are any.

    The form is LLaMA-Factory's. Raises RowError `view.form` for turns that do not alternate, and for all but text.
    """

    def row_of(turns: Conversation | None) -> tuple[Any, ...]:
        turns = _filled(turns, "alpaca")
        system, others = _split_system(turns, "alpaca", needs_text=True)
        for turn in turns:
            _check_keys(turn, "alpaca", ("role", "content"))
        _check_order(others, "alpaca", ("user",), ("assistant",))
        texts = [_text(turn, "alpaca") for turn in others]
        pairs = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
        return (*pairs.pop(), system and system["content"], pairs or None)

    rows = map_rows(row_of, _conversations(batch))
    refuse_inputs(batch, "alpaca", tools=HINTS["tool_calls"])
    asked, answered, systems, histories = zip(*rows, strict=True) if rows else ((), (), (), ())
    return {
        "instruction": pa.array(asked, TEXT),
        "input": pa.array([""] * len(batch), TEXT),
        "output": pa.array(answered, TEXT),
        **({"system": pa.array(systems, TEXT)} if any(systems) else {}),
        **({"history": pa.array(histories, pa.list_(pa.list_(TEXT)))} if any(histories) else {}),
    }


def sharegpt(batch: RenderableBatch) -> Fields:
    """`conversations`, turns of `from` and `value`, with `tools` as JSON text if the data has them.

    The form is LLaMA-Factory's: `human` or `observation` and `gpt` or `function_call` take turns, after one `system`
    turn at most. Ids of calls and of their results, and names of tools, are kept under keys of their own.
    Raises RowError `view.form` for turns in another order, for content beside calls, and for all that is not text.
    """

    def row_of(turns: Conversation | None) -> Conversation:
        system, others = _split_system(_filled(turns, "sharegpt"), "sharegpt")
        _check_order(others, "sharegpt", ("user", "tool"), ("assistant",))
        return [_sharegpt_turn(turn) for turn in ([system] if system else []) + others]

    rows = map_rows(row_of, _conversations(batch))
    inputs = template_inputs(batch)
    refuse_inputs(batch, "sharegpt", "tools")
    tools = {"tools": inputs["tools"].cast(TEXT)} if "tools" in inputs else {}
    return {"conversations": encode_conversations(rows), **tools}


def openai(batch: RenderableBatch) -> Fields:
    """`messages` and `tools` as OpenAI's fine-tuning API reads them: arguments as text, tools as functions.

    Raises RowError `view.form` for keys of messages that the API does not know, and for calls without ids.
    """
    rows = map_rows(lambda turns: list(map(_openai_turn, _filled(turns, "openai"))), _conversations(batch))
    inputs = template_inputs(batch)
    refuse_inputs(batch, "openai", "tools")
    tools = {"tools": map_json(inputs["tools"], _wrapped)} if "tools" in inputs else {}
    return {"messages": encode_conversations(rows), **tools}


def _conversations(batch: RenderableBatch) -> list[Conversation | None]:
    return decode_conversations(whole_conversations(batch))


def _filled(turns: Conversation | None, form: str) -> Conversation:
    """Return the turns of a row without their nulls; a row without turns is refused."""
    if turns is None:
        _refuse(form, "a row without a conversation")
    return [{key: value for key, value in turn.items() if value is not None} for turn in turns]


def _split_system(turns: Conversation, form: str, *, needs_text: bool = False) -> tuple[Turn | None, Conversation]:
    """Return the system turn at the start, if there is one, and the other turns."""
    if not turns or turns[0].get("role") != "system":
        return None, turns
    if needs_text and turns[0].get("content") == "":
        _refuse(form, "an empty system message", "--transform empty_turns=drop")
    return turns[0], turns[1:]


def _check_order(turns: Conversation, form: str, asking: Collection[str], answering: Collection[str]) -> None:
    """Refuse turns that do not alternate between roles that ask and roles that answer, up to an answer."""
    if not turns:
        _refuse(form, "a conversation without an answer")
    for index, turn in enumerate(turns):
        role = turn.get("role")
        if role not in (asking, answering)[index % 2]:
            wanted = " or ".join((*asking,) if index % 2 == 0 else (*answering,))
            _refuse(form, f"the role `{role}` where the form has {wanted}", _order_hint(turns, index))
    if len(turns) % 2:
        _refuse(form, "a conversation that does not end with an answer", "--transform trailing_user=drop")


def _order_hint(turns: Conversation, index: int) -> str:
    """Return the remedy for a turn that is out of order; a system turn comes first only after another one."""
    role = turns[index].get("role")
    before = turns[index - 1].get("role") if index else "system"
    if role == before != "tool":
        return HINTS["merge"]
    return HINTS[role] if role in ("system", "tool") else ""


def _check_keys(turn: Turn, form: str, known: Collection[str]) -> None:
    """Refuse a turn with another key than the known ones that has a value."""
    for key, value in turn.items():
        if key not in known and value not in ([], {}, ""):
            _refuse(form, f"`{key}` of turns", HINTS.get(key, ""))


def _text(turn: Turn, form: str) -> str:
    content = turn.get("content")
    if not isinstance(content, str):
        _refuse(form, "content that is not text", HINTS["parts"] if content else "")
    return content


SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _sharegpt_turn(turn: Turn) -> Turn:
    _check_keys(turn, "sharegpt", ("role", "content", "tool_calls", "tool_call_id", "name"))
    more = {key: value for key, value in turn.items() if key in ("tool_call_id", "name")}
    if not (calls := turn.get("tool_calls")):
        return {"from": SHAREGPT_ROLES[turn["role"]], "value": _text(turn, "sharegpt"), **more}
    thought = turn.get("content") or ""
    if not (isinstance(thought, str) and re.fullmatch(THOUGHT, thought, re.DOTALL)):
        _refuse("sharegpt", "text beside calls")
    found = [_sharegpt_call(call) for call in calls]
    return {"from": "function_call", "value": thought + dumps(found[0] if len(found) == 1 else found), **more}


THOUGHT = r"(<think>.*?</think>\s*)?"
"""What may stand before calls: reasoning, as `--transform reasoning=inline` writes it."""


def _sharegpt_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    if not isinstance(function.get("arguments"), dict):
        _refuse("sharegpt", "call arguments that are not an object", HINTS["arguments"])
    return {**({"id": call["id"]} if call.get("id") else {}), **function}


OPENAI_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "weight", "refusal", "audio")


def _openai_turn(turn: Turn) -> Turn:
    _check_keys(turn, "openai", OPENAI_KEYS)
    content = turn.get("content")
    if isinstance(content, list) and any(part.get("type") != "text" for part in content):
        _refuse("openai", "images, videos or audio")
    if turn.get("role") == "tool" and "tool_call_id" not in turn:
        _refuse("openai", "a tool result without the id of its call", HINTS["call_ids"])
    if not (calls := turn.get("tool_calls")):
        return turn
    if not all(call.get("id") for call in calls):
        _refuse("openai", "a call without an id", HINTS["call_ids"])
    return {**turn, "tool_calls": [_openai_call(call) for call in calls]}


def _openai_call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call["function"].get("arguments", {})
    text = arguments if isinstance(arguments, str) else dumps(arguments)
    return {**call, "type": "function", "function": {**call["function"], "arguments": text}}


def _wrapped(tools: Any) -> Any:
    """Return tool specs as functions; those that are already stay."""
    return tools and [
        {"type": "function", "function": tool} if isinstance(tool, dict) and "function" not in tool else tool
        for tool in tools
    ]


def _refuse(form: str, what: str, hint: str = "") -> NoReturn:
    raise RowError(f"the form {form} has no place for {what}", code="view.form", hint=hint or OTHERS)
