r"""Reasoning of assistant turns, in a field of its own or inline as `<think>…</think>`.

The inline form is that of DeepSeek-R1 and Qwen3: `<think>\n` reasoning `\n</think>\n\n` answer. On reading, the line
breaks may be missing, and text that only closes the tag, at the end of a line, began inside it. The fields are
`schema.REASONING_FIELDS`; where a turn has several, the first one counts, as in transformers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial

import pyarrow as pa

from ..json_columns import JSON, TEXT
from ..schema import REASONING_FIELDS, Conversation, Turn, reasoning_conflict, reasoning_field
from ..turn_columns import BoolArray, contains, field, role_is, to_bools
from .edit import Changed, edit_conversations

EMPTY_BLOCK = "<think>\n\n</think>\n\n"
_INLINE = re.compile(r"<think>\n?(?P<reasoning>.*?)\n?</think>\n{0,2}", re.DOTALL)
_UNOPENED = re.compile(r"(?P<reasoning>(?:(?!<think>).)*?)\n?</think>\n{1,2}", re.DOTALL)
_EMPTY = re.compile(r"<think>\s*</think>\n{0,2}")


def change_reasoning(batch: pa.RecordBatch, value: str) -> Changed:
    r"""Drop, inline or split the reasoning of assistant turns; counts rows.

        drop     field and inline block are removed
        last     as `drop`, except in turns after the last user turn
        inline   reasoning_content "r", content "a"   →   content "<think>\nr\n</think>\n\na"
        split    content "<think>\nr\n</think>\n\na"   →   content "a", reasoning_content "r"

    A turn that has both a field and an inline block stays as it is under `inline` and `split`. Where fields differ,
    `inline` writes the first that is not empty; `reasoning.conflict` counts the turns that lose the text of another.
    """
    if value != "inline":
        return edit_conversations(batch, "reasoning", _with_reasoning, _CHANGES[value])
    conflicts: Counter[str] = Counter()
    inline = _each_assistant(partial(_inline, conflicts))
    batch, counts = edit_conversations(batch, "reasoning", _with_reasoning, inline)
    return batch, counts + conflicts


def _with_reasoning(column: pa.ListArray) -> BoolArray:
    turns = column.flatten()
    content = field(turns, "content")
    found = to_bools(contains(content, "</think>")) if content.type in (TEXT, JSON) else role_is(turns)
    for name in REASONING_FIELDS:
        found = found | to_bools(field(turns, name).is_valid())
    return found & role_is(turns, "assistant")


def split_inline(content: object) -> tuple[str, str] | None:
    """Split text into inline reasoning and answer; None without an inline block."""
    if not isinstance(content, str):
        return None
    found = _INLINE.match(content) if content.startswith("<think>") else _UNOPENED.match(content)
    return (found["reasoning"], content[found.end() :]) if found else None


def _each_assistant(change: Callable[[Turn], Turn]) -> Callable[[Conversation], Conversation]:
    return lambda turns: [change(turn) if turn.get("role") == "assistant" else turn for turn in turns]


def _drop(turn: Turn) -> Turn:
    kept = {key: value for key, value in turn.items() if key not in REASONING_FIELDS}
    inline = split_inline(turn.get("content"))
    return {**kept, "content": inline[1]} if inline else kept


def _keep_last(turns: Conversation) -> Conversation:
    users = [index for index, turn in enumerate(turns) if turn.get("role") == "user"]
    last = users[-1] if users else -1
    return _each_assistant(_drop)(turns[: last + 1]) + turns[last + 1 :]


def _inline(conflicts: Counter[str], turn: Turn) -> Turn:
    told = {key: value for key, value in turn.items() if key not in REASONING_FIELDS or value != ""}
    name, content = reasoning_field(told), told.get("content")
    if name is None or not isinstance(content, (str, type(None))) or split_inline(content):
        return told
    reasoning = told[name]
    if not isinstance(reasoning, str):
        return told
    conflicts["reasoning.conflict"] += reasoning_conflict(told) is not None
    kept = {key: value for key, value in told.items() if key not in REASONING_FIELDS}
    return {**kept, "content": f"<think>\n{reasoning}\n</think>\n\n{content or ''}"}


def _split(turn: Turn) -> Turn:
    inline = split_inline(turn.get("content"))
    if inline is None or reasoning_field(turn) is not None:
        return turn
    return {**turn, "content": inline[1], "reasoning_content": inline[0]}


_CHANGES: dict[str, Callable[[Conversation], Conversation]] = {
    "drop": _each_assistant(_drop),
    "last": _keep_last,
    "split": _each_assistant(_split),
}


def empty_think(batch: pa.RecordBatch, value: str) -> Changed:
    r"""Add or strip the empty block `<think>\n\n</think>\n\n` of answers without reasoning; counts rows.

    add     before the text of every assistant turn without reasoning
    strip   from every assistant turn, and drop reasoning fields that are blank
    """
    if value == "strip":
        return edit_conversations(batch, "empty_think", _with_reasoning, _each_assistant(_strip_empty))
    return edit_conversations(
        batch, "empty_think", lambda column: role_is(column.flatten(), "assistant"), _each_assistant(_add_empty)
    )


def _add_empty(turn: Turn) -> Turn:
    content = turn.get("content")
    if not isinstance(content, str) or reasoning_field(turn) is not None or split_inline(content):
        return turn
    return {**turn, "content": EMPTY_BLOCK + content}


def _strip_empty(turn: Turn) -> Turn:
    kept = {key: value for key, value in turn.items() if key not in REASONING_FIELDS or not _is_blank(value)}
    content = turn.get("content")
    if not isinstance(content, str) or _EMPTY.match(content) is None:
        return kept
    return {**kept, "content": _EMPTY.sub("", content, count=1)}


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()
