"""`chatfmt.Converter`: Arrow batches and tables in, the same out, with one schema whatever they hold."""

from __future__ import annotations

import json
import pickle
import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt import Recipe
from chatfmt.errors import ChatfmtError, InputError, RowError, UsageError

from ..conftest import ROOT, read_rows

TURNS = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]
CHATML = "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
TEXT = Recipe(source="-", template="chatml", keep="id")
MESSAGES = Recipe(source="-", keep="all")


def table(*conversations: list[dict[str, object]]) -> pa.Table:
    rows = [{"messages": turns, "id": number} for number, turns in enumerate(conversations)]
    return pa.Table.from_pylist(rows)


def test_a_batch_gives_a_batch_and_a_table_a_table():
    rows = table(TURNS, TURNS)
    converter = chatfmt.Converter(TEXT, sample=rows)
    wanted = {"text": [CHATML] * 2, "id": [0, 1]}
    made, batch = converter(rows), converter(rows.to_batches()[0])
    assert isinstance(made, pa.Table) and made.to_pydict() == wanted
    assert isinstance(batch, pa.RecordBatch) and batch.to_pydict() == wanted
    assert made.schema == batch.schema == converter.schema == pa.schema([("text", pa.string()), ("id", pa.int64())])
    assert (converter.counts.read, converter.counts.written) == (4, 4)


@pytest.mark.parametrize("recipe", [TEXT, MESSAGES, replace(TEXT, where="id > 5")])
def test_an_empty_result_has_the_schema_too(recipe):
    rows = table(*[TURNS] * 9)
    converter = chatfmt.Converter(recipe, sample=rows)
    for empty in (rows.slice(0, 0), rows.to_batches()[0].slice(0, 0), rows.slice(0, 3).filter(pa.array([False] * 3))):
        assert (len(converter(empty)), converter(empty).schema) == (0, converter.schema)
        assert type(converter(empty)) is type(empty)
    assert converter(rows.slice(0, 5)).schema == converter.schema


def test_a_sample_whose_rows_are_all_left_out_decides_the_columns_all_the_same():
    rows = table(*[TURNS] * 3)
    converter = chatfmt.Converter(replace(TEXT, where="id > 5"), sample=rows)
    assert (len(converter(rows)), converter.schema.names) == (0, ["text", "id"])
    assert converter(table(*[TURNS] * 7)).to_pydict() == {"text": [CHATML], "id": [6]}
    with pytest.raises(InputError) as caught:
        chatfmt.Converter(replace(TEXT, fraction=1e-9), sample=rows)
    assert caught.value.message == "no row of the sample is in the output"


def test_it_converts_as_the_command_does(tmp_path):
    tools = [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}]
    rows = table(
        TURNS, [*TURNS, {"role": "user", "content": "Do."}, *tools], [{"role": "system", "content": "S"}, *TURNS]
    )
    pq.write_table(rows, tmp_path / "in.parquet")
    for recipe in (MESSAGES, replace(TEXT, mask=True, template="qwen3")):
        out = tmp_path / "out.jsonl"
        chatfmt.convert(replace(recipe, source=Recipe(source=str(tmp_path / "in.parquet")).source), out, overwrite=True)
        wanted = read_rows(out)
        found = chatfmt.Converter(recipe)(rows).to_pylist()
        for row in found:
            for turn in row.get("messages", ()):
                if turn.get("tool_calls") is not None:
                    turn["tool_calls"] = json.loads(turn["tool_calls"])
            if "messages" in row:
                row["messages"] = [
                    {key: value for key, value in turn.items() if value is not None} for turn in row["messages"]
                ]
        assert found == wanted and len(found) == 3


def test_a_copy_in_another_process_agrees_with_a_converter_that_was_used():
    rows = table(*[TURNS] * 3)
    converter = chatfmt.Converter(TEXT)
    first = converter(rows)
    copy = pickle.loads(pickle.dumps(converter))
    assert copy.counts.read == 0 and copy.schema == converter.schema
    assert copy(rows) == first
    with pytest.raises(UsageError, match="no place in the schema"):  # it decides nothing anew
        copy(pa.table({"messages": [TURNS], "id": ["a"]}))


