"""Merge, drop and split turns, and flatten their content parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import CheckError, Location, raise_first
from ..json_columns import JSON, TEXT, message_columns, with_column
from ..schema import REASONING_FIELDS, Conversation, Turn, is_text_part, reasoning_field
from ..turn_columns import (
    BoolArray,
    IntArray,
    any_turn,
    concat,
    contains,
    field,
    lengths_of,
    marked_after,
    marked_so_far,
    offsets_of,
    ranges,
    role_is,
    rows_of_turns,
    text_where_all_text,
    to_bools,
    to_lists,
    untrained_answers,
)
from .edit import TAILS, Changed, all_rows, drop_turns, edit_conversations, edit_rows, heads
from .system import SYSTEM, is_joinable, join


def merge_consecutive(batch: pa.RecordBatch, joint: str) -> Changed:
    """Merge consecutive turns of one role, their texts joined by `joint`; counts rows.

        user "a", user "b", assistant "c"   →   user "a\\n\\nb", assistant "c"     (joint "\\n\\n")

    Not merged: tool turns, unless they answer the same call; turns whose other keys disagree (`name`, `weight`) or
    whose reasoning is in different fields; what would change the order of text, reasoning and calls within the turn.
    """
    return edit_conversations(batch, "merge", repeats_role, lambda turns: merge_turns(turns, joint))


def repeats_role(column: pa.ListArray) -> BoolArray:
    """Mark the turns with the role of the turn before them in their conversation."""
    role, row = field(column.flatten(), "role"), rows_of_turns(column)
    repeated = np.zeros(len(row), np.bool_)
    if len(row) > 1:
        repeated[1:] = to_bools(pc.equal(role.slice(1), role.slice(0, len(role) - 1))) & (row[1:] == row[:-1])
    return repeated


def merge_turns(turns: Conversation, joint: str) -> Conversation:
    """The conversation with consecutive turns of one role merged, where they can be."""
    result: Conversation = []
    for turn in turns:
        if result and _can_merge_pair(result[-1], turn):
            result[-1] = _merge_pair(result[-1], turn, joint)
        else:
            result.append(turn)
    return result


def _can_merge_pair(first: Turn, second: Turn) -> bool:
    if first.get("role") != second.get("role") or (first["role"] == "tool" and not first.get("tool_call_id")):
        return False
    joined = ("role", "content", "tool_calls", *REASONING_FIELDS)
    if any(first.get(key) != second.get(key) for key in {*first, *second} - {*joined}):
        return False
    if not all(is_joinable(turn["content"]) for turn in (first, second) if turn.get("content") is not None):
        return False
    if len({reasoning_field(first), reasoning_field(second)} - {None}) > 1:
        return False
    has_reasoning = any(second.get(key) for key in REASONING_FIELDS)
    content_after_call = first.get("tool_calls") and second.get("content")
    reasoning_after_content = has_reasoning and (first.get("content") or first.get("tool_calls"))
    return not (content_after_call or reasoning_after_content)


def _merge_pair(first: Turn, second: Turn, joint: str) -> Turn:
    turn = {**first, **{key: value for key, value in second.items() if first.get(key) is None}}
    for key in ("content", *REASONING_FIELDS):
        if first.get(key) is not None and second.get(key) is not None:
            turn[key] = join([first[key], second[key]], joint)
    if first.get("tool_calls") and second.get("tool_calls"):
        turn["tool_calls"] = [*first["tool_calls"], *second["tool_calls"]]
    return turn


def answer_results(batch: pa.RecordBatch, value: str) -> Changed:
    """`answer`: put an empty assistant turn, which is not trained, between a tool result and a user turn; counts rows.

    tool "5", user "and?"   →   tool "5", assistant "" (weight 0), user "and?"
    """
    return edit_conversations(batch, "user_after_tool", _after_results, _answer_results)


def _after_results(column: pa.ListArray) -> BoolArray:
    """Mark the user turns right after a tool turn of their conversation."""
    turns, row = column.flatten(), rows_of_turns(column)
    found = role_is(turns, "user")
    found[1:] &= role_is(turns, "tool")[:-1] & (row[1:] == row[:-1])
    found[:1] = False
    return found


def _answer_results(turns: Conversation) -> Conversation:
    result: Conversation = []
    for turn in turns:
        if result and turn.get("role") == "user" and result[-1].get("role") == "tool":
            result.append({"role": "assistant", "content": "", "weight": 0})
        result.append(turn)
    return result


def drop_leading_assistant(batch: pa.RecordBatch, value: str) -> Changed:
    """`drop`: remove assistant and tool turns before the first user turn; counts rows.

    A conversation without a user turn stays as it is.
    """
    return drop_turns(batch, "leading_assistant", _before_user, heads(batch))


def _before_user(column: pa.ListArray) -> BoolArray:
    turns = column.flatten()
    user = role_is(turns, "user")
    early = (marked_so_far(column, user) == 0) & role_is(turns, "assistant", "tool")
    return np.asarray(early & any_turn(column, user)[rows_of_turns(column)], np.bool_)


def drop_trailing_user(batch: pa.RecordBatch, value: str) -> Changed:
    """`drop`: remove user and system turns after the last assistant or tool turn; counts rows.

    A conversation without an assistant turn is a prompt and stays as it is.
    """
    return drop_turns(batch, "trailing_user", _after_answers, all_rows(batch, TAILS))


def _after_answers(column: pa.ListArray) -> BoolArray:
    turns = column.flatten()
    answers = role_is(turns, "assistant", "tool")
    late = (marked_after(column, answers) == 0) & ~answers
    late &= any_turn(column, role_is(turns, "assistant"))[rows_of_turns(column)] & role_is(turns, "user", *SYSTEM)
    return np.asarray(late & any_turn(column, late & role_is(turns, "user"))[rows_of_turns(column)], np.bool_)


def drop_empty_turns(batch: pa.RecordBatch, value: str) -> Changed:
    """Drop turns without content, calls and reasoning; counts rows.

    With `drop-blank` white space counts as no content. Tool turns stay, since an empty result is a result.
    """
    blank = value == "drop-blank"
    return drop_turns(batch, "empty_turns", lambda column: is_empty_turn(column.flatten(), blank=blank))


def is_empty_turn(turns: pa.StructArray, *, blank: bool = False) -> BoolArray:
    """Mark turns without content, calls and reasoning, except tool turns; with `blank`, those of white space too."""
    empty = ~role_is(turns, "tool")
    for name in ("content", "tool_calls", "function_call", *REASONING_FIELDS):
        empty &= _is_empty(field(turns, name), blank)
    return empty


def _is_empty(values: pa.Array, blank: bool) -> BoolArray:
    empty = values.is_null()
    if values.type == TEXT:
        text = pc.utf8_trim_whitespace(values) if blank else values
        empty = pc.or_(empty, pc.fill_null(pc.equal(text, ""), False))
    elif values.type == JSON:
        pattern = r'^(""|\[\]|null)$' if not blank else r'^("(\s|\\[nrt])*"|\[\]|null)$'
        empty = pc.or_(empty, pc.fill_null(pc.match_substring_regex(values, pattern), False))
    return to_bools(empty)


def flatten_parts(batch: pa.RecordBatch, value: str) -> Changed:
    """`flatten`: content of text parts only becomes their joined text; counts rows.

        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]   →   "ab"

    Parts with another key (`cache_control`) or of another type stay parts. The field becomes text again if all content
    is text.
    """
    return _change_contents(batch, "parts", '"text"', _flatten)


def _flatten(turn: Turn) -> Turn:
    parts = turn.get("content")
    if not isinstance(parts, list) or not parts or not all(map(is_text_part, parts)):
        return turn
    return {**turn, "content": "".join(part["text"] for part in parts)}


def write_results(batch: pa.RecordBatch, value: str) -> Changed:
    """`text`: results of tools that are objects become text, as json.dumps with ensure_ascii=False; counts rows.

        {"role": "tool", "content": {"city": "Oslo"}}   →   {"role": "tool", "content": "{\\"city\\": \\"Oslo\\"}"}

    The field becomes text if all content is text.
    """
    return _change_contents(batch, "results", "{", _write_result)


def _write_result(turn: Turn) -> Turn:
    content = turn.get("content")
    return {**turn, "content": json.dumps(content, ensure_ascii=False)} if isinstance(content, dict) else turn


def _change_contents(batch: pa.RecordBatch, count: str, mark: str, change: Callable[[Turn], Turn]) -> Changed:
    """Change the turns of rows that have `mark` in the JSON of their content; counts rows that differ."""
    changed = np.zeros(len(batch), np.bool_)
    for name, column in message_columns(batch):
        content = field(column.flatten(), "content")
        if content.type == TEXT:
            continue
        held = contains(content, mark) if content.type == JSON else content.is_valid()
        column, rows = edit_rows(column, any_turn(column, to_bools(held)), lambda turns: list(map(change, turns)))
        if rows.any():
            batch, changed = with_column(batch, name, text_where_all_text(column)), changed | rows
    return batch, Counter({count: int(changed.sum())})


def split_turns(batch: pa.RecordBatch, value: bool) -> Changed:
    """Make one row per trained assistant turn: the conversation up to and including it.

    Counts the rows added, as `split_turns.cut` the rows with turns after their last such turn, which are lost, and as
    `split_turns.prompt` the rows whose turns before the answer of a completion follow the prompt now.

        u1 a1 u2 a2                u1 a1   and   u1 a1 u2 a2
        u1 a1 (weight 0) u2 a2     u1 a1 u2 a2
        u1 → a1 u2 a2              u1 → a1   and   u1 a1 u2 → a2

    Not split are rated completions and pairs, and rows without an assistant turn; other columns are repeated.
    Raises CheckError `row.untrained` for a row whose assistant turns all have a weight of 0.
    """
    names = batch.schema.names
    name = "messages" if "messages" in names or "label" in names else "completion"
    if name not in names or not value:
        return batch, Counter()
    column = batch.column(name)
    untrained = untrained_answers(column)
    answers = role_is(column.flatten(), "assistant") & ~untrained
    answered = any_turn(column, answers)
    raise_first(list(map(untrained_row, np.flatnonzero(any_turn(column, untrained) & ~answered).tolist())))
    lengths = lengths_of(column)
    starts = offsets_of(lengths)[:-1]
    rows = np.concatenate([rows_of_turns(column)[answers], np.flatnonzero(~answered)])
    upto = np.concatenate([np.flatnonzero(answers) + 1, (starts + lengths)[~answered]])
    order = np.lexsort((upto, rows))
    rows, upto = rows[order], upto[order]
    start = starts[rows]
    first = np.where(answered[rows], upto - 1, start) if name == "completion" else start
    last = np.append(rows[1:] != rows[:-1], True)
    cut = int((upto - start < lengths[rows])[last].sum())
    if len(rows) == len(batch) and not cut and (first == start).all():
        return batch, Counter()
    wide = batch.take(pa.array(rows))
    if (moved := first > start).any():
        before = _turns_between(column, start, first, pa.array(~moved))
        wide = with_column(wide, "prompt", concat(wide.column("prompt"), before))
    counts = {"split_turns": len(rows) - len(batch), "split_turns.cut": cut, "split_turns.prompt": int(moved.sum())}
    return with_column(wide, name, _turns_between(column, first, upto, wide.column(name).is_null())), Counter(counts)


def _turns_between(column: pa.ListArray, start: IntArray, end: IntArray, absent: pa.BooleanArray) -> pa.ListArray:
    """Return a messages column with the turns from `start` to `end` in each row."""
    return to_lists(column.flatten().take(pa.array(ranges(start, end - start))), end - start, absent)


def untrained_row(row: int) -> CheckError:
    """Return the error for a row that has answers, and none to train on."""
    hint = "--on-error skip drops such rows"
    return CheckError("no answer of the row is trained", hint=hint, at=Location(row=row), code="row.untrained")
