"""Whole conversions: the same bytes on every executor, no partial output, row counts that balance."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt import executors, manifest
from chatfmt.errors import DataProblem, InputError, NoDialect, OutputError, RowError, TemplateError, UsageError
from chatfmt.recipe import Recipe
from chatfmt.writers import FORMATS

from ..conftest import read_rows, write_rows

ROWS = [
    {
        "id": number,
        "messages": [
            *([{"role": "system", "content": f"s{number}"}] if number % 3 == 0 else []),
            {"role": "user", "content": f" Frage {number}?\u2028é "},
            {"role": "assistant", "content": f"answer {number}\n"},
        ],
    }
    for number in range(900)
]


def write_jsonl(path: Path, rows: list[dict[str, object]] | None = None) -> str:
    write_rows(path, ROWS if rows is None else rows)
    return str(path)


def write_parquet(path: Path, rows: list[dict[str, object]] | None = None) -> str:
    pq.write_table(pa.Table.from_pylist(ROWS if rows is None else rows), path, row_group_size=100)
    return str(path)


def tree(folder: Path) -> dict[str, str]:
    """Every file under the folder with the hash of its bytes; the lock is not output."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return read_rows(path)


def chatml(messages: list[dict[str, str]]) -> str:
    return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)


TEXTS = [chatml(row["messages"]) for row in ROWS]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_same_bytes_whatever_runs_it(tmp_path, format, write):
    recipe = Recipe(source=write(tmp_path / "in"), template="chatml", rows_per_shard=250, format=format, keep="id")
    chatfmt.convert(recipe, out=tmp_path / "serial", executor="serial", workers=1)
    expected = tree(tmp_path / "serial")
    assert [name for name in expected if name.startswith("data/")] == [
        f"data/train-{index:05d}-of-00004.{format}" for index in range(4)
    ]
    rows = [row for name in expected if name.startswith("data/") for row in read(tmp_path / "serial" / name)]
    assert rows == [{"text": text, "id": row["id"]} for text, row in zip(TEXTS, ROWS, strict=True)]
    for workers in (1, 2, 3):
        out = tmp_path / f"processes-{workers}"
        chatfmt.convert(recipe, out=out, executor="processes", workers=workers)
        assert tree(out) == expected
    assert set(executors.EXECUTORS) == {"serial", "processes", "ray"}


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.zst", "out.jsonl.gz", "out.parquet"])
def test_one_file_holds_the_same_rows_whatever_runs_it(tmp_path, name):
    recipe = Recipe(source=write_jsonl(tmp_path / "in.jsonl"), template="chatml", rows_per_shard=200)
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        summary = chatfmt.convert(recipe, out=tmp_path / str(workers) / name, workers=workers)
        assert (summary.rows, summary.shards, summary.splits) == (900, 5, {"train": 900})
    one, two = ((tmp_path / number / name) for number in "12")
    assert one.read_bytes() == two.read_bytes()
    chatfmt.convert(Recipe(source=str(one), dialect="text"), out=tmp_path / "back.jsonl")
    assert [row["text"] for row in read(tmp_path / "back.jsonl")] == TEXTS


def test_a_bad_row_is_named_and_leaves_nothing(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[432] = {"id": 432, "messages": [{"role": "robot", "content": "x"}]}
    recipe = Recipe(source=write_jsonl(tmp_path / "in.jsonl", rows), template="chatml", rows_per_shard=1000)
    for out in ("folder", "file.jsonl", "file.parquet"):
        with pytest.raises(RowError) as caught:
            chatfmt.convert(recipe, out=tmp_path / out)
        assert (str(caught.value), caught.value.hint) == (
            f"{tmp_path}/in.jsonl row 432: unknown role `robot` (message 0, line 433)",
            "map it with --role robot=ROLE: system, user, assistant or tool",
        )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_bad_rows_are_left_out_counted_and_kept_with_their_reasons(tmp_path):
    lines = [json.dumps(row) for row in ROWS[:300]]
    lines[7] = '{"messages": [{"role": "user", "content": "a", "content": "b"}]}'
    lines[100] = '{"id": 1, "messages": [{"role": "robot", "content": "x"}]}'
    lines[101] = '{"id": NaN}'
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="chatml", on_error="skip")
    summary = chatfmt.convert(recipe, out=tmp_path / "out")
    assert (summary.rows_in, summary.rows, summary.rejected) == (300, 297, 3)
    assert summary.reasons == {"json.duplicate_key": 1, "json.number": 1, "msg.role": 1}
    rejects = read_rows(tmp_path / "out/.chatfmt/rejects.jsonl")
    assert [(reject["code"], reject["source"]["row"]) for reject in rejects] == [
        ("json.duplicate_key", 7), ("msg.role", 100), ("json.number", 101),
    ]  # fmt: skip
    assert rejects[0]["raw"]["data"] == lines[7] and json.loads(rejects[1]["raw"]["data"]) == json.loads(lines[100])
    shard = next(iter((tmp_path / "out/data").iterdir()))
    assert [row["text"] for row in read(shard)] == [
        chatml(row["messages"]) for row in ROWS[:300] if row["id"] not in (7, 100, 101)
    ]
    assert manifest.verify(tmp_path / "out") == []