def test_one_without_a_sample_is_not_sent_to_workers_who_would_each_decide():
    with pytest.raises(UsageError) as caught:
        pickle.dumps(chatfmt.Converter(TEXT))
    assert (str(caught.value), caught.value.hint) == (
        "the converter has not seen any rows", "chatfmt.Converter(recipe, sample)"
    )  # fmt: skip
    with pytest.raises(UsageError, match="has not seen any rows"):
        _ = chatfmt.Converter(TEXT).schema
    with pytest.raises(InputError, match="no rows to decide by"):
        chatfmt.Converter(TEXT, sample=table(TURNS).slice(0, 0))


def test_keys_that_only_the_sample_has_are_null_elsewhere_and_others_are_refused():
    named = [{**turn, "name": "Ann"} for turn in TURNS]
    converter = chatfmt.Converter(MESSAGES, sample=table(TURNS, named))
    made = converter(table(TURNS))
    assert made.schema == converter.schema
    assert made["messages"].to_pylist() == [[{**turn, "name": None} for turn in TURNS]]
    strict = chatfmt.Converter(MESSAGES, sample=table(TURNS))
    with pytest.raises(UsageError) as caught:
        strict(pa.concat_tables([table(TURNS, TURNS), table(TURNS, named)], promote_options="permissive"))
    assert str(caught.value) == "output row 3: `messages[].name` has no place in the schema that the sample decided"
    assert caught.value.hint == "give `Converter` a sample that has such rows"
    with pytest.raises(UsageError, match="`source` has no place"):
        strict(table(TURNS).append_column("source", pa.array(["x"])))


def test_text_stays_json_text_where_the_sample_has_json():
    def rows(*notes: object) -> pa.Table:
        return pa.table({"messages": [json.dumps([{**TURNS[0], "note": note}, TURNS[1]]) for note in notes]})

    both, text = rows({"a": 1}, "b"), rows("b")
    recipe = Recipe(source="-", keep="all")
    converter = chatfmt.Converter(recipe, sample=both)
    assert [row[0]["note"] for row in converter(both)["messages"].to_pylist()] == ['{"a":1}', '"b"']
    assert converter(both).slice(1) == converter(text)
    with pytest.raises(UsageError, match=re.escape("`messages[].note` has no place")):
        chatfmt.Converter(recipe, sample=text)(both)


@pytest.mark.parametrize(
    ("sample", "given", "kept"),
    [
        ([1], [2], True), ([1.5], [2], True), ([[1]], [[]], True), ([{"a": 1}], [{"a": None}], True),
        ([True], [2], False), (["a"], [1], False), ([1], [True], False), (pa.array([1.5], pa.float32()), [1.1], False),
        ([["a"]], [[1]], False), ([1], [1.5], False), ([{"a": 1}], [{"a": 1, "b": 2}], False),
        (pa.array([1], pa.timestamp("s", "UTC")), pa.array([1], pa.timestamp("s")), False),
    ],
)  # fmt: skip
def test_values_have_the_type_of_the_sample_only_where_it_holds_them(sample, given, kept):
    converter = chatfmt.Converter(MESSAGES, sample=table(TURNS).append_column("note", pa.array(sample)))
    rows = table(TURNS).append_column("note", pa.array(given))
    if kept:
        made = converter(rows)
        assert (made.schema, made["note"].to_pylist()) == (converter.schema, rows["note"].to_pylist())
    else:
        with pytest.raises(UsageError, match="output row 0: `note` has no place in the schema that the sample decided"):
            converter(rows)


BAD = [{"role": "no such role", "content": "x"}]


def test_the_first_bad_row_is_named_by_its_place_in_the_table():
    rows = table(*[TURNS] * 5000, BAD)
    with pytest.raises(RowError) as caught:
        chatfmt.Converter(TEXT, sample=rows)(rows)
    assert (caught.value.at.row, caught.value.at.message) == (5000, 0)


