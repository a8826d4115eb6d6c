"""Paths lead to the same place over Arrow types, over JSON columns and over plain data."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.dialects.kit.columns import column_at
from chatfmt.errors import UsageError
from chatfmt.field_path import Every, FieldPath, NoSuchStep, top_level, value_at

from .mapping.sources import from_arrow, from_json, values

ROW = {
    "q": "why",
    "a": {"b": [{"c": "x", "n": ["1", "2"]}, {"c": "y", "n": []}, {"n": ["3"]}]},
    "l": ["u", "v", "w"],
    "j": '{"k": ["z"], "b.c": 7}',
    "dotted.name[0]": "as it is",
}
PLACES = {
    "q": "why",
    "a.b[0].c": "x",
    "a.b[-1].n[0]": "3",
    "a.b[].c": ["x", "y", None],
    "a.b[].n": [["1", "2"], [], ["3"]],
    "a.b[].n[]": ["1", "2", "3"],
    "a.b[].n[0]": ["1", None, "3"],
    "a.b[7].c": None,
    "a.b[-7]": None,
    "a.nothing.c": None,
    "nothing": None,
    "nothing[].x": None,
    "l[]": ["u", "v", "w"],
    "l[1]": "v",
    "l.x": None,
    "q[0]": None,
    "j.k[0]": "z",
    'j."b.c"': 7,
    "values(j)": [["z"], 7],
    "values(j)[]": ["z"],
}


@pytest.mark.parametrize(("text", "expected"), PLACES.items())
@pytest.mark.parametrize("source", [from_arrow, from_json])
def test_where_a_path_leads(source: Any, text: str, expected: Any) -> None:
    found = FieldPath.parse(text).column(source([ROW, {}]))
    batch = pa.RecordBatch.from_arrays([found], names=["found"])
    assert values(batch, "found") == [expected, None]
    assert len(found) == 2


def test_text_and_lists_of_text_stay_arrow_types() -> None:
    batch = from_arrow([ROW])
    assert FieldPath.parse("a.b[].c").column(batch).type == pa.list_(pa.string())
    assert FieldPath.parse("a.b[0].c").column(batch).type == pa.string()
    assert FieldPath.parse("a.b").column(from_json([ROW])).type.value_type.field("c").type == pa.string()


def test_a_column_wins_over_the_path_of_its_name() -> None:
    assert FieldPath.parse("dotted.name[0]").column(from_json([ROW])).to_pylist() == ["as it is"]


def test_the_values_of_a_row() -> None:
    batch = from_json([{"x": {"q": "1"}, "y": {"q": "2"}}, {"x": {"q": "3"}}])
    found = FieldPath.parse("values(.).q").column(batch)
    assert values(pa.RecordBatch.from_arrays([found], names=["v"]), "v") == [["1", "2"], ["3"]]


@pytest.mark.parametrize("text", ["", ".a", "a..b", "a[", "a[x]", "a.b[0]c", "[0]", 'a."', "values(.)x", "a."])
def test_invalid_paths(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        FieldPath.parse(text)
    assert str(caught.value).startswith(f"`{text}` is not a path from `")
    assert caught.value.hint == "a path is like `a.b[0].c` or `a[]`"


DATA = st.recursive(
    st.one_of(st.none(), st.text("ab\n", max_size=3), st.integers(0, 3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=12,
)
STEPS = st.lists(st.sampled_from([".a", ".b", "[0]", "[-1]", "[]"]), max_size=4)


def slowly(value: Any, steps: list[str]) -> Any:
    """Where the steps lead, one at a time; ... where nowhere."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if step == "[]":
        if not isinstance(value, list):
            return ...
        found = [None if (item := slowly(each, rest)) is ... else item for each in value]
        return [each for item in found if item is not None for each in item] if "[]" in rest else found
    try:
        inner = value[step[1:]] if step[0] == "." and isinstance(value, dict) else ...
        inner = value[int(step[1:-1])] if step[0] == "[" and isinstance(value, list) else inner
    except (KeyError, IndexError):
        return ...
    return ... if inner is ... else slowly(inner, rest)