def test_too_many_bad_rows_fail_the_run(tmp_path):
    rows = [*ROWS[:8], {"messages": [{"role": "robot", "content": "x"}]}, {"messages": 5}]
    recipe = Recipe(source=write_jsonl(tmp_path / "in.jsonl", rows), on_error="skip")
    with pytest.raises(DataProblem) as caught:
        chatfmt.convert(recipe, out=tmp_path / "out")
    assert str(caught.value).startswith("2 of 10 rows were rejected, but `--max-bad` allows 10%: ")
    hint = "`chatfmt check` lists them; --max-bad 2 --resume accepts them and keeps what is done"
    assert caught.value.hint == hint
    assert not (tmp_path / "out/data").exists()
    chatfmt.convert(replace(recipe, max_bad="2"), out=tmp_path / "out", resume=True)
    with pytest.raises(DataProblem):
        chatfmt.convert(replace(recipe, max_bad="1"), out=tmp_path / "other")
    assert not (tmp_path / "other/data").exists()


def test_an_output_is_neither_overwritten_nor_its_own_input(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl")
    recipe = Recipe(source=source, template="chatml")
    chatfmt.convert(recipe, out=tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError) as caught:
        chatfmt.convert(recipe, out=tmp_path / "out")
    assert str(caught.value) == f"`{tmp_path}/out` already holds a finished conversion"
    assert chatfmt.convert(recipe, out=tmp_path / "out", resume=True).already_complete
    chatfmt.convert(recipe, out=tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == before
    (tmp_path / "link.jsonl").symlink_to(source)
    for out in (source, tmp_path / "link.jsonl"):
        with pytest.raises(UsageError, match="is its own input"):
            chatfmt.convert(recipe, out=out, overwrite=True)


def test_skip_and_limit(tmp_path):
    recipe = Recipe(source=write_jsonl(tmp_path / "in.jsonl"), template="chatml", skip=10, limit=5)
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl")
    assert [row["text"] for row in read(tmp_path / "out.jsonl")] == TEXTS[10:15]


def test_skip_and_limit_are_of_each_source_and_split(tmp_path):
    folder = tmp_path / "named"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", ROWS[:20])
    write_jsonl(folder / "test.jsonl", ROWS[20:40])
    other = write_jsonl(tmp_path / "other.jsonl", ROWS[40:60])
    recipe = Recipe(source=[folder, other], split="all", template="chatml", skip=3, limit=2)
    chatfmt.convert(recipe, out=tmp_path / "out")
    found: dict[str, list[str]] = {}
    for file in sorted((tmp_path / "out/data").iterdir()):
        found.setdefault(file.name.split("-")[0], []).extend(row["text"] for row in read(file))
    assert found == {"test": TEXTS[23:25], "train": TEXTS[3:5] + TEXTS[43:45]}
    chatfmt.convert(replace(recipe, source=folder, split="train + test"), out=tmp_path / "joined.jsonl")
    assert [row["text"] for row in read(tmp_path / "joined.jsonl")] == TEXTS[3:5] + TEXTS[23:25]


def test_where_keeps_rows_and_counts_the_others(tmp_path):
    recipe = Recipe(source=write_parquet(tmp_path / "in.parquet"), template="chatml", where="id >= 890")
    summary = chatfmt.convert(recipe, out=tmp_path / "out.jsonl")
    assert (summary.rows_in, summary.rows, summary.filtered) == (900, 10, 890)


def test_several_sources_follow_one_another(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", ROWS[:3])
    second = write_parquet(tmp_path / "b.parquet", ROWS[3:5])
    recipe = Recipe(source=[first, second], template="chatml")
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl")
    assert [row["text"] for row in read(tmp_path / "out.jsonl")] == TEXTS[:5]


def test_the_types_of_kept_columns_are_those_of_the_data(tmp_path):
    extra = [
        {"n": 1, "x": 0.5, "b": True, "mixed": 1, "o": {"k": [1, None], "t": "7"}, "p": {"a": 1}},
        {"n": 2, "x": 1.5, "b": False, "mixed": "a", "o": {"k": [], "t": "x"}, "p": {"b": 1}},
        {},
    ]
    rows = [{**row, **more} for row, more in zip(ROWS, extra, strict=False)]
    recipe = Recipe(
        source=write_jsonl(tmp_path / "in.jsonl", rows), template="chatml", keep=["n", "x", "b", "mixed", "o", "p"]
    )
    chatfmt.convert(recipe, out=tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").drop_columns(["text"])
    assert {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)} == {
        "n": "int64", "x": "double", "b": "bool", "mixed": "extension<arrow.json>",
        "o": "struct<k: list<element: int64>, t: string>", "p": "extension<arrow.json>",
    }  # fmt: skip
    assert table.to_pylist() == [
        {"n": 1, "x": 0.5, "b": True, "mixed": "1", "o": {"k": [1, None], "t": "7"}, "p": '{"a":1}'},
        {"n": 2, "x": 1.5, "b": False, "mixed": '"a"', "o": {"k": [], "t": "x"}, "p": '{"b":1}'},
        {"n": None, "x": None, "b": None, "mixed": None, "o": None, "p": None},
    ]


def test_json_lines_keep_absent_null_and_order(tmp_path):
    lines = [
        '{"z":1,"messages":[{"content":null,"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{"b":1.0,"a":12345678901234567890123}}}]}],"a":null}',
        '{"messages":[{"role":"user","content":"x","name":"é"}],"a":"1"}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    chatfmt.convert(Recipe(source=str(tmp_path / "in.jsonl"), keep="all"), out=tmp_path / "out.jsonl")
    first, second = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {**json.loads(lines[0])}
    assert first.startswith('{"messages":[{"content":null,"role":"assistant","tool_calls":') and '"a":null' in first
    assert second == lines[1]


def test_rows_in_different_dialects_keep_absent_and_null(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    kept = [{"id": None}, {"id": "s", "n": "t"}, {"n": None}, {"prompt": "p"}]
    rows = [{"messages": turns, **more} for more in kept] + [{"prompt": "q", "completion": "a", "id": 1}]
    recipe = Recipe(source=write_jsonl(tmp_path / "in.jsonl", rows), dialect="mixed", keep="all")
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl")
    expected = [{"messages": turns, **more} for more in [*kept, {"id": 1}]]
    assert read_rows(tmp_path / "out.jsonl") == expected


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], InputError, "in.jsonl"),
        ([{"premise": "a", "hypothesis": "b", "label": 1}] * 3, NoDialect, "no dialect fits"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_words(tmp_path, rows, error, message):
    with pytest.raises(error) as caught:
        chatfmt.convert(
            Recipe(source=write_jsonl(tmp_path / "in.jsonl", rows), template="chatml"), out=tmp_path / "out"
        )
    assert message in str(caught.value) and caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_a_template_that_loses_a_message_stops_the_run_before_anything_is_written(tmp_path):
    (tmp_path / "t.jinja").write_text("{% for m in messages if m.role != 'system' %}{{ m.content }}|{% endfor %}")
    recipe = Recipe(source=write_jsonl(tmp_path / "in.jsonl"), template=str(tmp_path / "t.jinja"))
    with pytest.raises(TemplateError, match="loses the text of role `system`") as caught:
        chatfmt.convert(recipe, out=tmp_path / "out")
    assert "--allow-loss system" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "t.jinja"]
    summary = chatfmt.convert(replace(recipe, allow_loss=("system",)), out=tmp_path / "out.jsonl")
    assert summary.rows == 900


def test_converter_converts_batches_as_the_command_does(tmp_path):
    batch = pa.RecordBatch.from_pylist(ROWS[:20])
    converter = chatfmt.Converter(Recipe(source="-", template="chatml", keep="id"))
    made = converter(batch.slice(3))
    assert made.to_pylist() == [
        {"text": text, "id": row["id"]} for text, row in zip(TEXTS[3:20], ROWS[3:20], strict=True)
    ]
    assert (converter.counts.read, converter.counts.written) == (17, 17)


def test_kept_columns_of_a_typed_source_keep_their_types_whatever_the_first_rows_hold(tmp_path):
    count = 1200
    columns = {
        "messages": [[{"role": "user", "content": f"say {row}"}] for row in range(count)],
        "id": pa.array([None] * 1100 + list(range(100)), pa.int64()),
        "score": pa.nulls(count, pa.float64()),
        "tags": pa.array([None] * 1199 + [["x"]], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=300)
    for template in ("chatml", None):
        out = tmp_path / f"out-{template}"
        recipe = Recipe(source=str(tmp_path / "in.parquet"), template=template, keep="all", format="parquet")
        chatfmt.convert(recipe, out=out)
        found = pq.read_table(out / "data/train-00000-of-00001.parquet")
        kept = pa.schema([("id", pa.int64()), ("score", pa.float64()), ("tags", pa.list_(pa.string()))])
        assert pa.schema([found.schema.field(name) for name in kept.names]) == kept
        assert [found[name].to_pylist() for name in kept.names] == [
            pa.array(columns[name]).to_pylist() for name in kept.names
        ]


def test_a_bad_first_row_does_not_hide_the_columns(tmp_path):
    turns = [[{"role": "no such role", "content": "x"}]] * 3 + [[{"role": "user", "content": "y"}]]
    pq.write_table(pa.table({"messages": turns}), tmp_path / "in.parquet")
    recipe = Recipe(
        source=str(tmp_path / "in.parquet"), template="chatml", format="parquet", on_error="skip", max_bad="3"
    )
    assert chatfmt.convert(recipe, out=tmp_path / "out").rows == 1
    assert pq.read_table(tmp_path / "out/data/train-00000-of-00001.parquet").to_pylist() == [{"text": chatml(turns[3])}]
