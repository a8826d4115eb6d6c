"""NeMo RL is on no package index: this is what `OpenAIFormatDataset` of commit 7ea279a does with the printed files.

Source: nemo_rl/data/datasets/response_datasets/oai_format_dataset.py, with `use_preserving_dataset`.
"""

from __future__ import annotations

import json
from os.path import commonprefix
from pathlib import Path
from typing import Any

from . import Task


def rows(task: Task) -> list[Any]:
    import yaml

    data = yaml.safe_load(task["loader"])["data"]
    settings = data["default"]
    assert settings["dataset_name"] == "openai_format" and settings["use_preserving_dataset"]
    found = []
    for entry in data["train"]:
        with Path(entry["data_path"]).open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                messages = row[settings["chat_key"]]
                assert messages[-1]["role"] == "assistant"
                found.append({"messages": messages, "tools": row.get(settings["tool_key"])})
    return [[tokens(row, task, data["add_generation_prompt"])] for row in found]


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
