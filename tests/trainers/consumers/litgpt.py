"""LitGPT: the file of the printed configuration through its own data module and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import Task
from .stand_ins import stand_in

stand_in("lightning", "lightning_utilities", "jsonargparse", "torchmetrics", "litdata", "sentencepiece")


def rows(task: Task) -> list[Any]:
    import yaml
    from litgpt import prompts
    from litgpt.data.base import SFTDataset
    from litgpt.data.json_data import load_split
    from litgpt.tokenizer import Tokenizer

    settings = yaml.safe_load(task["loader"])["data"]["init_args"]
    style = getattr(prompts, settings["prompt_style"]["class_path"].rsplit(".", 1)[1])()
    tokenizer = Tokenizer(Path(task["model"]))
    dataset = SFTDataset(load_split(Path(settings["json_path"])), tokenizer, style, mask_prompt=settings["mask_prompt"])
    return [[labelled(dataset[index])] for index in range(len(dataset))]


def labelled(row: dict[str, Any]) -> dict[str, Any]:
    return {"ids": row["input_ids"].tolist(), "trained": [label != -100 for label in row["labels"].tolist()]}
