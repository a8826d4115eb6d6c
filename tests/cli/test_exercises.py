"""The two exercises of the README, over HTTP, their output opened with `load_dataset`."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from ..conftest import ROOT, read_rows, run_cli
from ..hub_data import GSM8K, SMOLTALK, gsm8k, gsm8k_rows, smoltalk, smoltalk_rows
from ..stand_in_hub import StandInHub

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEMPLATE = "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{{ eos_token }}{% endfor %}"
SMOLTALK_COMMAND = "HuggingFaceTB/smoltalk --name everyday-conversations --split all -t chatml -o smoltalk-chatml/"
GSM8K_COMMAND = "openai/gsm8k --name main --split all -t chatml -o gsm8k-chatml/"


@pytest.fixture(scope="module")
def hub() -> Iterator[StandInHub]:
    with StandInHub() as hub:
        hub.commit(f"datasets/{SMOLTALK}", smoltalk())
        hub.commit(f"datasets/{GSM8K}", gsm8k())
        config = {"tokenizer_class": "GPT2Tokenizer", "chat_template": TEMPLATE, "eos_token": "<|im_end|>"}
        hub.commit(f"models/{MODEL}", {"tokenizer_config.json": json.dumps(config).encode()})
        hub.aliases["datasets/gsm8k"] = f"datasets/{GSM8K}"
        yield hub
        assert hub.unknown == []


def convert(hub: StandInHub, tmp_path: Path, command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= hub.env(tmp_path / "home")
    run = run_cli("convert", *shlex.split(command), cwd=tmp_path, env=environment)
    assert (run.returncode, run.stdout) == (0, b""), run.stderr.decode()
    return run.stderr.decode()


def chatml(messages: list[dict[str, str]]) -> str:
    return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)


def load(folder: Path, cache: Path) -> datasets.DatasetDict:
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def test_the_readme_shows_these_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"chatfmt convert {SMOLTALK_COMMAND}" in readme
    assert f"chatfmt convert {GSM8K_COMMAND}" in readme


def test_smoltalk(hub, tmp_path):
    said = convert(hub, tmp_path, SMOLTALK_COMMAND)
    assert said.splitlines()[-1].startswith("wrote 6 rows (train 3, test 3) to `smoltalk-chatml`")
    loaded = load(tmp_path / "smoltalk-chatml", tmp_path / "cache")
    for split in ("train", "test"):
        rows = smoltalk_rows("everyday-conversations", split, 0)
        assert loaded[split].to_list() == [{"text": chatml(row["messages"])} for row in rows]


def test_gsm8k(hub, tmp_path):
    convert(hub, tmp_path, GSM8K_COMMAND)
    loaded = load(tmp_path / "gsm8k-chatml", tmp_path / "cache")
    for split in ("train", "test"):
        expected = [
            {
                "text": chatml(
                    [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
                )
            }
            for row in gsm8k_rows("main", split)
        ]
        assert expected and loaded[split].to_list() == expected


def test_a_models_own_template(hub, tmp_path):
    convert(hub, tmp_path, f"{SMOLTALK} --name everyday-conversations -t {MODEL} -o out.jsonl")
    rows = read_rows(tmp_path / "out.jsonl")
    assert rows == [
        {"text": "".join(f"[{turn['role']}]{turn['content']}<|im_end|>" for turn in row["messages"])}
        for row in smoltalk_rows("everyday-conversations", "train", 0)
    ]


def test_the_recipes_give_the_same_output(hub, tmp_path):
    convert(hub, tmp_path, "gsm8k --split all -t chatml -o recipe.jsonl")
    convert(hub, tmp_path, f"{GSM8K} --name main --split all -t chatml -o id.jsonl")
    assert (tmp_path / "recipe.jsonl").read_bytes() == (tmp_path / "id.jsonl").read_bytes()
    convert(hub, tmp_path, "smoltalk --split test --keep source -t chatml -o smoltalk.jsonl")
    rows = read_rows(tmp_path / "smoltalk.jsonl")
    assert [list(row) for row in rows] == [["text", "source"]] * 3


def test_only_the_files_of_the_split_are_fetched(hub, tmp_path):
    hub.calls.clear()
    convert(hub, tmp_path, f"{SMOLTALK} --name numina-cot-100k --split test -t chatml -o out.jsonl")
    assert [path for path in hub.fetched() if path.endswith(".parquet")] == [
        "data/numina-cot-100k/test-00000-of-00001.parquet"
    ]


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        (f"{SMOLTALK} -t chatml", 2, "error: "),
        (f"{SMOLTALK} --name everyday -t chatml", 2, "error: unknown subset `everyday`"),
        (f"{GSM8K} --name main --split valid -t chatml", 2, "error: unknown split `valid`"),
        ("nobody/nothing -t chatml", 3, "error: "),
    ],
)
def test_errors_of_the_hub(hub, tmp_path, command, code, error):
    environment = hub.env(tmp_path / "home")
    run = run_cli("convert", *shlex.split(command), cwd=tmp_path, env=environment)
    assert (run.returncode, run.stdout) == (code, b"")
    lines = run.stderr.decode().splitlines()
    assert lines[-2].startswith(error) and lines[-1].startswith("hint: ") and len(lines) == 2, lines
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["home"])
