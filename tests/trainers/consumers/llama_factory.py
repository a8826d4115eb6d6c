"""LLaMA-Factory: the printed configuration through its own loader and converter, as conversations."""

from __future__ import annotations

import json
import os
from typing import Any

from . import Task
from .stand_ins import stand_in

stand_in("torchaudio", "av", "librosa", "fire", "omegaconf", "einops", "tyro", "gradio", "matplotlib")


def rows(task: Task) -> list[Any]:
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    import yaml
    from llamafactory.data.loader import _get_merged_dataset
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import TrainingArguments

    config = yaml.safe_load(task["loader"])
    data = DataArguments(dataset=config["dataset"], dataset_dir=config["dataset_dir"], template=config["template"])
    model = ModelArguments(model_name_or_path=config["model_name_or_path"])
    training = TrainingArguments(output_dir=config["output_dir"], use_cpu=True)
    stage = {"dpo": "rm"}.get(config["stage"], config["stage"])
    dataset = _get_merged_dataset(data.dataset, model, data, training, stage)
    return [converted(row) for row in dataset]


def converted(row: dict[str, Any]) -> dict[str, Any]:
    """A row of LLaMA-Factory's standard format as whole conversations."""
    system = [{"role": "system", "content": row["_system"]}] if row["_system"] else []
    wholes = [[*system, *map(turn, [*row["_prompt"], answer])] for answer in row["_response"]]
    tools = {"tools": json.loads(row["_tools"])} if row["_tools"] else {}
    tools |= {"images": len(row["_images"])} if row["_images"] else {}
    if len(wholes) == 1:
        return {"messages": wholes[0], **tools}
    good, bad = wholes
    if "" in (good[-1]["content"], bad[-1]["content"]):  # of KTO: the answer that there is not is empty
        return {"messages": good if good[-1]["content"] else bad, "label": bool(good[-1]["content"])}
    return {"chosen": good, "rejected": bad}


def without_id(call: dict[str, Any]) -> dict[str, Any]:
    """A call without its id, which LLaMA-Factory does not read."""
    return {key: value for key, value in call.items() if key != "id"}


def turn(message: dict[str, Any]) -> dict[str, Any]:
    """A turn with its calls as objects."""
    if message["role"] == "function":
        found = json.loads(message["content"])
        calls = found if isinstance(found, list) else [found]
        return {"role": "assistant", "content": "", "calls": [without_id(call) for call in calls]}
    return {**message, "role": {"observation": "tool"}.get(message["role"], message["role"])}
