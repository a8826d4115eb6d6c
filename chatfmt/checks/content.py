"""Checks of the content of turns: role, type, emptiness, length, reasoning, and special tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, decode_objects, integers, loads
from ..schema import REASONING_FIELDS, reasoning_conflict
from ..turn_columns import BoolArray, IntArray, characters_of, contains, fields_of, to_bools, untrained_answers
from .column_view import ASSISTANT, TOOL, ColumnView, Finding, Limits


def unknown_role(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A role other than system, developer, user, assistant and tool, or no role."""
    unknown = (view.roles < 0) & to_bools(view.turns.is_valid())
    yield from view.at_turns("msg.role", unknown, lambda turn: _role(view.values("role")[turn]))


def _role(value: pa.Scalar) -> str:
    role = value.as_py()
    if role is not None and value.type == JSON:
        role = loads(role)
    return "the turn has no role" if role is None else f"role `{role}` is not known"


def wrong_type(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A null turn, content that is neither text nor a list of parts, calls that are not a list."""
    if view.turns.null_count:
        yield from view.at_turns("msg.type", ~to_bools(view.turns.is_valid()), "the turn is null")
    content, calls = view.content, view.values("tool_calls")
    if content.type == JSON:
        odd = to_bools(pc.match_substring_regex(content, r'^[^"\[n]')) & ~_is_result(view)
        yield from view.at_turns("msg.type", odd, lambda turn: f"the content is {_json_kind(content[turn].as_py())}")
    elif content.type != TEXT and not pa.types.is_list(content.type) and content.null_count < len(content):
        yield from view.at_turns("msg.type", to_bools(content.is_valid()), f"the content is of type {content.type}")
    if calls.type == JSON:
        odd = to_bools(pc.match_substring_regex(calls, r"^[^\[n]"))
        yield from view.at_turns(
            "msg.type", odd, lambda turn: f"`tool_calls` is {_json_kind(calls[turn].as_py())}, not a list"
        )


def _is_result(view: ColumnView) -> BoolArray:
    """Mark tool turns whose content is an object, which templates print as JSON."""
    return np.asarray((view.roles == TOOL) & to_bools(pc.starts_with(view.content, "{")), np.bool_)


def _json_kind(text: str) -> str:
    kinds = {'"': "text", "[": "a list", "{": "an object", "t": "true", "f": "false"}
    return kinds.get(text[0], f"the number {text}")


def null_content(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A turn without content, calls and reasoning."""
    missing = view.missing & view.content_only & to_bools(view.turns.is_valid())
    yield from view.at_needless_turns("msg.null", missing, "the turn has no content")


def empty_content(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Empty text or an empty list in a turn without calls and reasoning.

    Tool results may be empty, and so may an answer right after one that is not trained, such as `--fit` adds.
    """
    empty = view.empty & view.content_only & (view.roles != TOOL)
    if empty.any():
        after_result = np.roll(view.roles == TOOL, 1)
        after_result[view.starts[view.lengths > 0]] = False
        empty &= ~(after_result & untrained_answers(view.column))
        yield from view.at_needless_turns("msg.empty", empty, "the content is empty")


def blank_content(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Content of white space only in a turn without calls and reasoning, unless it is a tool result."""
    blank = view.blank & view.content_only & (view.roles != TOOL)
    yield from view.at_needless_turns("msg.blank", blank, "the content is white space")


def leading_break(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """An answer that begins with a line break, if that is named: the trainer may not find where it begins."""
    pattern = {TEXT: r"^\s*[\r\n]", JSON: r'^"(\s|\\[tf])*\\[rn]'}.get(view.content.type)
    if "msg.line_break" in limits.named and pattern:
        broken = to_bools(pc.match_substring_regex(view.content, pattern)) & ~view.filled(REASONING_FIELDS)
        detail = "the answer begins with a line break, and the trainer may leave it out"
        yield from view.at_turns("msg.line_break", broken & (view.roles == ASSISTANT), detail)


def blank_row(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A row whose content, in all of its columns, is empty or white space."""
    views = () if view.others is None else (view, *view.others)
    if any(each.speechless.any() for each in views):
        said = np.logical_or.reduce([each.has(~(each.speechless & each.content_only)) for each in views])
        rows = np.logical_or.reduce([each.lengths > 0 for each in views]) & ~said
        yield from view.at_rows("row.blank", rows, "all content is empty or white space")


def differing_reasoning(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """An assistant turn with different reasoning in two fields, of which a template prints one."""
    present = [view.values(name) for name in REASONING_FIELDS if view.turns.type.get_field_index(name) >= 0]
    differs = np.zeros(len(view.turns), np.bool_)
    for one, other in combinations(present, 2):
        is_text = one.type == other.type == TEXT
        differs |= to_bools(pc.not_equal(one, other) if is_text else pc.and_(one.is_valid(), other.is_valid()))
    turns = np.flatnonzero(differs & (view.roles == ASSISTANT))
    if len(turns):
        messages = decode_objects(fields_of(view.turns.take(pa.array(turns))))
        for turn, message in zip(turns.tolist(), messages, strict=True):
            if names := reasoning_conflict(message):
                detail = f"`{names[0]}` and `{names[1]}` differ, and templates print one of them"
                yield view.finding("msg.reasoning_conflict", turn, detail)


def repeated_reasoning(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """An assistant turn with reasoning in a field and in a block of its text, of which a template prints both."""
    if view.content.type != TEXT:
        return
    fields = [view.values(name) for name in REASONING_FIELDS if view.turns.type.get_field_index(name) >= 0]
    given = [to_bools(pc.not_equal(values, "").fill_null(False)) for values in fields if values.type == TEXT]
    if given:
        twice = np.logical_or.reduce(given) & to_bools(contains(view.content, "</think>"))
        yield from view.at_turns(
            "msg.reasoning_twice", twice & (view.roles == ASSISTANT), "reasoning in a field and inside the text"
        )


def unclosed_reasoning(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """An answer, or its reasoning, in which a line begins with a tag such as `<think>` that nothing closes."""
    texts = [view.values(name) for name in ("content", *REASONING_FIELDS)]
    for values in (values for values in texts if values.type == TEXT and values.null_count < len(values)):
        turns = np.flatnonzero(to_bools(contains(values, *dict(THOUGHTS))) & (view.roles == ASSISTANT))
        for turn, text in zip(turns.tolist(), values.take(integers(turns)).to_pylist(), strict=True):
            for opening, closing in THOUGHTS:
                rest = text.rpartition(closing)[2]
                if opening in rest and re.search(rf"^[ \t]*{re.escape(opening)}", rest, re.MULTILINE):
                    yield view.finding("msg.reasoning_open", turn, f"`{opening}` is not closed")


THOUGHTS = (
    ("<think>", "</think>"), ("<reasoning>", "</reasoning>"), ("<|begin_of_thought|>", "<|end_of_thought|>"),
)  # fmt: skip
"""Tags around reasoning in a text."""


def too_long(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation with more characters of content than the limit."""
    if limits.max_chars is None or view.content.type not in (TEXT, JSON):
        return
    chars = np.bincount(view.rows, weights=_chars(view.content), minlength=len(view.column)).astype(np.int64)
    for row in np.flatnonzero(chars > limits.max_chars).tolist():
        yield Finding("row.too_long", row, None, f"{chars[row]} characters, over {limits.max_chars}", view.name)


def _chars(content: pa.Array) -> IntArray:
    if content.type == TEXT:
        return characters_of(content)
    return np.array([0 if text is None else _chars_of(loads(text)) for text in content.to_pylist()], np.int64)


def _chars_of(content: Any) -> int:
    if isinstance(content, list):
        return sum(_chars_of(part.get("text")) for part in content if isinstance(part, dict))
    return len(content) if isinstance(content, str) else 0
