"""verl: the files of the printed command through its own dataset classes."""

from __future__ import annotations

import shlex
from typing import Any

from . import Task
from .stand_ins import namespace, replace, stand_in

stand_in("ray", "tensordict", "omegaconf", "hydra", "codetiming", "torchdata", "wandb", "pylatexenc", "qwen_vl_utils")


def rows(task: Task) -> list[Any]:
    for package in ("verl", "verl.models", "verl.models.transformers"):
        namespace(package)
    replace("verl.models.transformers.qwen2_vl")
    from transformers import AutoTokenizer

    settings = dict(word.split("=", 1) for word in shlex.split(task["loader"].replace("\\\n", " ")) if "=" in word)
    files = settings["data.train_files"].strip("[]").split(",")
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    if "data.messages_key" in settings:
        from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

        config = {"pad_mode": "no_padding", "max_length": 4096, "messages_key": settings["data.messages_key"]}
        return [[masked(row)] for row in MultiTurnSFTDataset(files, tokenizer, config)]
    from verl.utils.dataset.rl_dataset import RLHFDataset

    dataset = RLHFDataset(files, tokenizer, {"prompt_key": settings["data.prompt_key"], "cache_dir": task["folder"]})
    rows = [dataset[index] for index in range(len(dataset))]
    if "data_source" in rows[0]:  # what a reward function gets
        assert all(row["reward_model"]["ground_truth"] in ("4", "7") for row in rows)
    texts = [row["raw_prompt"] for row in rows]
    ids = [tokenizer.apply_chat_template(text, add_generation_prompt=True, return_dict=False) for text in texts]
    return [[{"ids": one, "trained": None}] for one in ids]


def masked(row: Any) -> dict[str, Any]:
    return {"ids": row["input_ids"].tolist(), "trained": list(map(bool, row["loss_mask"].tolist()))}
