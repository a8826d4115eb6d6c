"""The dataset card, and `datasets.load_dataset` reading the folder."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pytest
import yaml

from chatfmt import json_columns, schema
from chatfmt.errors import UsageError
from chatfmt.features import list_of, media, with_feature
from chatfmt.manifest import Manifest, Shard
from chatfmt.writers import card, check_split, parquet_schema

from ..conftest import run_cli, succeed, write_rows
from .samples import SCHEMA, batch, convert

TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", json_columns.JSON)]))
SPANS = pa.list_(pa.list_(pa.int32()))
WIDE = pa.schema([
    ("messages", TURNS), ("tools", json_columns.JSON), ("label", pa.bool_()), ("assistant_spans", SPANS),
    ("labels", pa.list_(pa.bool_())), ("score", pa.float64()), ("n", pa.int8()), (schema.KEYS, pa.string()),
    ("parts", pa.list_(pa.struct([("content", pa.list_(json_columns.JSON))]))), ("day", pa.date32()),
    with_feature(pa.field("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
                 list_of(media("Image"))),
    with_feature(pa.field("kind", pa.int64()), {"names": ["a", "b"], "_type": "ClassLabel"}),
    ("time", pa.timestamp("us", "UTC")), ("big", pa.decimal128(5, 2)),
])  # fmt: skip
SHARDS = tuple(
    Shard(f"data/{split}-{place:05d}-of-00002.parquet", split, rows=3, bytes=10, arrow_bytes=16)
    for split in ("train", "test_sft") for place in range(2)
)  # fmt: skip
MANIFEST = Manifest(
    "f", SHARDS, sources=({"id": "HuggingFaceTB/smoltalk", "revision": "abc", "licence": "apache-2.0",
                         "languages": ["en", "fr"]},),
    template={"name": "chatml", "origin": "built-in", "sha256": "12" * 32}, chatfmt="0.1.0",
)  # fmt: skip


def front(text: str) -> dict[str, object]:
    assert text.startswith("---\n")
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_whole_card() -> None:
    assert (
        card(MANIFEST, pa.schema([("text", pa.string())]), training="Use a trainer.\n")
        == """\
---
license: "apache-2.0"
language:
- "en"
- "fr"
task_categories:
- "text-generation"
tags:
- "chatfmt"
- "chatml"
size_categories:
- "n<1K"
configs:
- config_name: "default"
  description: "files with sha256 e3b0c44298fc1c14"
  data_files:
  - split: "train"
    path: "data/train-*.parquet"
  - split: "test_sft"
    path: "data/test_sft-*.parquet"
dataset_info:
  features:
  - name: "text"
    dtype: "string"
  splits:
  - name: "train"
    num_bytes: 32
    num_examples: 6
  - name: "test_sft"
    num_bytes: 32
    num_examples: 6
  download_size: 40
  dataset_size: 64
---

# Converted by chatfmt

12 rows, made by chatfmt 0.1.0.

## How it was made

- from `HuggingFaceTB/smoltalk` at revision `abc`, licence apache-2.0
- chat template `chatml` (sha256 `1212121212121212…`)
- chat template semantics of transformers 5.23
- `chatfmt verify DIR` compares every byte with `.chatfmt/manifest.json`

## Train with it

