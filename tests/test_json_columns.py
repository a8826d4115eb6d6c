"""Objects as Arrow columns and back: exact to the last key, whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.json_columns import (
    ABSENT,
    JSON,
    TEXT,
    decode_conversations,
    decode_objects,
    dumps,
    encode_conversations,
    encode_objects,
    encode_values,
    is_turns,
    json_values,
    loads,
    to_json,
    without_nulls,
)
from chatfmt.schema import KEYS

text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
name = st.sampled_from(["role", "content", "name", "tool_calls", "reasoning_content"]) | text.filter(
    lambda key: key != KEYS
)
turn = st.dictionaries(name, text | st.none() | plain, max_size=5)
record = st.dictionaries(name, text | plain | st.lists(turn, max_size=3), min_size=1, max_size=5)


def same(one: Any, other: Any) -> bool:
    """Equal to the kind of each number and the order of keys, which `==` overlooks."""
    return repr(one) == repr(other)


@given(objects=st.lists(record, min_size=1, max_size=8), turns=st.booleans())
def test_objects_come_back(objects: list[dict[str, Any]], turns: bool) -> None:
    fields = encode_objects(objects, turns=turns)
    for column in fields.values():
        column.validate(full=True)
        assert len(column) == len(objects)
        assert column.type in (TEXT, JSON) or (turns and is_turns(column.type))
    assert same(decode_objects(fields), objects)


@given(conversations=st.lists(st.none() | st.lists(turn, max_size=4), min_size=1, max_size=6))
def test_conversations_come_back(conversations: list[list[dict[str, Any]] | None]) -> None:
    column = encode_conversations(conversations)
    column.validate(full=True)
    assert is_turns(column.type)
    assert same(decode_conversations(column), conversations)
    for start in range(len(conversations)):
        assert same(decode_conversations(column.slice(start)), conversations[start:])
    filtered = column.filter(pa.array([row % 2 == 0 for row in range(len(conversations))]))
    assert same(decode_conversations(filtered), conversations[::2])


@given(value=plain)
def test_json_text_is_that_of_the_slow_writer(value: Any) -> None:
    written = dumps(value)
    assert same(loads(written), value)
    assert same(json.loads(written), value)
    spelled_otherwise = "e" in written or "0.0000" in written  # orjson and json write small doubles in two ways
    assert spelled_otherwise or written == json.dumps(json.loads(written), ensure_ascii=False, separators=(",", ":"))


@given(objects=st.lists(record, min_size=1, max_size=6))
def test_any_column_as_json(objects: list[dict[str, Any]]) -> None:
    for key, column in encode_objects(objects).items():
        if key != KEYS:
            as_json = to_json(column)
            assert as_json.type == JSON
            assert [without_nulls(value) for value in json_values(as_json)] == [
                without_nulls(item.get(key)) for item in objects
            ]


def test_what_a_column_is_made_of() -> None:
    rows: list[dict[str, Any]] = [{"m": [{"role": "u"}], "t": "x", "j": 1}, {"m": [], "t": "", "j": "1"}]
    fields = encode_objects(rows)
    assert {key: column.type for key, column in fields.items()} == {
        "m": pa.list_(pa.struct([("role", TEXT)])), "t": TEXT, "j": JSON,
    }  # fmt: skip
    assert fields["j"].to_pylist() == ["1", '"1"']
    assert encode_values([[{}], [{}, {}]]).to_pylist() == [[{"role": None, "content": None}]] + [
        [{"role": None, "content": None}] * 2
    ]
    assert encode_values([[{KEYS: "x"}]]).to_pylist() == ['[{"#keys":"x"}]']


def test_absent_null_and_order_are_three_things() -> None:
    rows: list[dict[str, Any]] = [{"a": "x", "b": "y"}, {"b": "y", "a": None}, {"b": None}, {}]
    fields = encode_objects(rows)
    assert fields[KEYS].to_pylist() == [None, '["b","a"]', '["b"]', None]
    assert decode_objects(fields) == rows and [list(row) for row in decode_objects(fields)] == [
        list(row) for row in rows
    ]


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [-float("inf")], {"a": float("nan")}, "\ud800", {"\udc00": 1}]
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        dumps(value)
    with pytest.raises(ValueError):
        encode_objects([{"a": value}, {"a": 1}])


def test_a_key_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="#keys"):
        encode_objects([{KEYS: "x"}])


@pytest.mark.parametrize(
    "number", [0, -1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**300, 1.0, -0.0, 1e16, 5e-324, 0.1]
)
def test_numbers_are_kept(number: float) -> None:
    assert repr(loads(dumps({"n": [number]}))) == repr({"n": [number]})


def test_empty_lists_beside_absent_ones_are_not_turns() -> None:
    assert encode_values([ABSENT, []]).type == encode_values([None, []]).type == encode_values([[]]).type == JSON
