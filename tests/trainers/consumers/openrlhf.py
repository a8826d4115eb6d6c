"""OpenRLHF: the printed options through its own dataset classes, with the collator's loss mask."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

from . import Task
from .stand_ins import stand_in

stand_in(
    "ray", "pylatexenc", "deepspeed", "flash_attn", "vllm", "einops", "optree", "torchdata", "peft", "bitsandbytes"
)


def rows(task: Task) -> list[Any]:
    from openrlhf.datasets import PromptDataset, RewardDataset, SFTDataset
    from openrlhf.datasets.utils import blending_datasets
    from transformers import AutoTokenizer

    words = shlex.split(task["loader"].replace("\\\n", " "))
    options = {"chosen_key": "chosen", "rejected_key": "rejected", "input_key": "input"}
    for index, word in enumerate(words):
        if word.startswith("--data."):
            is_flag = index + 1 == len(words) or words[index + 1].startswith("--")
            options[word.removeprefix("--data.")] = True if is_flag else words[index + 1]
    strategy = SimpleNamespace(
        args=SimpleNamespace(data=SimpleNamespace(**options)), print=print, is_rank_0=lambda: True
    )
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    data = blending_datasets(options.get("dataset") or options["prompt_dataset"], strategy=strategy)
    if "train_sft" in task["loader"]:
        dataset = SFTDataset(data, tokenizer, 2048, strategy, num_processors=1, multiturn="multiturn" in options)
        return [[shifted(*row)] for row in dataset]
    if "train_dpo" in task["loader"]:
        return [pair(*row) for row in RewardDataset(data, tokenizer, 2048, strategy, is_dpo=True, num_processors=1)]
    prompts = [row[1] for row in PromptDataset(data, tokenizer, strategy)]
    return [[{"ids": tokenizer(text, add_special_tokens=False)["input_ids"], "trained": None}] for text in prompts]


def shifted(ids: Any, attention: Any, mask: Any) -> dict[str, Any]:
    """The mask is that of the logits: it says for each token whether the next one is trained."""
    return {"ids": ids[0].tolist(), "trained": [False, *map(bool, mask[0].tolist()[:-1])]}


def pair(chosen: Any, _: Any, rejected: Any, __: Any, prompt_length: int) -> list[Any]:
    found = [ids[0].tolist() for ids in (chosen, rejected)]
    return [{"ids": ids, "trained": [index >= prompt_length for index in range(len(ids))]} for ids in found]
