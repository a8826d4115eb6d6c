"""Features: what `datasets` reads of a Parquet output, and what chatfmt reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import from_lines, read_rows, run_cli, run_here, succeed, write_rows
from .dialects.batches import without_nulls

CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": {"c": "x", "deep": [1, {"n": 2}]}}}
OTHER_CALL = {"type": "function", "function": {"name": "v", "arguments": {"p": True, "q": []}}}
TOOLS = [
    {"type": "function", "function": {"name": "w", "parameters": {"type": "object", "properties": {"c": {}}}}},
    {"type": "function", "function": {"name": "v", "description": "Views"}},
]


def turn(role: str, content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **keys}


PARTS = [{"type": "file", "file": {"file_id": "f"}}, {"type": "text", "text": "3"}]
CASES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"messages": [turn("user", "q"), turn("assistant", "a")]}] * 2,
    "answers that look like JSON": [
        {"messages": [turn("user", text), turn("assistant", text)]}
        for text in ("3", "true", "null", "[1, 2]", '{"a": 1}', "2024-05-01", "007", "plain")
    ],
    "tools and calls of unequal shapes": [
        {
            "messages": [
                turn("user", "w?"),
                turn("assistant", "", tool_calls=[CALL]),
                turn("tool", "3", tool_call_id="c1", name="w"),
                turn("assistant", "sun", tool_calls=[OTHER_CALL, CALL]),
            ],
            "tools": TOOLS,
        },
        {"messages": [turn("user", "q"), turn("assistant", "a")]},
    ],
    "reasoning on some rows": [
        {"messages": [turn("user", "q"), turn("assistant", "a", reasoning_content="7")]},
        {"messages": [turn("user", "q"), turn("assistant", "a")]},
    ],
    "variables": [
        {
            "messages": [turn("user", "q"), turn("assistant", "a")],
            "chat_template_kwargs": {"enable_thinking": thinking, **more},
        }
        for thinking, more in ((True, {}), (False, {"style": {"n": 3}}))
    ],
    "parts in one row of twenty": [
        {"messages": [turn("user", PARTS if row % 20 == 7 else f"Say {row}"), turn("assistant", str(row))]}
        for row in range(60)
    ],
    "parts after the sample, in a batch of their own": [
        {"messages": [turn("user", PARTS if row == 2500 else "Say 3"), turn("assistant", "3")]} for row in range(2600)
    ],
    "parts in every turn": [{"messages": [turn("user", PARTS), turn("assistant", [{"type": "text", "text": "3"}])]}],
    "results that are objects": [
        {"messages": [turn("user", "q"), turn("tool", {"n": 3}, tool_call_id="c1"), turn("assistant", "3")]}
    ],
    "times in every row": [
        {"prompt": [turn("user", "2024-05-01")], "completion": [turn("assistant", f"2024-05-0{day} 10:00:00")]}
        for day in range(1, 4)
    ],
    "parts in one row, and text that looks like a time": [
        {"messages": [turn("user", content), turn("assistant", "2024-05-01")]} for content in ("2024-05-01", PARTS)
    ],
    "keys of turns that are numbers and booleans": [
        {"messages": [turn("user", "q", train=False, weight=1), turn("assistant", "a", train=True, weight=2)]}
    ],
    "documents": [
        {
            "messages": [turn("user", "q"), turn("assistant", "a")],
            "documents": [{"title": "T", "text": "7"}, {"title": "U", "pages": 3}],
        }
    ],
}
FORMATS = ["parquet", "jsonl"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_an_output_loads_and_converts_again_to_what_went_in(name: str, format: str, tmp_path: Path) -> None:
    rows = CASES[name]
    source = tmp_path / "in.jsonl"
    write_rows(source, rows)
    succeed(run_here("convert", source, "--format", format, "-o", tmp_path / "out", "-q"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert without_nulls(loaded.to_list()) == rows
    again = succeed(run_here("convert", tmp_path / "out", "-q"))
    assert from_lines(again.stdout) == rows


KEPT = [
    {
        "reward_model": {"ground_truth": "72", "style": "rule"},
        "when": "2024-05-01",
        "tags": ["a", None],
        "n": 7,
        "steps": [{"a": "1"}],
    },
    {
        "reward_model": {"ground_truth": "007", "style": None},
        "when": "2024-05-02",
        "tags": [],
        "n": 8,
        "steps": [{"a": "x"}, {"a": "y"}],
    },
]
UNEQUAL = [
    {"meta": {"a": 1}, "list": [1, "a"], "reward": {"truth": "3", "style": "rule"}, "runs": [{"a": 1}, {"b": "3"}]},
    {"meta": {"b": [1, {"c": "3"}]}, "list": [], "reward": {"truth": 4, "style": "rule"}, "runs": [{"a": None}]},
]


@pytest.mark.parametrize("format", FORMATS)
def test_kept_objects_are_structs_if_they_have_one_shape(format: str, tmp_path: Path) -> None:
    rows = [{"messages": [turn("user", "q")], **kept, **more} for kept, more in zip(KEPT, UNEQUAL, strict=True)]
    write_rows(tmp_path / "in.jsonl", rows)
    flags = ["--keep", "all", "--format", format]
    assert run_here("convert", tmp_path / "in.jsonl", *flags, "-o", tmp_path / "out", "-q").returncode == 0
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == rows
    text, json_type = datasets.Value("string"), datasets.Json()
    assert loaded.features["reward_model"] == {"ground_truth": text, "style": text}
    assert loaded.features["when"] == (text if format == "parquet" else json_type)
    assert [loaded.features[name] for name in ("meta", "list", "reward", "runs")] == [json_type] * 4


def test_text_parts_are_joined_and_counted(tmp_path: Path) -> None:
    rows = [
        {"messages": [turn("user", "Say 0"), turn("assistant", "0")]},
        {
            "messages": [
                turn("user", [{"type": "text", "text": "Say "}, {"type": "text", "text": "3"}]),
                turn("tool", []),
            ]
        },
    ]
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_here("convert", tmp_path / "in.jsonl", "-o", tmp_path / "out.parquet")
    assert run.stderr.decode().splitlines()[1] == "changed: text_parts.join 1"
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        rows[0],
        {"messages": [turn("user", "Say 3"), turn("tool", "")]},
    ]


def test_rows_without_variables_have_empty_ones(tmp_path: Path) -> None:
    """TRL spreads `chat_template_kwargs` of each row; null would stop it."""
    rows = [{"messages": [turn("user", "q")], **more} for more in ({}, {"chat_template_kwargs": {"a": 1}})]
    write_rows(tmp_path / "in.jsonl", rows)
    for format in FORMATS:
        assert run_here("convert", tmp_path / "in.jsonl", "--format", format, "-o", tmp_path / format).returncode == 0
        loaded = datasets.load_dataset(str(tmp_path / format), split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded["chat_template_kwargs"] == [{}, {"a": 1}]


def test_features_survive_a_shuffle(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", CASES["variables"])
    for format in FORMATS:
        out = tmp_path / format
        succeed(run_here("convert", tmp_path / "in.jsonl", "--shuffle", "--format", format, "-o", out))
        loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.features["chat_template_kwargs"] == datasets.Json()


TEXTS = st.sampled_from(["a", "", "3", "true", "null", "[1, 2]", '{"a": 1}', "2024-05-01", "007", '"q"', "é\n\u2028"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=2)
CALLS = st.builds(lambda name, given: {"function": {"name": name, "arguments": given}}, st.sampled_from("fg"), OBJECTS)
FILE_PARTS = st.builds(lambda text: [{"type": "file", "file": {"id": "f"}}, {"type": "text", "text": text}], TEXTS)
ASKED = st.builds(lambda content: turn("user", content), TEXTS | FILE_PARTS)
ANSWERED = st.builds(
    lambda content, more: turn("assistant", content, **more),
    TEXTS,
    st.fixed_dictionaries(
        {}, optional={"tool_calls": st.lists(CALLS, min_size=1, max_size=2), "reasoning_content": TEXTS.filter(len)}
    ),
)
ROWS = st.builds(
    lambda asked, answered, more: {"messages": [asked, answered], **more},
    ASKED,
    ANSWERED,
    st.fixed_dictionaries(
        {},
        optional={
            "tools": st.lists(st.builds(lambda d: {"type": "function", "function": {"name": "f", **d}}, OBJECTS)),
            "documents": st.lists(OBJECTS, min_size=1, max_size=2),
        },
    ),
)


@settings(
    max_examples=max(3, settings.default.max_examples // 8), suppress_health_check=list(HealthCheck), deadline=None
)
@given(rows=st.lists(ROWS, min_size=1, max_size=12), format=st.sampled_from(FORMATS))
def test_any_conversation_loads_and_converts_again(
    rows: list[dict[str, Any]], format: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "in.jsonl", rows)
    succeed(run_here("convert", folder / "in.jsonl", "--format", format, "-o", folder / "out", "-q"))
    wanted = from_lines(run_here("convert", folder / "in.jsonl", "-q").stdout)
    again = run_here("convert", folder / "out", "-q")
    assert from_lines(again.stdout) == wanted
    loaded = datasets.load_dataset(str(folder / "out"), split="train", cache_dir=str(folder / "cache"))
    assert without_nulls(loaded.to_list()) == without_nulls(wanted)


PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("file", pa.string())])
CALLED = pa.struct([("function", pa.struct([("name", pa.string()), ("arguments", pa.string())]))])
SAYS = [{"type": "text", "text": "3"}]
LATE: dict[str, tuple[pa.DataType, dict[str, Any], dict[str, Any]]] = {
    "a part that is not text": (
        pa.struct([("role", pa.string()), ("content", pa.list_(PART))]),
        turn("user", SAYS), turn("user", [{"type": "file", "file": "f"}]),
    ),
    "calls": (
        pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(CALLED))]),
        turn("assistant", "3"),
        turn("assistant", "3", tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LATE)
def test_rows_of_parquet_after_the_sample(name: str, tmp_path: Path) -> None:
    type, early, late = LATE[name]
    rows = [{"messages": [turn("user", "q") if name == "calls" else early, early]}] * 1200
    rows += [{"messages": [*rows[0]["messages"], late]}]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([("messages", pa.list_(type))])), tmp_path / "in.parquet")
    succeed(run_here("convert", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", "-q"))
    lines = run_here("convert", tmp_path / "in.parquet", "-q").stdout.splitlines()
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "out.parquet"), cache_dir=str(tmp_path / "cache"))
    assert without_nulls(loaded.to_list()) == [json.loads(line) for line in lines]
    assert without_nulls(loaded[-1]["messages"][-1]) == late


@pytest.mark.parametrize("format", FORMATS)
def test_kept_columns_have_the_features_of_their_source(format: str, tmp_path: Path) -> None:
    kept = {"kind": datasets.ClassLabel(names=["x", "y"]), "picture": datasets.Image(decode=False)}
    features = datasets.Features({"question": datasets.Value("string"), "answer": datasets.Value("string"), **kept})
    picture = {"bytes": b"\x89PNG", "path": "a.png"}
    row = {"question": "q", "answer": "a", "kind": 1, "picture": picture}
    pq.write_table(pa.Table.from_pylist([row], features.arrow_schema), tmp_path / "in.parquet")
    names = ["kind"] if format == "jsonl" else [*kept]
    flags = [*(word for name in names for word in ("--keep", name)), *(["--drop", "picture"] if len(names) < 2 else [])]
    succeed(run_here("convert", tmp_path / "in.parquet", *flags, "--format", format, "-o", tmp_path / "out", "-q"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert {name: loaded.features[name] for name in names} == {name: kept[name] for name in names}
    assert {name: loaded[0][name] for name in names} == {name: row[name] for name in names}


def test_one_file_of_json_lines_with_text_and_parts_is_noted(tmp_path: Path) -> None:
    """No card can say there that `3` is text."""
    rows = [{"messages": [turn("user", content), turn("assistant", "3")]} for content in ("q", PARTS)]
    write_rows(tmp_path / "in.jsonl", rows)
    note = (
        "note: `messages[].content` is text in some turns and not in others: `load_dataset` reads text such as `3` "
        "there as a number; write a folder (-o FOLDER), whose card declares the types"
    )
    source, out = (tmp_path / "in.jsonl").read_bytes(), tmp_path / "out.jsonl"
    runs = [
        run_here("convert", tmp_path / "in.jsonl", "-o", out),
        run_here("convert", tmp_path / "in.jsonl"),
        run_cli("convert", "-", stdin=source),
    ]
    assert [run.stderr.decode().splitlines()[0] for run in runs] == [note] * 3
    assert read_rows(out) == rows
    assert runs[1].stdout == runs[2].stdout == out.read_bytes()
    assert b"note" not in run_here("convert", tmp_path / "in.jsonl", "-o", tmp_path / "out").stderr


def test_segments_have_one_type(tmp_path: Path) -> None:
    """What axolotl reads as `type: input_output`."""
    write_rows(tmp_path / "in.jsonl", [CASES["plain"][0]])
    succeed(
        run_here("convert", tmp_path / "in.jsonl", "-t", "chatml", "--to", "segments", "-o", tmp_path / "out.parquet")
    )
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("segments").type == pa.list_(pa.struct([("label", pa.bool_()), ("text", pa.string())]))
    assert table.to_pylist()[0]["segments"][1] == {"label": True, "text": "a<|im_end|>"}


def test_json_lines_that_load_as_other_values_are_noted(tmp_path: Path) -> None:
    """`datasets` reads text as times if all of it looks like times, and text beside other values as JSON."""
    turns = [turn("user", "q"), turn("assistant", "a")]
    rows = [
        {"messages": turns, "day": "2024-05-01", "seen": {"at": "2024-05-01T10"}, "value": value} for value in ("3", 4)
    ]
    write_rows(tmp_path / "in.jsonl", rows)
    kept = [word for name in ("day", "seen", "value") for word in ("--keep", name)]
    column = "`value` has text and other values: `load_dataset` reads text such as `3` there as a number"
    notes = [
        f"note: {column}, but not with --format parquet",
        "note: every text of `day` and `seen.at` looks like a time, and `load_dataset` reads it as one; "
        "write a folder (-o FOLDER), whose card declares the types",
    ]
    arguments = ("convert", tmp_path / "in.jsonl", "--to", "messages", *kept, "-o")
    assert run_here(*arguments, tmp_path / "out.jsonl").stderr.decode().splitlines()[:-1] == notes
    assert run_here(*arguments, tmp_path / "lines", "--format", "jsonl").stderr.decode().splitlines()[:-1] == notes[:1]
    assert run_here(*arguments, tmp_path / "out").stderr.decode().splitlines()[:-1] == []
    for name, value in (("lines", 3), ("out", "3")):
        loaded = datasets.load_dataset(str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.to_list()[0] == {"messages": turns, "day": "2024-05-01", "seen": rows[0]["seen"], "value": value}
