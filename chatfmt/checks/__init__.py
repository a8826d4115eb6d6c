"""Checks: find problems of conversations, each with a stable code, its row and its turn.

An *error* cannot be converted (an unknown role, content that is neither text nor parts). A *warning* looks wrong (empty
content, roles that do not alternate): it is converted unchanged, counted and reported, and rejected only with
`--strict` or `--fail-on CODE`. A check never changes anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from ..errors import CheckError, Location, UnknownName
from ..json_columns import JSON, TEXT, decode_conversations, decode_objects, dumps, loads
from ..schema import KEYS, REASONING_FIELDS, ROLES, reasoning_conflict
from ..turn_columns import (
    BoolArray,
    IntArray,
    contains,
    field,
    fields_of,
    lengths_of,
    offsets_of,
    to_bools,
    untrained_answers,
)
from .calls import unanswered_calls, unfit_arguments, unknown_tools
from .column_view import ColumnView, Finding, Limits, Roles, column_views
from .media import missing_files
from .weights import ignored_weights, lost_weights

__all__ = ["CHECKS", "Check", "Finding", "Limits", "check_codes", "find_literals", "refused", "run", "to_error"]

Severity = Literal["error", "warning"]

Finder = Callable[[ColumnView, Limits], Iterator[Finding]]
SYSTEM, DEVELOPER, USER, ASSISTANT, TOOL = range(5)


def unknown_role(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A role other than system, developer, user, assistant and tool, or no role."""
    unknown = view.roles < 0
    if unknown.any():
        values = view.values("role")
        yield from view.at_turns(
            "msg.role", unknown & to_bools(view.turns.is_valid()), lambda turn: _role(values[turn])
        )


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
    if view.missing.any():
        turns = view.missing & view.content_only & to_bools(view.turns.is_valid())
        yield from view.at_turns("msg.null", turns, "the turn has no content")


