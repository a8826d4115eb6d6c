"""Columns of types that Python or JSON lacks: they never stop a run that does not need them, and are kept exactly."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt.errors import DialectError
from chatfmt.recipe import Recipe

from ...conftest import read_rows

pa.array(pd.Series([1]))  # from here on pyarrow uses pandas, as in a program that does; the command keeps it out
TURNS = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]] * 2


def integers(type: pa.DataType, *values: int | None) -> pa.Array:
    stored = pa.int32() if type.bit_width == 32 else pa.int64()
    return pa.array(values, stored).view(type)


def pairs(values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays([0, 2, 2], values)


NANOSECONDS = integers(pa.timestamp("ns"), 1704067200123456789, 1704067200123456000)
TEXTS = pa.array(["a", "b"])
UNION = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [NANOSECONDS, TEXTS])
COLUMNS = {
    "ns": (NANOSECONDS, ["2024-01-01T00:00:00.123456789", "2024-01-01T00:00:00.123456"]),
    "inside": (pa.StructArray.from_arrays([NANOSECONDS], ["at"]), [
        {"at": "2024-01-01T00:00:00.123456789"}, {"at": "2024-01-01T00:00:00.123456"},
    ]),
    "in_list": (pairs(NANOSECONDS), [["2024-01-01T00:00:00.123456789", "2024-01-01T00:00:00.123456"], []]),
    "in_map": (pa.MapArray.from_arrays([0, 1, 2], ["k", "k"], NANOSECONDS), [
        {"k": "2024-01-01T00:00:00.123456789"}, {"k": "2024-01-01T00:00:00.123456"},
    ]),
    "as_key": (pa.MapArray.from_arrays([0, 1, 2], NANOSECONDS, [1, 2]), [
        {"2024-01-01T00:00:00.123456789": 1}, {"2024-01-01T00:00:00.123456": 2},
    ]),
    "berlin": (integers(pa.timestamp("ns", "Europe/Berlin"), 1, 1000), [
        "1970-01-01T01:00:00.000000001+01:00", "1970-01-01T01:00:00.000001+01:00",
    ]),
    "clock": (integers(pa.time64("ns"), 1, 3_600_000_000_000), ["00:00:00.000000001", "01:00:00"]),
    "hour_25": (integers(pa.time32("s"), 90_000, None), ["25:00:00", None]),
    "zone": (integers(pa.timestamp("us", "Nowhere/Land"), 1, None), ["1970-01-01T00:00:00.000001+00:00", None]),
    "offset": (integers(pa.timestamp("s", "+99:99"), 1, None), ["1970-01-01T00:00:01+00:00", None]),
    "y10k": (integers(pa.timestamp("ms"), 253402300800000, -62135596800001), [
        "10000-01-01T00:00:00", "0000-12-31T23:59:59.999000",
    ]),
    "least": (integers(pa.timestamp("us"), -(2**63), 0), ["-290308-12-21T19:59:05.224192", "1970-01-01T00:00:00"]),
    "day": (integers(pa.date32(), 2**31 - 1, 0), ["5881580-07-11", "1970-01-01"]),
    "duration": (integers(pa.duration("ns"), -1, 90_000_000_000_001), [
        "-1 day, 23:59:59.999999999", "1 day, 1:00:00.000000001",
    ]),
    "runs": (pa.RunEndEncodedArray.from_arrays([2], ["a"]), ["a", "a"]),
    "runs_of_dictionary": (pa.RunEndEncodedArray.from_arrays([2], pa.array(["a"]).dictionary_encode()), ["a", "a"]),
    "runs_inside": (pairs(pa.RunEndEncodedArray.from_arrays([2], ["a"])), [["a", "a"], []]),
    "view": (pa.array([[[1]], None], pa.list_view(pa.list_view(pa.int64()))), [[[1]], None]),
    "tensor": (pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int32(), (2,)), pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2))
    ), [[1, 2], [3, 4]]),
    "object_key": (pa.MapArray.from_arrays([0, 1, 2], [{"a": 1}, {"a": 2}], [1, 2]), [
        [[{"a": 1}, 1]], [[{"a": 2}, 2]],
    ]),
    "repeated": (pa.MapArray.from_arrays([0, 2, 3], ["a", "a", "b"], [1, 2, 3]), [[["a", 1], ["a", 2]], {"b": 3}]),
    "twins": (pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["a", "a"]), [
        [["a", 1], ["a", 3]], [["a", 2], ["a", 4]],
    ]),
    "union": (UNION, ["2024-01-01T00:00:00.123456789", "b"]),
    "union_inside": (pa.StructArray.from_arrays([UNION], ["a"], mask=pa.array([True, False])), [None, {"a": "b"}]),
    "union_of_none": (pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [TEXTS, pa.nulls(2)]), ["a", None]),
    "unions_shared": (pa.DictionaryArray.from_arrays([1, 1], UNION), ["b", "b"]),
    "unions_in_runs": (pa.RunEndEncodedArray.from_arrays([2], UNION[1:]), ["b", "b"]),
    "views_in_map": (pa.MapArray.from_arrays([0, 1, 2], ["k", "k"], TEXTS.cast(pa.string_view())), [
        {"k": "a"}, {"k": "b"},
    ]),
    "extension": (pa.ExtensionArray.from_storage(pa.opaque(UNION.type, "x", "y"), UNION), [
        "2024-01-01T00:00:00.123456789", "b",
    ]),
    "interval": (pa.array([(1, 2, 3), (0, 0, 0)], pa.month_day_nano_interval()), [[1, 2, 3], [0, 0, 0]]),
    "empty": (pa.array([{}, None], pa.struct([])), [{}, None]),
}  # fmt: skip
READ_AS_JSON = {"twins", "interval", "empty", "in_map", "as_key", "object_key", "repeated", "views_in_map", "extension"}
READ_AS_JSON |= {name for name in COLUMNS if name.startswith("union")}


def write(path, columns, extra=()):
    table = pa.table({"messages": TURNS, **{name: column for name, (column, _) in columns.items()}, **dict(extra)})
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    return Recipe(source=str(path), template="chatml", keep="all")


def test_odd_columns_are_kept_exactly_in_json_lines(tmp_path):
    recipe = write(tmp_path / "in.arrow", COLUMNS)
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl", workers=1)
    first, second = read_rows(tmp_path / "out.jsonl")
    del first["text"], second["text"]
    assert (first, second) == tuple({name: values[row] for name, (_, values) in COLUMNS.items()} for row in (0, 1))


def test_odd_columns_that_nobody_asked_for_stop_no_run(tmp_path):
    recipe = write(
        tmp_path / "in.arrow", COLUMNS, {"view_of_bytes": pa.array([b"\xff", None], pa.binary_view())}.items()
    )
    chatfmt.convert(Recipe(source=recipe.source, template="chatml"), out=tmp_path / "out.jsonl", workers=1)
    text = "<|im_start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\nyo<|im_end|>\\n"
    assert (tmp_path / "out.jsonl").read_text() == f'{{"text":"{text}"}}\n' * 2


def test_odd_columns_keep_their_types_in_parquet(tmp_path):
    columns = {name: each for name, each in COLUMNS.items() if name not in READ_AS_JSON}
    chatfmt.convert(write(tmp_path / "in.arrow", columns), out=tmp_path / "out.parquet", workers=1)
    kept = pq.read_table(tmp_path / "out.parquet")
    assert kept.column_names == ["text", *columns]
    for name in ("ns", "clock", "hour_25", "zone", "offset", "y10k", "least", "day", "duration"):
        assert kept[name].combine_chunks().cast(columns[name][0].type).equals(columns[name][0]), name


def in_a_list(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays([0, 1, 2], values)


MAP = pa.array([[("k", None), ("l", "x")], []], pa.map_(pa.string(), pa.string()))
INSIDE = pa.map_(pa.string(), pa.map_(pa.int64(), pa.list_(pa.struct([("a", pa.int64())]))))
LOADED = {name: COLUMNS[name] for name in sorted(READ_AS_JSON)} | {
    "map": (MAP, [{"k": None, "l": "x"}, {}]),
    "map_in_list": (in_a_list(MAP), [[{"k": None, "l": "x"}], [{}]]),
    "map_in_struct": (pa.StructArray.from_arrays([MAP], ["m"]), [{"m": {"k": None, "l": "x"}}, {"m": {}}]),
    "deep": (pa.array([[("k", [(7, [{"a": 1}])])], None], INSIDE), [{"k": {"7": [{"a": 1}]}}, None]),
    "empty_in_list": (in_a_list(pa.array([{}, {}], pa.struct([]))), [[{}], [{}]]),
    "twins_in_list": (in_a_list(COLUMNS["twins"][0]), [[[["a", 1], ["a", 3]]], [[["a", 2], ["a", 4]]]]),
    "least_of_64": (pa.array([2**64 - 1, 7], pa.uint64()), [2**64 - 1, 7]),
    "cents_32": (pa.array([Decimal("1.20"), None], pa.decimal32(5, 2)), ["1.20", None]),
    "cents_64": (pa.array([Decimal("1.20"), None], pa.decimal64(12, 2)), ["1.20", None]),
    "hundreds": (pa.array([Decimal("1200"), None], pa.decimal128(38, -2)), ["1200", None]),
}


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_types_that_datasets_lacks_are_loaded_with_their_values(tmp_path, format):
    recipe = replace(write(tmp_path / "in.arrow", LOADED), format=format)
    chatfmt.convert(recipe, out=tmp_path / "out", workers=1)
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["text", *LOADED]
    for name, (_, values) in LOADED.items():
        found = [format_decimal(value) if isinstance(value, Decimal) else value for value in loaded[name]]
        if name == "hundreds" and format == "jsonl":
            values = ["1.2E+3", None]
        assert found == values, name


def format_decimal(value: Decimal) -> str:
    return f"{value:f}"


def test_bytes_that_are_text_are_printed_as_text(tmp_path):
    rows = {"q": [b"hi", b"\xff"], "s": [{"b": "\u00e9".encode()}] * 2, "answer": ["a", "a"]}
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    fields = {"user": "{{ q }} {{ s.b ~ '!' }}", "assistant": "answer"}
    recipe = Recipe(source=str(tmp_path / "in.parquet"), map=fields, on_error="skip", max_bad="50%")
    assert chatfmt.convert(recipe, out=tmp_path / "out.jsonl").rejected == 1
    turns = [{"role": "user", "content": "hi \u00e9!"}, {"role": "assistant", "content": "a"}]
    assert read_rows(tmp_path / "out.jsonl") == [{"messages": turns}]


@pytest.mark.parametrize(("good", "bad"), [(0.5, float("nan")), ({"inner": [0.5]}, {"inner": [float("-inf")]})])
def test_numbers_in_turns_that_json_lacks_are_errors_of_their_rows(good, bad, tmp_path):
    turns = [[{**turn, "score": score} for turn in TURNS[0]] for score in (good, bad, good)]
    pq.write_table(pa.table({"messages": turns}), tmp_path / "in.parquet")
    with pytest.raises(DialectError) as error:
        chatfmt.convert(Recipe(source=str(tmp_path / "in.parquet")), tmp_path / "out.jsonl")
    message = f"{tmp_path}/in.parquet row 1: the key `score` holds NaN or infinity, which JSON lacks (message 0)"
    assert str(error.value) == message
    skip = Recipe(source=str(tmp_path / "in.parquet"), on_error="skip", max_bad="50%")
    assert chatfmt.convert(skip, tmp_path / "out.jsonl").reasons == {"msg.type": 1}
    assert read_rows(tmp_path / "out.jsonl") == [{"messages": turns[0]}, {"messages": turns[2]}]


UNIONS = pa.UnionArray.from_sparse(
    pa.array([0, 0, 0, 1], pa.int8()), [pa.array(["a", "b", "c", ""]), pa.array([2] * 4)]
)
CENTS = pa.array([Decimal("1.20")] * 4, pa.decimal32(5, 2))


@pytest.mark.parametrize("content", [UNIONS, pa.DictionaryArray.from_arrays(pa.array(range(4)), UNIONS), CENTS])
def test_content_of_odd_types_is_read_as_what_it_holds(content, tmp_path):
    """pyarrow 26 aborts when it takes turns apart that share unions, and cannot encode decimals of 32 bits."""
    turns = pa.StructArray.from_arrays([pa.array(["user", "assistant"] * 2), content], ["role", "content"])
    table = pa.table({"messages": pa.ListArray.from_arrays([0, 2, 4], turns)})
    with pa.ipc.new_file(tmp_path / "in.arrow", table.schema) as file:
        file.write_table(table)
    recipe = Recipe(source=str(tmp_path / "in.arrow"), on_error="skip", max_bad="50%")
    assert chatfmt.convert(recipe, tmp_path / "out.jsonl").reasons == ({} if content is CENTS else {"msg.type": 1})
    texts = ["1.20"] * 4 if content is CENTS else ["a", "b"]
    written = [turn["content"] for row in read_rows(tmp_path / "out.jsonl") for turn in row["messages"]]
    assert written == texts
