"""What holds of every transform, on conversations nobody would write: hypothesis draws them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis.strategies import permutations

from chatfmt import transforms
from chatfmt.errors import CheckError

from .conversations import ROWS, to_batch, to_rows

SETTINGS: list[tuple[str, Any]] = [
    (name, value) for name, each in transforms.TRANSFORMS.items() for value in each.choices[1:]
] + [
    ("roles", {"robot": "assistant", "user": "tool"}),
    ("roles", {"user": "assistant", "assistant": "user"}),
    ("system", "be kind"),
    ("system_override", "be kind"),
    ("merge", " | "),
    ("split_turns", True),
]
ids = [f"{name}={value}" for name, value in SETTINGS]
NOT_IDEMPOTENT = {"split_turns", "socratic", "calculator"}
"""A second run may find something: the rows made, a ` ** ` within a step, an annotation within an annotation."""


def test_the_settings_cover_every_transform() -> None:
    assert {name for name, _ in SETTINGS} == set(transforms.TRANSFORMS)


def slices_of_a_batch_are_a_batch_of_slices(name: str, value: Any, rows: list[Any]) -> None:
    batch = to_batch(rows)
    whole, counts = transforms.apply(batch, {name: value})
    ends = range(len(rows) + 1)
    parts = [transforms.apply(batch.slice(a, b - a), {name: value}) for a, b in zip(ends, ends[1:])]
    assert [row for part, _ in parts for row in to_rows(part)] == to_rows(whole)
    assert sum((each for _, each in parts), Counter()) == counts


def the_count_is_the_number_of_rows_that_differ(name: str, value: Any, rows: list[Any]) -> None:
    batch = to_batch(rows)
    after, counts = transforms.apply(batch, {name: value})
    after.validate(full=True)
    if name == "split_turns":
        assert counts[name] == len(after) - len(batch)
    else:
        before, now = to_rows(batch), [{k: v for k, v in r.items() if k != "final_answer"} for r in to_rows(after)]
        assert counts[name] == sum(one != other for one, other in zip(before, now, strict=True))
        assert after.column("row").equals(batch.column("row"))


def a_batch_without_a_change_is_the_very_batch(name: str, value: Any, rows: list[Any]) -> None:
    batch = to_batch(rows)
    after, counts = transforms.apply(batch, {name: value})
    if not counts and value != "column":
        assert after.equals(batch, check_metadata=True)


def twice_is_once(name: str, value: Any, rows: list[Any]) -> None:
    if name in NOT_IDEMPOTENT or value in ("column", {"user": "assistant", "assistant": "user"}):
        return
    once, _ = transforms.apply(to_batch(rows), {name: value})
    twice, counts = transforms.apply(once, {name: value})
    assert (to_rows(twice), counts[name]) == (to_rows(once), 0)


def a_turn_keeps_the_order_of_its_keys(name: str, value: Any, rows: list[Any]) -> None:
    """The order of keys is part of what templates print."""
    after, _ = transforms.apply(to_batch(rows), {name: value})
    if name in ("system_override", "split_turns"):
        return
    for before, now in zip(rows, to_rows(after), strict=True):
        for column in before:
            old, new = before[column] or (), now.get(column) or ()
            for one, other in zip(old, new, strict=True) if len(old) == len(new) else ():
                assert [key for key in other if key in one] == [key for key in one if key in other]


def off_is_off(name: str, value: Any, rows: list[Any]) -> None:
    batch = to_batch(rows)
    each = transforms.TRANSFORMS[name]
    for off in (None, each.choices[0] if each.kind == "choice" else None, False if each.kind == "flag" else None):
        assert transforms.apply(batch, {name: off}) == (batch, Counter())


def is_taken(name: str, value: Any, row: Any) -> bool:
    """Return whether the transform does not refuse a row."""
    try:
        transforms.apply(to_batch([row]), {name: value})
    except CheckError:
        return False
    return True


LAWS = (
    slices_of_a_batch_are_a_batch_of_slices,
    the_count_is_the_number_of_rows_that_differ,
    a_batch_without_a_change_is_the_very_batch,
    twice_is_once,
    a_turn_keeps_the_order_of_its_keys,
    off_is_off,
)


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=ids)
@given(rows=ROWS)
def test_every_law_holds(name: str, value: Any, rows: list[Any]) -> None:
    if name == "split_turns":  # which refuses rows whose answers are all untrained
        rows = [row for row in rows if is_taken(name, value, row)]
    for law in LAWS:
        law(name, value, rows)


@given(rows=ROWS)
def test_inline_and_split_undo_each_other(rows: list[Any]) -> None:
    """Where reasoning stands in `reasoning_content` alone, and content is text."""
    inlined, counts = transforms.apply(to_batch(rows), {"reasoning": "inline"})
    split, _ = transforms.apply(inlined, {"reasoning": "split"})
    for before, amid, after in zip(rows, to_rows(inlined), to_rows(split), strict=True):
        for column in before:
            for old, inline, new in zip(
                before[column] or (), amid.get(column) or (), after.get(column) or (), strict=True
            ):
                told = {key: value for key, value in old.items() if (key, value) != ("reasoning_content", "")}
                if told != inline:
                    assert new == {**told, "content": old["content"] or ""}


@given(rows=ROWS, order=permutations(["merge", "system", "empty_turns", "developer", "reasoning"]))
def test_the_order_of_the_settings_does_not_matter(rows: list[Any], order: list[str]) -> None:
    wanted = {"merge": "\n", "system": "s", "empty_turns": "drop", "developer": "system", "reasoning": "split"}
    first, counts = transforms.apply(to_batch(rows), wanted)
    assert transforms.apply(to_batch(rows), {name: wanted[name] for name in order}) == (first, counts)


def naive(name: str, value: Any, column: str, row: dict[str, Any]) -> list[Any]:
    """What the columnar transforms do, a turn at a time."""
    turns: list[Any] = row[column]
    roles = [turn["role"] for turn in turns]
    is_head = column in ("messages", "prompt") or (column in ("chosen", "rejected") and row.get("prompt") is None)
    if name == "system" and is_head and turns and not {"system", "developer"} & set(roles):
        return [{"role": "system", "content": value}, *turns]
    if name == "system_override" and is_head and turns:
        while turns and turns[0]["role"] in ("system", "developer"):
            turns = turns[1:]
        return [{"role": "system", "content": value}, *turns]
    if name == "leading_assistant" and is_head and "user" in roles:
        first = roles.index("user")
        return [turn for i, turn in enumerate(turns) if i > first or turn["role"] not in ("assistant", "tool")]
    if name == "trailing_user" and column != "prompt" and "assistant" in roles:
        last = max(i for i, role in enumerate(roles) if role in ("assistant", "tool"))
        late = {i for i in range(last + 1, len(turns)) if roles[i] in ("user", "system", "developer")}
        return [t for i, t in enumerate(turns) if i not in late] if any(roles[i] == "user" for i in late) else turns
    if name == "system_turns" and value == "drop":
        return [turn for turn in turns if turn["role"] not in ("system", "developer")]
    if name == "empty_turns":
        return [
            t for t in turns if t["role"] == "tool" or any(map(t.get, ("tool_calls", "reasoning_content", "content")))
        ]
    return turns


COLUMNAR = [
    ("system", "s"), ("system_override", "s"), ("leading_assistant", "drop"), ("trailing_user", "drop"),
    ("system_turns", "drop"), ("empty_turns", "drop"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), COLUMNAR)
@given(rows=ROWS)
def test_kernels_do_what_a_loop_would(name: str, value: Any, rows: list[Any]) -> None:
    after, _ = transforms.apply(to_batch(rows), {name: value})
    for before, now in zip(rows, to_rows(after), strict=True):
        for column, turns in before.items():
            assert now.get(column) == (None if turns is None else naive(name, value, column, before))


def test_rows_that_are_not_concerned_keep_their_types() -> None:
    native = pa.RecordBatch.from_arrays(
        [
            pa.array([0, 1]),
            pa.array(
                [
                    [{"content": "a", "role": "user", "weight": 0.5}],
                    [{"content": "<think>\nr\n</think>\n\nb", "role": "assistant", "weight": None}],
                ]
            ),
        ],
        names=["row", "messages"],
    )
    after, counts = transforms.apply(native, {"reasoning": "drop"})
    assert counts == {"reasoning": 1}
    assert after.schema == native.schema
    assert after.column("messages").to_pylist()[1] == [{"content": "b", "role": "assistant", "weight": None}]
