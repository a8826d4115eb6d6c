"""Checks of the turns of a conversation: their order, their number, and two answers that are the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import takewhile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, decode_conversations
from ..schema import KEYS, REASONING_FIELDS, ROLES
from ..turn_columns import BoolArray, field, fields_of, last_turns, lengths_of, marked_so_far, offsets_of, to_bools
from .column_view import ASSISTANT, DEVELOPER, SYSTEM, TOOL, USER, ColumnView, Finding, Limits, Roles

MERGE = """--transform merge='"\\n\\n"'"""
"""The flag that joins consecutive turns of one role by an empty line; the value is JSON, in any shell."""
LEADING, FOLD = "--transform leading_assistant=drop", "--transform later_system=fold"
SKIP = "--fail-on msg.order --on-error skip"
"""What helps where no transform does."""
_BEGIN, _UNSEEN = -2, -3


def wrong_order(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A role out of order: user or assistant twice, an assistant first, a later system turn, a tool after a user.

    Also the system twice at the start, if the code is named: many templates print both.
    """
    roles, before, opening = view.roles, _roles_before(view), _is_opening(view)
    system = (roles == SYSTEM) | (roles == DEVELOPER)
    wrong = (roles == before) & ((roles == USER) | (roles == ASSISTANT) | (system & ("msg.order" in limits.named)))
    wrong |= opening & view.begins[view.rows] & ((roles == ASSISTANT) | (roles == TOOL))
    wrong |= ~opening & system
    wrong |= (before == USER) & (roles == TOOL)
    if wrong.any():
        unlike, one, last = _differing_keys(view), roles.tolist(), before.tolist()
        helped = _helped(view)

        def hint(turn: int) -> str:
            flag = _flag(one[turn], last[turn])
            if flag == SKIP or not helped[flag][turn]:
                return SKIP
            keys = [name for name, differs in unlike.items() if differs[turn]] if flag == MERGE else []
            dropped = " ".join(f"--drop messages.{name}" for name in keys)
            return f"{flag} {dropped}, since turns that differ in a key are not merged" if keys else flag

        yield from view.at_turns("msg.order", wrong, lambda turn: _order(one[turn], last[turn]), hint)


def _flag(role: int, before: int) -> str:
    """Return the flag for a role out of order."""
    if role == before:
        return MERGE
    if role in (SYSTEM, DEVELOPER):
        return FOLD
    return SKIP if before == USER else LEADING


def _helped(view: ColumnView) -> dict[str, BoolArray]:
    """Mark the turns that each flag can help with.

    Before a user turn answers can be dropped, and into a later one system text is folded. Turns are not merged if that
    would change the order of text, reasoning and calls.
    """
    user, said = view.roles == USER, ~(view.missing | view.empty)
    asked = np.cumsum(user & ~view.missing, dtype=np.int64)
    ends = (view.starts + view.lengths - 1)[view.rows]
    calls, reasoning = (view.filled(name) for name in (("tool_calls",), REASONING_FIELDS))
    before = [np.append(False, each[:-1]) for each in (said, calls, reasoning)]
    merges = ~((before[1] & said) | (reasoning & (before[0] | before[1] | before[2])))
    merges[view.starts[view.lengths > 0]] = False  # no turn is merged with the prompt's last one
    return {MERGE: merges, FOLD: (asked[ends] > asked) & ~view.missing, LEADING: view.has(user)[view.rows]}


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


def _roles_before(view: ColumnView) -> Roles:
    """The role before each turn; `_BEGIN` at the start of a conversation, `_UNSEEN` after a prompt that is no turns."""
    before = np.empty_like(view.roles)
    before[1:] = view.roles[:-1]
    opens, filled = np.where(view.begins, _BEGIN, _UNSEEN), view.lengths > 0
    if view.prompt is not None:
        asked = ~view.begins & (view.prompt.lengths > 0)
        opens[asked] = view.prompt.roles[(view.prompt.starts + view.prompt.lengths - 1)[asked]]
    before[view.starts[filled]] = opens[filled]
    return before


def _is_opening(view: ColumnView) -> BoolArray:
    """Mark the turns that only system and developer turns precede in their column."""
    others = (view.roles != SYSTEM) & (view.roles != DEVELOPER)
    return np.asarray(marked_so_far(view.column, others) == others, np.bool_)


@cache
def _order(role: int, before: int) -> str:
    return f"the first role is `{ROLES[role]}`" if before == _BEGIN else f"`{ROLES[role]}` follows `{ROLES[before]}`"


def answer_first(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation that begins with an answer, if that is named: the trainer renders what comes before each."""
    if "msg.answer_first" in limits.named:
        first = np.zeros(len(view.turns), np.bool_)
        first[view.starts[view.begins & (view.lengths > 0)]] = True
        yield from view.at_turns("msg.answer_first", first & (view.roles == ASSISTANT), "no turn before an answer")


def no_user(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation without a user turn."""
    yield from view.at_rows(
        "msg.no_user", view.begins & (view.lengths > 0) & ~view.has(view.roles == USER), "no user turn"
    )


def ends_with_user(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation, not a prompt, that ends with a user turn, which no answer follows to train on."""
    if view.name != "prompt":
        answered = view.has(view.roles == ASSISTANT)[view.rows]  # a prompt alone stays
        skip = "--fail-on msg.ends_user --on-error skip"
        yield from view.at_turns(
            "msg.ends_user", last_turns(view.column) & (view.roles == USER), "the last role is `user`",
            lambda turn: "" if answered[turn] else skip,
        )  # fmt: skip


def other_in_completion(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A turn of an answer that is not the assistant's, if that is named: the trainer trains on all of it."""
    if "row.completion" in limits.named and view.name == "completion":
        yield from view.at_turns("row.completion", view.roles != ASSISTANT, _TRAINED_TOO)
    if "row.completion" in limits.named and view.chosen is not None:
        yield from _other_in_pair(view, view.chosen)


_TRAINED_TOO = "the trainer would train on this turn too"


def _other_in_pair(rejected: ColumnView, chosen: pa.ListArray) -> Iterator[Finding]:
    """The first such turn of each side, after those that both sides begin with."""
    rows = np.flatnonzero((rejected.lengths > 1) | (lengths_of(chosen) > 1))
    columns = {"chosen": chosen, "rejected": rejected.column}
    decoded = [decode_conversations(column.take(pa.array(rows))) for column in columns.values()]
    for row, *sides in zip(rows.tolist(), *decoded, strict=True):
        better, worse = (turns or [] for turns in sides)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(better, worse, strict=False)))
        for name, turns in zip(columns, (better, worse), strict=True):
            others = (place for place in range(shared, len(turns)) if turns[place].get("role") != "assistant")
            if (place := next(others, None)) is not None:
                yield Finding("row.completion", row, place, _TRAINED_TOO, name, PAIRS)


PAIRS = "--on-error skip drops such rows; --to preference without --for writes them"


def no_turns(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """A conversation, or a prompt, without turns."""
    if not view.is_answer:
        yield from view.at_rows("row.empty", to_bools(view.column.is_valid()) & (view.lengths == 0), "no turns")


def no_answer(view: ColumnView, limits: Limits) -> Iterator[Finding]:
    """An answer without turns, or a conversation of a pair without an assistant turn: neither teaches anything."""
    if view.is_answer:
        unanswered = view.begins & ~view.has((view.roles == ASSISTANT) | (view.roles < 0))
        rows = to_bools(view.column.is_valid()) & ((view.lengths == 0) | unanswered)
        yield from view.at_rows("row.no_answer", rows, f"`{view.name}` has no answer")


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
