"""Workers that started in another folder, or that see other files, read what the user named, or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

import chatfmt
from chatfmt.errors import InputError
from chatfmt.executors import EXECUTORS, Executor, serial
from chatfmt.recipe import Recipe

from ..conftest import write_rows
from ..stand_in_servers import FileServer

TEXT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"


def write(path: Path, content: str) -> None:
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "yo"}]
    write_rows(path, [{"messages": turns}])


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """A folder with `in.jsonl`, in which the command is typed; workers start in one with another `in.jsonl`."""
    for folder, content in (("typed", "mine"), ("elsewhere", "not!")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "in.jsonl", content)
    monkeypatch.chdir(tmp_path / "typed")
    before_task = []

    def elsewhere(fn, tasks, workers, on_position=None):
        def run(task):
            here = Path.cwd()
            os.chdir(tmp_path / "elsewhere")
            try:
                for change in before_task:
                    task = change(task)
                return fn(task)
            finally:
                os.chdir(here)

        return serial(run, tasks, workers)

    monkeypatch.setitem(EXECUTORS, "elsewhere", Executor(elsewhere, "elsewhere"))
    return before_task


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet", "out"])
def test_relative_paths_are_those_of_the_folder_where_they_are_typed(typed, out):
    chatfmt.convert(Recipe(source="in.jsonl", template="chatml"), out=Path(out), executor="elsewhere", workers=1)
    from datasets import load_dataset

    kind = "json" if out == "out.jsonl" else "parquet"
    files = [str(path) for path in (Path(out).rglob("*.parquet") if out == "out" else [Path(out)])]
    assert load_dataset(kind, data_files=files, split="train")["text"][:] == [TEXT.format("mine")]


def write_tokenizer(path: Path, **words: int) -> None:
    """Write a tokenizer of whole words."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, **words}, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def test_a_tokenizer_is_that_of_the_folder_where_it_is_typed(typed, tmp_path):
    write_tokenizer(tmp_path / "typed/tokens.json", mine=7)
    write_tokenizer(tmp_path / "elsewhere/tokens.json", mine=8)
    recipe = Recipe(source="in.jsonl", template="chatml", to="tokens", tokenizer="tokens.json")
    chatfmt.convert(recipe, out=Path("out.jsonl"), executor="elsewhere", workers=1)
    assert 7 in json.loads(Path("out.jsonl").read_text())["input_ids"]

    def other_machine(task):
        place = str(tmp_path / "elsewhere" / "tokens.json")
        return replace(task, job=replace(task.job, key="there", tokenizer=place))

    typed.append(other_machine)
    with pytest.raises(InputError) as caught:
        chatfmt.convert(recipe, out=Path("out"), executor="elsewhere", workers=1)
    assert str(caught.value) == f"{tmp_path}/elsewhere/tokens.json: another tokenizer than the one that was planned"


def test_a_worker_that_sees_another_file_at_the_path_reads_no_row_of_it(typed, tmp_path):
    def other_machine(task):
        splits = [replace(split, uri=str(tmp_path / "elsewhere" / "in.jsonl")) for split in task.inputs]
        return replace(task, inputs=tuple(splits))

    typed.append(other_machine)
    with pytest.raises(InputError) as caught:
        chatfmt.convert(Recipe(source="in.jsonl", template="chatml"), out=Path("out"), executor="elsewhere", workers=1)
    assert str(caught.value) == "in.jsonl: another file than the one that was planned"
    assert caught.value.hint == (
        f"`{tmp_path}/elsewhere/in.jsonl` has to be the same file during the whole run, and on every machine"
    )
    write(tmp_path / "elsewhere" / "in.jsonl", "mine")  # a copy of the file is as good
    chatfmt.convert(Recipe(source="in.jsonl", template="chatml"), out=Path("out"), executor="elsewhere", workers=1)


def test_a_file_without_versions_that_is_swapped_between_tasks_is_read_once_elsewhere(typed, tmp_path):
    """Another machine does not have the folder in which this one keeps what it has fetched."""
    for name, content in (("in.jsonl", "mine"), ("other.jsonl", "not!")):
        write(tmp_path / name, content)
        (tmp_path / name).write_text((tmp_path / name).read_text() * 9)
    with FileServer(tmp_path) as server:

        def other_machine(task):
            if typed[1:]:
                (tmp_path / "other.jsonl").replace(tmp_path / "in.jsonl")
                typed.pop()
            else:
                typed.append(lambda task: task)
            splits = [replace(split, uri=f"{server.url}/in.jsonl") for split in task.inputs]
            return replace(task, inputs=tuple(splits))

        typed.append(other_machine)
        recipe = Recipe(source=f"{server.url}/in.jsonl", template="chatml", rows_per_shard=6)
        chatfmt.convert(recipe, out=Path("out.jsonl"), executor="elsewhere", workers=1)
    assert not (tmp_path / "other.jsonl").exists()
    assert [json.loads(line)["text"] for line in Path("out.jsonl").read_text().splitlines()] == [
        TEXT.format("mine")
    ] * 9