Use a trainer.
"""
    )


def test_the_card_has_the_recipe_and_converts_to_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}], "n": 1}\n' * 3)
    flags = ("-t", "chatml", "--for", "trl-sft", "--where", "n > 0", "--seed", "4", "--shuffle", "--drop", "n")
    assert run_cli("convert", "in.jsonl", *flags, "--system", "a\n```", "-o", "out", cwd=tmp_path).returncode == 0
    made = (tmp_path / "out/README.md").read_text().partition("## How it was made")[2]
    recipe = made.partition("```yaml\n")[2].partition("\n```\n")[0]
    assert yaml.safe_load(recipe) == {
        "source": [{"source": "in.jsonl"}], "where": ["n > 0"], "drop": ["n"], "shuffle": True, "seed": 4,
        "transforms": {"system": "a\n```"}, "template": "chatml", "for": "trl-sft", "to": "text", "bos": "strip",
        "end": "strip",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert run_cli("convert", "recipe.yaml", "-o", "again", cwd=tmp_path).returncode == 0
    shard = "data/train-00000-of-00001.parquet"
    assert (tmp_path / "again" / shard).read_bytes() == (tmp_path / "out" / shard).read_bytes()


def test_the_card_has_no_credentials_and_says_stdin() -> None:
    recipe = {
        "source": [{"source": "-", "weight": 1.0}],
        "tokenizer": "https://me:secret@host/t.json",
        "var": {"x": []},
    }
    made = card(Manifest("f", SHARDS, recipe=recipe, sources=({"id": "-"},), chatfmt="0.1.0"))
    assert "- from stdin\n" in made and "secret" not in made
    assert yaml.safe_load(made.partition("```yaml\n")[2].partition("```")[0])["tokenizer"] == "https://…@host/t.json"


@pytest.mark.parametrize(
    ("licences", "about", "licence", "languages"),
    [
        (["mit", None], {}, None, None),
        ([None], {"licence": "CC-BY-SA-4.0", "languages": ["en"]}, "cc-by-sa-4.0", ["en"]),
        ([None], {"licence": "none stated"}, None, None),
        (["mit"], {"licence": "Apache-2.0"}, "mit", ["de"]),
        (["mit, apache-2.0", "mit"], {}, ["mit", "apache-2.0"], ["de"]),
        (["MIT License"], {}, None, ["de"]),
        ([], {"licence": "MIT"}, None, None),
    ],
)
def test_the_licence_and_language_are_those_that_all_sources_state(
    licences: list[str | None], about: dict[str, object], licence: object, languages: object
) -> None:
    stated = [{"id": "x", "licence": one, "languages": ["de", "German"] if one else []} for one in licences]
    found = front(card(Manifest("f", SHARDS, sources=tuple(stated), recipe={"about": about})))
    assert (found.get("license"), found.get("language")) == (licence, languages)


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**12 - 1, "100B<n<1T"), (10**12, "n>1T")],
)
def test_the_size_category(rows: int, category: str) -> None:
    found = front(card(Manifest("f", (Shard("data/train-00000-of-00001.parquet", rows=rows),))))
    assert found["size_categories"] == [category]


def test_paths_and_texts_of_templates_are_no_tags() -> None:
    for template in ({"name": "/home/me/x.jinja", "origin": "file"}, {"name": "a {user_message}", "origin": "plain"}):
        assert front(card(Manifest("f", SHARDS, template=template)))["tags"] == ["chatfmt"]
    hub = {"name": "acme/model", "origin": "hub"}
    assert front(card(Manifest("f", SHARDS, template=hub)))["tags"] == ["chatfmt", "acme/model"]


@pytest.mark.parametrize(("kind", "task"), [("Image", "image-text-to-text"), ("Audio", "audio-text-to-text")])
def test_media_decide_the_task(kind: str, task: str) -> None:
    column = pa.field("media", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    text = card(MANIFEST, pa.schema([with_feature(column, list_of(media(kind)))]))
    assert front(text)["task_categories"] == [task]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_the_hub_and_datasets_read_the_same_from_the_card(format: str, tmp_path: Path) -> None:
    source = Path("tests/data/everyday.jsonl").resolve()
    for more in ((), ("-t", "chatml"), ("-t", "chatml", "--shuffle")):
        out = tmp_path / f"out{len(more)}"
        succeed(run_cli("convert", source, *more, "-o", out, "--format", format))
        found = huggingface_hub.DatasetCard.load(out / "README.md")
        assert (found.data.task_categories, found.data.size_categories) == (["text-generation"], ["n<1K"])
        assert found.data.tags == ["chatfmt", *more[1:2]]
        info = found.data.to_dict()["dataset_info"]
        loaded = load(out)["train"]
        assert info["download_size"] == sum(file.stat().st_size for file in (out / "data").iterdir())
        assert info["dataset_size"] == info["splits"][0]["num_bytes"]
        assert info["dataset_size"] == pytest.approx(loaded.data.nbytes, rel=0.02)


def test_untrusted_names_cannot_break_out_of_their_line() -> None:
    nasty = "x`\n---\n# <script>*a*"
    manifest = Manifest("f", SHARDS[:1], sources=({"id": nasty, "revision": nasty},), template={"name": nasty})
    text = card(manifest)
    assert text.count("---\n") == 2
    assert "<" not in text.replace("n<1K", "")
    assert "\n# <" not in text
    assert front(text)["configs"]


@pytest.mark.parametrize("name", ["train", "test_sft", "a.b", "2024"])
def test_split_names_that_datasets_accepts(name: str) -> None:
    check_split(name)


def test_split_names_that_datasets_rejects() -> None:
    with pytest.raises(UsageError) as caught:
        check_split("train-sft")
    assert caught.value.hint == "--split train_sft"
    assert caught.value.message.startswith("the split name `train-sft` cannot be opened by `load_dataset`")


def test_the_card_names_the_source_and_its_licence_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("---\nlicense: mit\n---\n# data\n")
    (tmp_path / "data" / "train.jsonl").write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    succeed(run_cli("convert", "data", "-t", "chatml", "-o", "out", cwd=tmp_path))
    card = (tmp_path / "out" / "README.md").read_text()
    assert [line for line in card.splitlines() if line.startswith("- from ")] == ["- from `data`, licence mit"]


def load(folder: Path) -> datasets.DatasetDict:
    return datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))


def expected() -> dict[str, list[dict[str, object]]]:
    rows = [
        [{**row, "tools": row["tools"] and json.loads(row["tools"])} for row in batch(number * 8).to_pylist()]
        for number in range(5)
    ]
    return {"train": rows[0] + rows[1] + rows[2] + rows[3], "test": rows[4]}


def test_load_dataset_gives_the_same_rows_and_splits(tmp_path: Path) -> None:
    convert(tmp_path / "out", format="parquet")
    loaded = load(tmp_path / "out")
    assert {split: rows.to_list() for split, rows in loaded.items()} == expected()
    assert list(loaded) == ["train", "test"]
    assert loaded["train"].features.to_dict() == {
        "text": {"dtype": "string", "_type": "Value"}, "tools": {"_type": "Json"},
        "n": {"dtype": "int64", "_type": "Value"},
    }  # fmt: skip


def test_load_dataset_reads_a_folder_again_that_was_overwritten(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write_rows(tmp_path / "in.jsonl", [{"text": text}])
        succeed(run_cli("convert", "in.jsonl", "-o", "out", "--format", "jsonl", "--overwrite", cwd=tmp_path))
        assert load(tmp_path / "out")["train"].to_list() == [{"text": text}]


def test_load_dataset_detects_a_missing_shard(tmp_path: Path) -> None:
    convert(tmp_path / "out", format="parquet")
    next((tmp_path / "out/data").glob("train-*")).unlink()
    with pytest.raises(datasets.exceptions.NonMatchingSplitsSizesError, match="num_examples=24"):
        load(tmp_path / "out")


def test_features_have_the_syntax_of_datasets() -> None:
    info = front(card(MANIFEST, WIDE))["dataset_info"]
    assert isinstance(info, dict)
    assert info["features"] == datasets.Features.from_arrow_schema(parquet_schema(WIDE))._to_yaml_list()


def test_features_are_omitted_if_a_type_is_unknown() -> None:
    assert "dataset_info" not in front(card(MANIFEST, pa.schema([("d", pa.month_day_nano_interval())])))
    assert "dataset_info" not in front(card(MANIFEST))
    assert SCHEMA.names == ["text", "tools", "n"]
