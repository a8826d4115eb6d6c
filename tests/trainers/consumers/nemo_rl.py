"""NeMo RL is on no package index: this is what its datasets of commit 7ea279a do with the printed files.

Source: nemo_rl/data/datasets/response_datasets/oai_format_dataset.py, with `use_preserving_dataset`, and
response_dataset.py; preference_datasets/preference_dataset.py; nemo_rl/data/processors.py.
"""

from __future__ import annotations

import json
from os.path import commonprefix
from pathlib import Path
from typing import Any

from . import Task


def rows(task: Task) -> list[Any]:
    import yaml
    from datasets import load_dataset

    data = yaml.safe_load(task["loader"])["data"]
    settings = data["default"]
    if settings["dataset_name"] == "PreferenceDataset":
        return [pair(row, task) for row in load_dataset(**by_name(data["train"]))]
    if settings["dataset_name"] == "ResponseDataset":
        return [[question(row, settings, task)] for entry in data["train"] for row in lines(entry["data_path"])]
    assert settings["dataset_name"] == "openai_format" and settings["use_preserving_dataset"]
    found = []
    for row in (row for entry in data["train"] for row in lines(entry["data_path"])):
        messages = row[settings["chat_key"]]
        assert messages[-1]["role"] == "assistant"
        found.append({"messages": messages, "tools": row.get(settings["tool_key"])})
    return [[tokens(row, task, data["add_generation_prompt"])] for row in found]


def lines(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def by_name(entry: dict[str, str]) -> dict[str, str]:
    """The arguments of `load_dataset` for a dataset that is no file."""
    return {"path": entry["data_path"], "split": entry["split"]}


def pair(row: dict[str, Any], task: Task) -> list[Any]:
    """Both conversations as `preference_preprocessor` makes them: the roles of turns are their labels."""
    better, worse = sorted(row["completions"], key=lambda completion: completion["rank"])
    wholes = [[*row["context"], *completion["completion"]] for completion in (better, worse)]
    found = [tokens({"messages": turns, "tools": None}, task, False) for turns in wholes]
    return [{**one, "trained": None} for one in found]


def question(row: dict[str, Any], settings: dict[str, str], task: Task) -> dict[str, Any]:
    """The prompt as `math_hf_data_processor` makes it, beside the ground truth."""
    from transformers import AutoTokenizer

    assert isinstance(row[settings["output_key"]], str)
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    turns = [{"role": "user", "content": row[settings["input_key"]]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return {"ids": tokenizer(text, add_special_tokens=False)["input_ids"], "trained": None}


def tokens(row: dict[str, Any], task: Task, prompts: bool) -> dict[str, Any]:
    """The tokens as `get_formatted_message_log` makes them: of each turn what it adds to the text before it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    before, ids, trained = "", [], []
    for end, turn in enumerate(row["messages"], 1):
        options = {"tools": row["tools"], "add_generation_prompt": prompts and turn["role"] in ("user", "tool")}
        text = tokenizer.apply_chat_template(row["messages"][:end], tokenize=False, **options)
        added = tokenizer(text[len(commonprefix([before, text])) :], add_special_tokens=False)["input_ids"]
        ids, trained, before = ids + added, trained + [turn["role"] == "assistant"] * len(added), text
    return {"ids": ids, "trained": trained}