def empty_content(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Empty text or an empty list in a turn without calls and reasoning.

    Tool results may be empty, and so may an answer right after one that is not trained, such as `--fit` adds.
    """
    empty = view.empty & view.content_only & (view.roles != TOOL)
    if empty.any():
        after_result = np.roll(view.roles == TOOL, 1)
        after_result[view.starts[view.lengths > 0]] = False
        yield from view.at_turns(
            "msg.empty", empty & ~(after_result & untrained_answers(view.column)), "the content is empty"
        )


def blank_content(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Content of white space only in a turn without calls and reasoning, unless it is a tool result."""
    if view.blank.any():
        yield from view.at_turns(
            "msg.blank", view.blank & view.content_only & (view.roles != TOOL), "the content is white space"
        )


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


def order(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A role out of order: user or assistant twice, an assistant first, a later system turn, a tool after a user."""
    roles, before, opening = view.roles, _roles_before(view), _is_opening(view)
    system = (roles == SYSTEM) | (roles == DEVELOPER)
    wrong = (roles == before) & ((roles == USER) | (roles == ASSISTANT))
    wrong |= opening & view.begins[view.rows] & ((roles == ASSISTANT) | (roles == TOOL))
    wrong |= ~opening & system
    wrong |= (before == USER) & (roles == TOOL)
    if wrong.any():
        unlike, one, last = _differing_keys(view), roles.tolist(), before.tolist()

        def hint(turn: int) -> str:
            keys = tuple(name for name, differs in unlike.items() if differs[turn])
            return _order_hint(one[turn], last[turn], keys)

        yield from view.at_turns("msg.order", wrong, lambda turn: _order(one[turn], last[turn]), hint)


def _differing_keys(view: ColumnView) -> dict[str, BoolArray]:
    """Mark the turns that differ from the one before in a key that `--transform merge` does not join, for each key."""
    found = {}
    for name, values in fields_of(view.turns).items():
        joined = name in ("role", "content", "tool_calls", KEYS, *REASONING_FIELDS)
        if not joined and values.type in (TEXT, JSON) and len(values) > 1:
            one, other = values.slice(1), values.slice(0, len(values) - 1)
            same = pc.if_else(pc.and_(one.is_null(), other.is_null()), True, pc.equal(one, other).fill_null(False))
            found[name] = np.append(False, ~to_bools(same))
    return found


@cache
def _order_hint(role: int, before: int, unlike: tuple[str, ...]) -> str:
    """Return what helps with a role out of order; turns that differ in the keys `unlike` are not merged."""
    if before == _BEGIN:
        return "--transform leading_assistant=drop"
    if role == before and unlike:
        dropped = " ".join(f"--drop messages.{name}" for name in unlike)
        return f"{MERGE} {dropped}, since turns that differ in a key are not merged"
    return MERGE if role == before else "--transform later_system=fold" if role in (SYSTEM, DEVELOPER) else ""


_BEGIN, _UNSEEN = -2, -3


def _roles_before(view: ColumnView) -> Roles:
    """The role before each turn; `_BEGIN` at the start of a conversation, `_UNSEEN` after a prompt."""
    before = np.empty_like(view.roles)
    before[1:] = view.roles[:-1]
    firsts = view.starts[view.lengths > 0]
    before[firsts] = np.where(view.begins[view.lengths > 0], _BEGIN, _UNSEEN)
    return before


def _is_opening(view: ColumnView) -> BoolArray:
    """Mark the turns that only system and developer turns precede in their column."""
    others = np.cumsum((view.roles != SYSTEM) & (view.roles != DEVELOPER), dtype=np.int32)
    before = np.concatenate([[0], others[:-1]])
    return np.asarray(
        before == np.repeat(before[view.starts[view.lengths > 0]], view.lengths[view.lengths > 0]), np.bool_
    )


@cache
def _order(role: int, before: int) -> str:
    return f"the first role is `{ROLES[role]}`" if before == _BEGIN else f"`{ROLES[role]}` follows `{ROLES[before]}`"


def no_user(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation without a user turn."""
    yield from view.at_rows(
        "msg.no_user", view.begins & (view.lengths > 0) & ~view.has(view.roles == USER), "no user turn"
    )


def ends_with_user(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation, not a prompt, that ends with a user turn, which no answer follows to train on."""
    if view.name == "prompt":
        return
    rows = np.flatnonzero(view.lengths > 0)
    last = (view.starts + view.lengths - 1)[rows]
    ends = np.zeros(len(view.turns), np.bool_)
    ends[last[view.roles[last] == USER]] = True
    if ends.any():
        yield from view.at_turns("msg.ends_user", ends, "the last role is `user`")


def no_turns(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation without turns."""
    yield from view.at_rows("row.empty", to_bools(view.column.is_valid()) & (view.lengths == 0), "no turns")


def blank_row(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation whose content is all empty or white space."""
    blank = view.blank | view.empty | view.missing
    if blank.any():
        rows = (view.lengths > 0) & ~view.has(~(blank & view.content_only))
        yield from view.at_rows("row.blank", rows, "all content is empty or white space")


def orphan_result(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A tool turn without a call before it, or without a call with its id."""
    tool = view.roles == TOOL
    if not tool.any():
        return
    rows = np.flatnonzero(view.has(tool))
    chosen = pa.array(rows)
    conversations = decode_conversations(view.column.take(chosen))
    prompts = decode_conversations(view.prompt.take(chosen)) if view.prompt is not None else [None] * len(rows)
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
    """Arguments of a call that are text but not a JSON object."""
    for turn, number, text in _arguments_in_text(view):
        if not _is_object(text):
            yield view.finding("tool.arguments", turn, f"the arguments of call {number} are not a JSON object")


def encoded_twice(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """Arguments of a call that are JSON text, if the template prints text as a JSON string."""
    for turn, number, text in _arguments_in_text(view):
        if not limits.encodes_twice():
            return
        if _is_object(text):
            detail = f"the template prints the arguments of call {number}, which are JSON text, as a quoted string"
            yield view.finding("tool.encoded", turn, detail)


def _arguments_in_text(view: ColumnView) -> Iterator[tuple[int, int, str]]:
    """Yield the turn, the number of the call and the text of each call whose arguments are text."""
    for name in ("tool_calls", "function_call"):
        values = view.values(name)
        if values.type != JSON or values.null_count == len(values):
            continue
        for turn in np.flatnonzero(to_bools(values.is_valid())).tolist():
            calls = loads(values[turn].as_py())
            for number, call in enumerate(calls if isinstance(calls, list) else [calls]):
                inner = call.get("function", call) if isinstance(call, dict) else None
                arguments = inner.get("arguments") if isinstance(inner, dict) else None
                if isinstance(arguments, str):
                    yield turn, number, arguments


def _is_object(text: str) -> bool:
    try:
        return isinstance(loads(text), dict)
    except (ValueError, RecursionError):
        return False


def control_tokens(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A special token or other markup of the template in content, where a tokenizer would treat it as markup."""
    if not limits.literals or view.content.type not in (TEXT, JSON):
        return
    found: dict[int, list[str]] = {}
    for turn, literal in find_literals(view.content, limits.literals):
        found.setdefault(turn, []).append(literal)
    for turn, literals in sorted(found.items()):
        names = ", ".join(f"`{literal}`" for literal in dict.fromkeys(literals))
        yield view.finding("token.control", turn, f"{names} in the content")


def find_literals(column: pa.Array, literals: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the index of a text or JSON value and the literal for each occurrence of a literal.

    Searches the bytes of the whole column at once, which costs next to nothing without occurrences.
    """
    encoded = {(dumps(text)[1:-1] if column.type == JSON else text).encode(): text for text in literals if text}
    data, ends = _bytes_of(column)
    for pattern in _patterns(list(encoded)):
        for match in re.finditer(pattern, data):
            index = int(np.searchsorted(ends, match.start(), "right"))
            if match.end() <= ends[index]:
                yield index, encoded[match[0]]


def _patterns(literals: list[bytes]) -> Iterator[bytes]:
    """Yield a pattern for each first byte, so that the search skips to that byte at the speed of memory."""
    for first in sorted({text[:1] for text in literals}):
        rest = sorted((re.escape(text[1:]) for text in literals if text[:1] == first), key=len, reverse=True)
        yield re.escape(first) + b"(?:" + b"|".join(rest) + b")"


def _bytes_of(column: pa.Array) -> tuple[memoryview, IntArray]:
    """The bytes of a text column and the offsets where its values end."""
    width = np.dtype(np.int64 if column.type == JSON else np.int32)
    _, offsets, data = column.buffers()
    if len(column) == 0 or data is None:
        return memoryview(b""), np.zeros(len(column), np.int64)
    ends = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return memoryview(data)[ends[0] : ends[-1]], ends[1:] - ends[0]


def too_long(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation with more characters of content than the limit."""
    if limits.max_chars is None or view.content.type not in (TEXT, JSON):
        return
    chars = np.bincount(view.rows, weights=_chars(view.content), minlength=len(view.column)).astype(np.int64)
    for row in np.flatnonzero(chars > limits.max_chars).tolist():
        yield Finding("row.too_long", row, None, f"{chars[row]} characters, over {limits.max_chars}", view.name)


def _chars(content: pa.Array) -> IntArray:
    if content.type == TEXT:
        return np.asarray(pc.fill_null(pc.utf8_length(content), 0).to_numpy(zero_copy_only=False), np.int64)
    return np.array([0 if text is None else _chars_of(loads(text)) for text in content.to_pylist()], np.int64)


def _chars_of(content: Any) -> int:
    if isinstance(content, list):
        return sum(_chars_of(part.get("text")) for part in content if isinstance(part, dict))
    return len(content) if isinstance(content, str) else 0


def same_answers(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A chosen and a rejected answer that are the same turns."""
    if view.chosen is None:
        return
    likely = np.flatnonzero((view.lengths == lengths_of(view.chosen)) & (view.lengths > 0))
    last = view.starts[likely] + view.lengths[likely] - 1
    theirs = offsets_of(lengths_of(view.chosen))[1:][likely] - 1
    content = field(view.chosen.flatten(), "content")
    if view.content.type == content.type == TEXT:
        same = pc.equal(view.content.take(pa.array(last)), content.take(pa.array(theirs)))
        likely = likely[to_bools(pc.fill_null(same, True))]
    rows = pa.array(likely)
    pairs = zip(decode_conversations(view.chosen.take(rows)), decode_conversations(view.column.take(rows)), strict=True)
    for row, (chosen, rejected) in zip(likely.tolist(), pairs, strict=True):
        if chosen == rejected:
            yield Finding("pair.same", row, None, "the chosen and the rejected answer are the same", view.name)


MERGE = """--transform merge='"\\n\\n"'"""
"""The flag that joins consecutive turns of one role by an empty line; the value is JSON, in any shell."""


class Check(Struct, frozen=True):
    """One entry of CHECKS: the kind and meaning of a code, and the function that finds it."""

    kind: Severity
    function: Finder
    summary: str
    hint: str = ""


CHECKS: dict[str, Check] = {
    "msg.role": Check("error", unknown_role, "unknown role", "--role NAME=ROLE"),
    "msg.type": Check("error", wrong_type, "turn, content or calls of the wrong type"),
    "msg.null": Check("warning", null_content, "turn without content", "--transform empty_turns=drop"),
    "msg.empty": Check("warning", empty_content, "empty content", "--transform empty_turns=drop"),
    "msg.blank": Check("warning", blank_content, "blank content", "--transform empty_turns=drop-blank"),
    "msg.order": Check("warning", order, "roles out of order", MERGE),
    "msg.no_user": Check("warning", no_user, "no user turn", "--fail-on msg.no_user --on-error skip"),
    "msg.ends_user": Check("warning", ends_with_user, "ends with a user turn", "--transform trailing_user=drop"),
    "msg.reasoning_conflict": Check("warning", differing_reasoning, "different reasoning in two fields",
                                    "remove one of the fields, or both: --transform reasoning=drop"),
    "msg.reasoning_twice": Check("warning", repeated_reasoning, "reasoning in a field and in the text",
                                 "--dialect reasoning-tags moves it out of the text"),
    "msg.weight": Check("warning", lost_weights, "weight that is not kept in training",
                        "--to text --mask writes `span_weights` if one of the first 1,000 rows has such a weight"),
    "msg.ignored_weight": Check("error", ignored_weights, "weight of an answer that the trainer does not read",
                                "-t MODEL --to tokens --tokenizer MODEL writes labels for trl-sft and axolotl; "
                                "--for ms-swift and --for axolotl write weights"),
    "pair.same": Check("warning", same_answers, "chosen and rejected are the same",
                       "--fail-on pair.same --on-error skip"),
    "row.empty": Check("warning", no_turns, "no turns", "--on-error skip"),
    "row.blank": Check("warning", blank_row, "all content empty or white space"),
    "row.too_long": Check("warning", too_long, "longer than the limit"),
    "media.file": Check("warning", missing_files, "image, video or audio without its file",
                        "--media-root DIR names the folder of the files"),
    "tool.orphan": Check("warning", orphan_result, "tool result without its call"),
    "tool.unknown": Check("warning", unknown_tools, "call to an unknown tool"),
    "tool.misfit": Check("warning", unfit_arguments, "arguments that the tool does not take"),
    "tool.unanswered": Check("warning", unanswered_calls, "calls without results"),
    "tool.arguments": Check("warning", unparsable_arguments, "arguments that are not JSON"),
    "tool.encoded": Check("warning", encoded_twice, "arguments that the template encodes twice",
                          "--transform arguments=object"),
    "token.control": Check("warning", control_tokens, "special token inside content", "--control-tokens escape"),
}  # fmt: skip
"""The checks by code."""


def run(batch: pa.RecordBatch, codes: Collection[str] | None = None, limits: Limits | None = None) -> list[Finding]:
    """Run the checks with these codes (None: all) on a CONVERSATIONS batch; findings by row, then turn.

    Raises UnknownName for a code without a check.
    """
    chosen, limits = _chosen(CHECKS if codes is None else codes), limits or Limits()
    found = [finding for view in column_views(batch) for check in chosen for finding in check.function(view, limits)]
    return sorted(found, key=lambda each: (each.row, -1 if each.message is None else each.message))


def check_codes(codes: Iterable[str]) -> None:
    """Raise UnknownName for a code without a check."""
    for code in codes:
        if code not in CHECKS:
            raise UnknownName.of("check", code, CHECKS)


def _chosen(codes: Collection[str]) -> list[Check]:
    check_codes(codes)
    return [CHECKS[code] for code in CHECKS if code in set(codes)]


def refused(findings: Iterable[Finding], *, strict: bool = False, named: Collection[str] = ()) -> list[Finding]:
    """Return the findings that reject their row: errors and warnings with a named code, with `strict` all findings."""
    return [each for each in findings if strict or each.code in named or CHECKS[each.code].kind == "error"]


def to_error(finding: Finding) -> CheckError:
    """The error for a finding that stops a run; its row is the index in the batch."""
    at = Location(row=finding.row, message=finding.message)
    return CheckError(finding.detail, hint=finding.hint or CHECKS[finding.code].hint, at=at, code=finding.code)