def test_rejects_are_returned_beside_the_rows():
    rows = table(TURNS, BAD, TURNS, BAD)
    recipe = replace(TEXT, on_error="skip")
    converter = chatfmt.Converter(recipe, sample=rows)
    made, rejects = converter.with_rejects(rows)
    assert made.to_pydict() == {"text": [CHATML] * 2, "id": [0, 2]}
    assert [(row["row"], row["message"], row["code"]) for row in rejects.to_pylist()] == [
        (1, 0, "msg.role"), (3, 0, "msg.role"),
    ]  # fmt: skip
    assert [json.loads(raw) for raw in rejects["raw"].to_pylist()] == [rows.to_pylist()[1], rows.to_pylist()[3]]
    assert (converter.counts.read, converter.counts.written, converter.counts.rejected) == (4, 2, 2)
    good, none = converter.with_rejects(rows.to_batches()[0].slice(0, 1))
    assert isinstance(good, pa.RecordBatch) and len(good) == 1 and none.schema == rejects.schema and len(none) == 0
    with pytest.raises(UsageError) as caught:
        converter(rows)
    assert caught.value.hint == "`Converter.with_rejects` returns both"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limit": 5}, "a converter sees one batch at a time, and `limit` counts the rows of a source"),
        ({"limit": 0}, "a converter sees one batch at a time, and `limit` counts the rows of a source"),
        ({"skip": 5}, "a converter sees one batch at a time, and `skip` counts the rows of a source"),
        (
            {"group_by": "id"},
            "a converter sees one batch at a time, and `group_by` joins rows from anywhere in a source",
        ),
        ({"from_rejects": True}, "a converter sees one batch at a time, and `from_rejects` reads a file of chatfmt"),
        ({"embed_media": True}, "a converter sees one batch at a time, and `embed_media` reads files beside a source"),
        ({"shuffle": True}, "a converter sees one batch at a time, and this recipe compares all rows"),
        ({"shards": 3}, "a converter sees one batch at a time, and this recipe compares all rows"),
        ({"to": "tokens", "template": "chatml"}, "`--to tokens` needs a tokenizer"),
        ({"mask": True}, "`--mask` applies to rendered text, and no template was given"),
        ({"transforms": {"no_such": True}}, "unknown transform `no_such`"),
    ],
)
def test_what_no_batch_can_show_is_refused_before_the_first(values, message):
    with pytest.raises(UsageError) as caught:
        chatfmt.Converter(Recipe(source="-", **values))
    assert str(caught.value) == message


def test_media_that_a_trainer_wants_embedded_are_refused_where_rows_have_some():
    rows = pa.table({"messages": [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]]})
    recipe = Recipe(source="-", trainer="verl")
    assert chatfmt.Converter(recipe, rows)(rows).to_pylist() == rows.to_pylist()
    with pytest.raises(UsageError, match="`embed_media` reads files beside a source"):
        chatfmt.Converter(recipe, rows.append_column("images", pa.array([["a.png"]])))


def test_a_dialect_that_reads_a_whole_file_is_refused():
    tree = {"message_id": "a", "parent_id": None, "role": "prompter", "text": "Hi!", "message_tree_id": "a"}
    answer = {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "Hello.", "message_tree_id": "a"}
    with pytest.raises(UsageError) as caught:
        chatfmt.Converter(Recipe(source="-"), sample=pa.Table.from_pylist([tree, answer]))
    assert str(caught.value) == "the dialect `oasst-rows` reads all rows of a file together"


def examples() -> dict[str, str]:
    """The code of each section of the guide."""
    text = (ROOT / "chatfmt" / "guides" / "engines.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {name: re.findall(r"```python\n(.*?)```", part, re.DOTALL)[0]
            for name, part in zip(["", *parts[1::2]], parts[::2], strict=True)}  # fmt: skip


@pytest.mark.parametrize("name", ["datasets", "Polars", "Ray Data", "Spark", "Dask", "Bad rows"])
def test_the_examples_of_the_guide_run(name, monkeypatch):
    module = {"Polars": "polars", "Ray Data": "ray", "Spark": "pyspark", "Dask": "dask"}.get(name)
    if module is not None and find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    exec(examples()[""] + examples()[name], {})


def test_errors_are_those_of_chatfmt():
    with pytest.raises(ChatfmtError, match="no dialect"):
        chatfmt.Converter(Recipe(source="-"), sample=pa.table({"x": [1]}))


@pytest.mark.parametrize("rows", [{"messages": []}, [1], None])
def test_rows_that_are_not_arrow_are_refused_with_what_makes_them_so(rows):
    for sample in (None, table(TURNS)):
        with pytest.raises(UsageError) as caught:
            chatfmt.Converter(TEXT, sample)(rows)
        assert str(caught.value) == f"a converter takes a pyarrow RecordBatch or Table, not {type(rows).__name__}"
        assert caught.value.hint == (
            'datasets: .with_format("arrow"); Polars: .to_arrow(); pandas: pyarrow.Table.from_pandas'
        )
