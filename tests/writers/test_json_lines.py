"""JSON Lines encoded from Arrow columns equal `json.dumps` of the rows."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt import json_columns
from chatfmt.errors import RowError
from chatfmt.writers.json_lines import json_lines

from .samples import TEXTS, dumps, objects_batch


def written(batch: pa.RecordBatch, **options: Any) -> str:
    return b"".join(map(bytes, json_lines(batch, **options))).decode()


text = st.text(st.characters(codec="utf-8"), max_size=12)
value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
turns = st.lists(st.dictionaries(st.sampled_from(["role", "content", "x"]), text | value, max_size=3), max_size=3)
rows = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "messages", '"q"']), text | turns | value, max_size=4), min_size=1
)


@given(rows)
def test_any_json_rows_round_trip(objects: list[dict[str, Any]]) -> None:
    found = [
        json.loads(line)
        for line in written(objects_batch(objects) if any(objects) else _empty(objects)).split("\n")[:-1]
    ]
    assert found == objects
    assert [list(row) for row in found] == [list(row) for row in objects]
    assert [dumps(row) for row in found] == [dumps(row) for row in objects]


def _empty(objects: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"a": pa.nulls(len(objects), json_columns.JSON)})


@given(st.lists(text, min_size=1))
def test_a_column_of_text_is_written_as_json_writes_it(texts: list[str]) -> None:
    lines = written(pa.record_batch({"text": pa.array(texts, pa.string())}))
    assert [json.loads(line) for line in lines.split("\n")[:-1]] == [{"text": text} for text in texts]
    wider = pa.record_batch({"text": pa.array([*texts, ""], pa.string()), "n": pa.nulls(len(texts) + 1)})
    assert lines == written(wider.slice(0, len(texts)))


@given(st.lists(st.text('",\\a[]', max_size=5), min_size=1))
def test_texts_that_look_like_the_end_of_a_list_item(texts: list[str]) -> None:
    lines = "".join(f"{dumps({'text': text})}\n" for text in texts)
    assert written(pa.record_batch({"text": pa.array(texts)})) == lines
    nested = written(pa.record_batch({"texts": pa.array([texts, [None, *texts]])}))
    assert nested == "".join(f"{dumps({'texts': each})}\n" for each in (texts, [None, *texts]))


def test_every_escape_and_no_other() -> None:
    lines = written(pa.record_batch({"text": pa.array(TEXTS)}))
    assert lines == "".join(f"{dumps({'text': text})}\n" for text in TEXTS)


def test_json_text_is_copied_byte_for_byte() -> None:
    column = pa.array(['{"b": 1.0, "a":1e5 }', None, "null"], json_columns.JSON)
    assert written(pa.record_batch({"x": column})) == '{"x":{"b": 1.0, "a":1e5 }}\n{}\n{"x":null}\n'


NATIVE = pa.record_batch({
    "i": pa.array([1, None]), "f": pa.array([1.0, 1e300]), "b": pa.array([True, None]), "t": pa.array(["x", None]),
    "l": pa.array([[1, None], None]), "s": pa.array([{"q": None, "r": [1.5]}, None]),
    "d": pa.array([datetime.date(2024, 2, 29), None]), "spans": pa.array([[[0, 1], [2, 3]], []]),
})  # fmt: skip


def test_native_columns_without_nulls() -> None:
    assert written(NATIVE) == (
        '{"i":1,"f":1.0,"b":true,"t":"x","l":[1,null],"s":{"r":[1.5]},"d":"2024-02-29","spans":[[0,1],[2,3]]}\n'
        '{"f":1e300,"spans":[]}\n'
    ).replace("1e300", dumps(1e300))


def test_native_columns_with_explicit_nulls() -> None:
    second = written(NATIVE, explicit_nulls=True).split("\n")[1]
    assert json.loads(second) == {
        "i": None,
        "f": 1e300,
        "b": None,
        "t": None,
        "l": None,
        "s": None,
        "d": None,
        "spans": [],
    }


def test_columns_of_a_conversation_are_absent_and_never_null() -> None:
    tools = pa.array([None, None], pa.string())
    assert written(pa.record_batch({"tools": tools, "kept": tools}), explicit_nulls=True) == '{"kept":null}\n' * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_an_error_with_their_row(bad: float) -> None:
    with pytest.raises(RowError) as caught:
        written(pa.record_batch({"f": pa.array([1.0, bad])}))
    assert (caught.value.code, caught.value.at.row) == ("out.range", 1)
    assert str(caught.value) == "row 1: NaN and infinity cannot be written as JSON"


def test_binary_is_refused() -> None:
    with pytest.raises(RowError, match="a column of type `binary` cannot be written as JSON"):
        written(pa.record_batch({"f": pa.array([b"x"])}))


def test_slices_and_many_chunks() -> None:
    texts = [f"{place} " + "x" * 50_000 for place in range(300)]  # 15 MB: several pieces
    batch = pa.record_batch({"text": pa.array(texts), "role": pa.array(["user", "bot"] * 150)})
    assert len(list(json_lines(batch))) > 3
    whole = written(batch)
    assert whole == "".join(
        f"{dumps({'text': text, 'role': role})}\n" for text, role in zip(texts, ["user", "bot"] * 150)
    )
    assert written(batch.slice(100, 7)) == "".join(f"{line}\n" for line in whole.split("\n")[100:107])


def test_no_rows_give_no_bytes() -> None:
    assert written(pa.record_batch({"text": pa.array([], pa.string())})) == ""
    assert written(pa.record_batch({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})) == ""
