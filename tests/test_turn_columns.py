"""Kernels on messages columns against loops over the same conversations as Python lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt import turn_columns as tc
from chatfmt.errors import Location, RowError
from chatfmt.json_columns import JSON, TEXT, decode_conversations, decode_objects, encode_conversations

ROLES = ("system", "user", "assistant")
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(ROLES), "content": st.sampled_from(["", "a", "é", None, ["part"], [{"text": "b"}]])},
    optional={"name": st.sampled_from(["n", 3])},
)
CONVERSATIONS = st.one_of(st.none(), st.lists(TURNS, max_size=3))
COLUMNS = st.lists(CONVERSATIONS, max_size=5)
PAIRS = st.lists(st.tuples(CONVERSATIONS, CONVERSATIONS), max_size=5)


def column_of(rows: list[Any]) -> pa.ListArray:
    """A column of the rows that is a slice of a longer one, so that its offsets do not start at 0."""
    return encode_conversations([[{"role": "user", "content": "before"}], *rows, None])[1:-1]


def flat(rows: list[Any]) -> list[Any]:
    return [turn for turns in rows for turn in turns or []]


def marks_of(rows: list[Any], is_marked: Callable[[dict[str, Any]], bool]) -> tc.BoolArray:
    return np.array([is_marked(turn) for turn in flat(rows)], np.bool_)


@given(COLUMNS)
def test_lengths_rows_and_positions(rows: list[Any]) -> None:
    column = column_of(rows)
    assert tc.lengths_of(column).tolist() == [len(turns or []) for turns in rows]
    numbered = [(row, place) for row, turns in enumerate(rows) for place in range(len(turns or []))]
    assert list(zip(tc.rows_of_turns(column), tc.positions_of_turns(column), strict=True)) == numbered
    assert tc.last_roles(column) == [turns[-1]["role"] if turns else None for turns in rows]


@given(COLUMNS)
def test_the_first_refused_turn_of_each_row_is_its_error(rows: list[Any]) -> None:
    found = [[place for place, turn in enumerate(turns or []) if turn["role"] == "user"] for turns in rows]
    expected = [Location(row=row, message=places[0]) for row, places in enumerate(found) if places]
    column, errors = column_of(rows), list[RowError]()
    flags, places = pa.array(tc.role_is(column.flatten(), "user")), pa.array(range(len(flat(rows))), pa.int64())
    try:
        tc.refuse_turns(column, flags, lambda turn: RowError(str(turn)), places)
    except RowError as error:
        errors = [error, *error.others]
    assert [error.at for error in errors] == expected
    assert all(flat(rows)[int(error.message)]["role"] == "user" for error in errors)


@given(COLUMNS, st.sets(st.sampled_from(ROLES)))
def test_roles_mark_turns_and_turns_mark_rows(rows: list[Any], roles: set[str]) -> None:
    column = column_of(rows)
    marked = tc.role_is(column.flatten(), *roles)
    assert marked.tolist() == [turn["role"] in roles for turn in flat(rows)]
    assert tc.any_turn(column, marked).tolist() == [any(t["role"] in roles for t in turns or []) for turns in rows]


@given(COLUMNS)
def test_only_the_marked_turns_are_kept(rows: list[Any]) -> None:
    kept = tc.pick_turns(column_of(rows), marks_of(rows, lambda turn: turn["role"] == "user"))
    users = [turns and [turn for turn in turns if turn["role"] == "user"] for turns in rows]
    assert decode_conversations(kept) == users


@given(COLUMNS)
def test_a_field_is_replaced(rows: list[Any]) -> None:
    column = column_of(rows)
    names = pa.array([f"n{place}" for place in range(len(flat(rows)))], TEXT)
    changed = decode_conversations(tc.with_field(column, "role", names))
    roles = iter(names.to_pylist())
    assert changed == [turns and [{**turn, "role": next(roles)} for turn in turns] for turns in rows]


@given(st.lists(st.tuples(CONVERSATIONS, st.one_of(st.none(), st.lists(TURNS, max_size=3))), max_size=5))
def test_rows_are_replaced(pairs: list[Any]) -> None:
    rows = [(old, None if old is None else new) for old, new in pairs]
    chosen = np.array([new is not None for _, new in rows], np.bool_)
    replaced = tc.replace_rows(column_of([old for old, _ in rows]), chosen, [new for _, new in rows if new is not None])
    assert decode_conversations(replaced) == [old if new is None else new for old, new in rows]


@given(COLUMNS, st.data())
def test_a_turn_is_put_first(rows: list[Any], data: st.DataObject) -> None:
    column = column_of(rows)
    chosen = [turns is not None and data.draw(st.booleans()) for turns in rows]
    marks = np.array(chosen, np.bool_)
    one = {"role": "system", "content": "s"}
    each = [{"role": "system", "content": f"s{row}"} for row, there in enumerate(chosen) if there]
    shared = tc.prepend(column, marks, tc.encode_like(column.type.value_type, [one]))
    assert decode_conversations(shared) == [
        [one, *turns] if there else turns for turns, there in zip(rows, chosen, strict=True)
    ]
    own = tc.prepend(column, marks, tc.encode_like(column.type.value_type, each))
    added = iter(each)
    assert decode_conversations(own) == [
        [next(added), *turns] if there else turns for turns, there in zip(rows, chosen, strict=True)
    ]


@given(PAIRS)
def test_conversations_are_joined_row_by_row(pairs: list[Any]) -> None:
    first, second = column_of([one for one, _ in pairs]), column_of([other for _, other in pairs])
    both = [None if one is other is None else [*(one or []), *(other or [])] for one, other in pairs]
    assert decode_conversations(tc.concat(first, second)) == both
    either = [None if one is None or other is None else [*one, *other] for one, other in pairs]
    assert decode_conversations(tc.concat(first, second, null="either")) == either


@given(st.lists(st.tuples(st.one_of(st.none(), st.text()), st.one_of(st.none(), st.text())), max_size=5))
def test_texts_are_stacked_as_turns(texts: list[Any]) -> None:
    users, answers = (pa.array([row[side] for row in texts], TEXT) for side in (0, 1))
    stacked = decode_conversations(tc.stack([("user", users), ("assistant", answers)]))
    roles = ("user", "assistant")
    assert stacked == [
        [{"role": role, "content": text} for role, text in zip(roles, row, strict=True) if text is not None]
        for row in texts
    ]


@given(st.lists(TURNS, max_size=4), st.lists(TURNS, max_size=4))
def test_turns_of_two_batches_are_one_array_of_the_same_fields(first: list[Any], second: list[Any]) -> None:
    sides = [encode_conversations([turns]).flatten() for turns in (first, second)]
    one, other = tc.with_same_fields(*sides)
    assert one.type == other.type
    assert decode_objects(tc.fields_of(tc.concat_turns(*sides))) == [*first, *second]


def test_turns_keep_the_order_of_their_other_keys_without_a_field() -> None:
    turns = [{"lang": "en", "role": "user", "content": "a"}, {"content": "b", "lang": None, "role": "user"}]
    (found,) = decode_conversations(tc.without_field(encode_conversations([turns]), "lang"))
    assert [[*turn.items()] for turn in found] == [
        [item for item in turn.items() if item[0] != "lang"] for turn in turns
    ]


def test_a_null_turn_stays_null() -> None:
    type = pa.struct([("role", TEXT), ("content", TEXT)])
    turns = pa.array([{"role": "user", "content": "a"}, None], type)
    more = pa.array([{"role": "user", "name": "n"}], pa.struct([("role", TEXT), ("name", TEXT)]))
    assert tc.concat_turns(turns, more).is_null().to_pylist() == [False, True, False]
    column = tc.to_lists(turns, np.array([2]))
    assert tc.with_field(column, "content", pa.array(["b", None], TEXT)).to_pylist() == [
        [{"role": "user", "content": "b"}, None]
    ]


def test_the_same_turns_in_other_conversations_are_not_the_same() -> None:
    role = pa.array(["user"] * 3, TEXT)
    turns, more = tc.struct_of({"role": role}), tc.struct_of({"role": role, "name": pa.nulls(3, TEXT)})
    columns = [tc.to_lists(turns, np.array(lengths)) for lengths in ([1, 2], [2, 1])]
    assert [tc.same_turns(tc.to_lists(more, np.array([1, 2])), column) for column in columns] == [True, False]


def test_a_role_in_json_is_compared_as_text() -> None:
    turns = tc.struct_of({"role": pa.array(['"user"', "3", None], JSON)})
    assert tc.role_is(turns, "user").tolist() == [True, False, False]
    assert tc.role_is(tc.struct_of({"role": pa.array([1, 2])}), "user").tolist() == [False, False]
    assert tc.role_is(tc.struct_of({"content": pa.array(["a"], TEXT)}), "user").tolist() == [False]


@pytest.mark.parametrize(
    ("contents", "expected"), [(["a", None, "b"], TEXT), (["a", ["p"]], JSON), ([None, None], TEXT), ([], TEXT)]
)
def test_json_that_is_all_text_becomes_text(contents: list[Any], expected: pa.DataType) -> None:
    turns = [{"role": "user", "content": content} for content in contents]
    column = encode_conversations([turns])
    in_json = tc.with_field(
        column,
        "content",
        pa.array([None if c is None else f'"{c}"' if c in ("a", "b") else "[]" for c in contents], JSON),
    )
    shown = tc.text_where_all_text(in_json)
    assert tc.field(shown.flatten(), "content").type == expected


@given(
    texts=st.lists(st.none() | st.text(alphabet="[ \n\té", max_size=3), max_size=6),
    start=st.integers(0, 3),
)
def test_texts_that_start_with_a_character_or_contain_a_text(texts: list[str | None], start: int) -> None:
    column = pa.array(texts, TEXT)[start:]
    known = [text for text in texts[start:] if text is not None]
    assert tc.starting_with(column, b"[\t").to_pylist() == [text for text in known if text and text[0] in "[\t"]
    for parts in (("[ ",), ("é",), ("\n[",), ("",), ("[ ", "\t\n")):
        expected = [None if text is None else any(part in text for part in parts) for text in texts[start:]]
        assert tc.contains(column, *parts).to_pylist() == expected
