"""open-instruct is on no package index: this is what its code of commit e6c3044 does with the printed files.

Source: open_instruct/dataset_transformation.py, `DatasetConfig`, `_tokenize_tulu_sft_with_assistant_labels` and
`rlvr_tokenize_v3`.
"""

from __future__ import annotations

import shlex
from typing import Any

from . import Task


def rows(task: Task) -> list[Any]:
    from datasets import load_dataset
    from transformers import AutoTokenizer

    words = shlex.split(task["loader"].replace("\\\n", " "))
    start = next(index for index, word in enumerate(words) if word.endswith("mixer_list")) + 1
    files = [word for word in words[start:] if word.endswith((".parquet", ".jsonl"))]
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    found = []
    for path in files:
        for row in load_dataset("parquet" if path.endswith("parquet") else "json", data_files=path, split="train"):
            if "ground_truth" in row:
                found.append([prompt(row, tokenizer)])
                continue
            names = ("chosen", "rejected") if "chosen" in row else ("messages",)
            last_only = names[0] == "chosen"
            tools = None if last_only else row.get("tools")  # `preference_tulu_tokenize_and_truncate_v1_2` has none
            found.append([tokens(row[name], tools, tokenizer, last_only) for name in names])
    return found


def prompt(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The prompt as `rlvr_tokenize_v3` makes it, beside the ground truth of the verifier that `dataset` names."""
    assert isinstance(row["ground_truth"], str) and isinstance(row["dataset"], str)
    turns = row["messages"]
    turns = turns[:-1] if len(turns) > 1 and turns[-1]["role"] == "assistant" else turns
    return {"ids": tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False), "trained": None}


def tokens(messages: list[Any], tools: Any, tokenizer: Any, last_only: bool) -> dict[str, Any]:
    """Trained is what an answer adds to the text of the turns before it with the generation prompt."""

    def text(end: int, prompt: bool = False) -> str:
        whole = tokenizer.apply_chat_template(messages[:end], tools=tools, tokenize=False, add_generation_prompt=prompt)
        return str(whole)

    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    spans = [(len(text(at, True)), len(text(at + 1))) for at in answers[-1 if last_only else 0 :]]
    if any(text(at + 1) != text(len(messages))[:end] for at, (_, end) in zip(answers[-len(spans) :], spans)):
        raise ValueError("the template renders an answer otherwise once turns follow, so that labels are guessed")
    encoded = tokenizer(text(len(messages)), add_special_tokens=False, return_offsets_mapping=True)
    trained = [any(a < end and start < b for start, end in spans) for a, b in encoded["offset_mapping"]]
    return {"ids": encoded["input_ids"], "trained": trained}