@given(rows=st.lists(st.dictionaries(st.just("x"), DATA), min_size=1, max_size=4), steps=STEPS)
def test_any_path_over_any_json(rows: list[dict[str, Any]], steps: list[str]) -> None:
    path = FieldPath.parse("x" + "".join(steps))
    expected = [slowly(row.get("x", ...), steps) for row in rows]
    plain = [None if found is ... else found for found in expected]
    assert [path.find(row) for row in rows] == plain
    column = path.column(from_json(rows))
    assert values(pa.RecordBatch.from_arrays([column], names=["v"]), "v") == plain


@given(
    rows=st.lists(st.lists(st.fixed_dictionaries({"a": st.lists(st.text("ab"), max_size=2)}), max_size=3), min_size=1)
)
def test_kernels_and_plain_data_agree(rows: list[Any]) -> None:
    type = pa.list_(pa.struct([("a", pa.list_(pa.string()))]))
    batch = pa.RecordBatch.from_arrays([pa.array(rows, type)], names=["x"])
    for text in ("x[].a", "x[].a[]", "x[0].a[-1]", "x[-1].a", "x[].a[0]"):
        path = FieldPath.parse(text)
        assert path.column(batch).to_pylist() == [path.find({"x": row}) for row in rows]
        assert path.column(batch.slice(len(rows) // 2)).to_pylist() == path.column(batch).to_pylist()[len(rows) // 2 :]


def test_the_steps_of_a_path() -> None:
    path = FieldPath.parse("a.b[0][]")
    assert (path.steps, path.root, path.is_many) == (("a", "b", 0, Every.ITEM), "a", True)


@pytest.mark.parametrize(("text", "expected"), PLACES.items())
def test_the_value_of_a_record(text: str, expected: Any) -> None:
    assert value_at(ROW, text) == expected
    assert value_at({}, text) is None
    assert value_at(None, text) is None


def test_dialects_find_in_columns_what_they_find_in_records() -> None:
    rows = [ROW, {}]
    for batch in (from_arrow(rows), from_json(rows)):
        for text, expected in PLACES.items():
            found = column_at(batch, text)
            there = [None, None] if found is None else values(pa.RecordBatch.from_arrays([found], names=["v"]), "v")
            assert there == [expected, None], text


@pytest.mark.parametrize("text", ["plain", "Question [en]", "a..b", "v. 1"])
def test_column_names_that_are_not_paths(text: str) -> None:
    assert value_at({text: "here"}, text) == "here"
    assert value_at({"a": {"b": 1}}, text) is None
    assert top_level(text, [text]) == text


def test_the_column_that_a_path_begins_with() -> None:
    assert [top_level(text, ["a.b"]) for text in ("a.b", "a.c[0]", "x[]", "values(a).b", "values(.)", "q")] == [
        "a.b",
        "a",
        "x",
        "a",
        "values(.)",
        "q",
    ]


DOCUMENT = {"a": {"b": [{"c": [1]}, {"c": [2, 3]}]}, "x[y": 4}
DOCUMENT_PATHS = {
    ".": [DOCUMENT],
    "": [DOCUMENT],
    "a.b": [DOCUMENT["a"]["b"]],
    "a.b[].c[]": [1, 2, 3],
    "a.b.[].c": [[1], [2, 3]],
    "values(a)": [DOCUMENT["a"]["b"]],
    "values(values(a))": NoSuchStep,
    "x[y": [4],
    "x[": UsageError,
    "a.b[].d": NoSuchStep,
    "a[]": NoSuchStep,
    "a[0]": UsageError,
    "a..b": UsageError,
    "x]": UsageError,
    "values(a).b": NoSuchStep,
}


@pytest.mark.parametrize(("text", "expected"), DOCUMENT_PATHS.items())
def test_where_a_path_in_a_document_leads(text: str, expected: Any) -> None:
    if isinstance(expected, list):
        assert list(FieldPath.parse_in_document(text).find_all(DOCUMENT)) == expected
    else:
        with pytest.raises(expected):
            list(FieldPath.parse_in_document(text).find_all(DOCUMENT))


def test_an_index_beyond_any_list_is_no_path() -> None:
    with pytest.raises(UsageError, match=r"`a\[9{20}\]` is not a path from `\[9{20}\]` on"):
        FieldPath.parse(f"a[{'9' * 20}]")
