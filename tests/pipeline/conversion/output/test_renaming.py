"""`--rename` names the columns of the output, wherever they are written and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt
from chatfmt.cli import main

from ....conftest import from_lines, write_rows

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
ROWS = [{"messages": TURNS, "tools": TOOLS, "id": 1, "kind": "x"}, {"messages": TURNS, "id": 2}]
WRITTEN = [{"conversations": TURNS, "tools": TOOLS, "uid": 1, "kind": "x"}, {"conversations": TURNS, "uid": 2}]
RENAME = ["--rename", "messages=conversations", "--keep", "all", "--rename", "id=uid"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("in.jsonl"), ROWS)


def convert(*flags: str, source: str = "in.jsonl") -> int:
    return main(["convert", source, *flags, "-q", "--executor", "serial"])


def lines(path: str) -> list[Any]:
    return [json.loads(line) for name in sorted(Path().glob(path)) for line in name.read_text().splitlines()]


@pytest.mark.parametrize("flags", [[], ["--shuffle", "--dedup-by", "id", "--seed", "2"]])
def test_every_output_has_the_new_names(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(*RENAME, *flags, "-o", "out", "--format", "jsonl") == 0
    assert sorted(lines("out/data/*"), key=lambda row: row["uid"]) == WRITTEN
    assert convert(*RENAME, *flags, "-o", "parquet") == 0
    (shard,) = Path("parquet/data").iterdir()
    assert pq.read_schema(shard).names == ["conversations", "tools", "uid", "kind"]
    for folder in ("out", "parquet"):
        card = Path(folder, "README.md").read_text()
        assert '- name: "conversations"' in card and '- name: "uid"' in card and '- name: "messages"' not in card
        assert main(["verify", folder]) == 0
        capsys.readouterr()
        assert convert("--keep", "uid", source=folder) == 0
        read = from_lines(capsys.readouterr().out)
        assert sorted((row["uid"], row["messages"]) for row in read) == [(1, TURNS), (2, TURNS)]


def test_python_and_recipes_rename_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text("source: in.jsonl\ntemplate: chatml\ndrop: [tools]\nrename: {text: prompt_text}\n")
    assert convert(source="r.yaml") == 0
    assert [list(json.loads(line)) for line in capsys.readouterr().out.splitlines()] == [["prompt_text"]] * 2
    recipe = chatfmt.Recipe(source="none", template="chatml", rename={"text": "prompt_text"})
    batch = chatfmt.Converter(recipe)(pa.RecordBatch.from_pylist([{"messages": TURNS}]))
    assert batch.schema.names == ["prompt_text"]
    assert main(["preview", "r.yaml"]) == 0
    assert "prompt_text" in capsys.readouterr().out


def test_names_can_change_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert("--keep", "id", "--rename", "messages=id", "--rename", "id=messages", "--drop", "tools") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["messages"] == 1


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (["--rename", "mesages=x"], "in.jsonl: unknown column `mesages`", "did you mean `messages`?"),
        (["--rename", "messages=id", "--keep", "id"], "in.jsonl: `--rename` gives the name `id` to two columns",
         "choose another name for one"),
        (["--rename", "messages=x", "--rename", "id=x", "--keep", "all"],
         "in.jsonl: `--rename` gives the name `x` to two columns", "choose another name for one"),
        (["--rename", "messages="], "in.jsonl: `--rename messages=`: a column cannot have that name", "choose another"),
        (["--rename", "messages=#row"], "in.jsonl: `--rename messages=#row`: a column cannot have that name",
         "choose another"),
        (["--rename", "messages=x", "--for", "trl-sft"],
         "in.jsonl: `--for trl-sft` reads the column `messages` under that name", "leave out --rename, or --for"),
        (["--rename", "messages"], "`--rename messages` is not of the form NAME=VALUE", "--rename NAME=VALUE"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_given_is_refused(
    flags: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(*flags, "-o", "out") == 2
    assert capsys.readouterr().err == f"error: {message}\nhint: {hint}\n"
    assert sorted(path.name for path in Path().iterdir()) == ["in.jsonl"]


def test_a_column_that_only_later_rows_have_can_collide(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"messages": TURNS}] * 1500 + [{"messages": TURNS, "late": 1}]
    write_rows(Path("in.jsonl"), rows)
    assert convert("--rename", "messages=late", "--keep", "all", "-o", "out.jsonl") == 2
    assert capsys.readouterr().err.startswith("error: `--rename` gives the name `late` to two columns\n")
    assert sorted(path.name for path in Path().iterdir()) == ["in.jsonl"]


def test_the_loader_refuses_a_column_that_the_trainer_does_not_find(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert("--rename", "messages=turns", "--drop", "tools", "-o", "out") == 0
    assert main(["loader", "out", "--for", "trl-sft"]) == 2
    assert capsys.readouterr().err == (
        "error: `out` does not fit trl-sft: its column `messages` is named `turns`\n"
        "hint: chatfmt convert in.jsonl --drop tools --for trl-sft -o out --overwrite\n"
    )
