"""Axolotl: the printed configuration through its own check, then its preparation of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import Sequence, Task
from .stand_ins import stand_in

stand_in("posthog", "numba", "addict", "colorama", "aiohttp", "modelscope")

STILL = {"shuffle_merged_datasets": False, "dataset_num_proc": 1}
"""Rows in their order, to compare them."""


def rows(task: Task) -> list[Any]:
    import yaml
    from axolotl.utils.config import normalize_config, validate_config
    from axolotl.utils.data.rl import prepare_preference_datasets
    from axolotl.utils.data.sft import prepare_datasets
    from axolotl.utils.dict import DictDefault
    from transformers import AutoTokenizer

    config = yaml.safe_load(task["loader"])
    prepared = str(Path(task["folder"] + "-prepared"))
    config = validate_config(DictDefault({**config, **STILL, "dataset_prepared_path": prepared}))
    normalize_config(config)
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    if config.rl == "kto":
        return by_trl(list(prepare_preference_datasets(config, tokenizer)[0]), task)
    if config.rl:
        return [preferred(row, tokenizer) for row in prepare_preference_datasets(config, tokenizer)[0]]
    return [[labelled(row)] for row in prepare_datasets(config, tokenizer)[0]]


def by_trl(dataset: list[Any], task: Task) -> list[Any]:
    """The rows as Axolotl's KTOTrainer prepares them: it is TRL's in this."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    from .trl import kto

    arguments = KTOConfig(task["folder"] + "-kto", use_cpu=True, max_length=None)
    trainer = KTOTrainer(task["model"], args=arguments, train_dataset=Dataset.from_list(dataset))
    return kto(trainer, [trainer.train_dataset[index] for index in range(len(trainer.train_dataset))])


def labelled(row: dict[str, Any]) -> Sequence:
    return {"ids": list(row["input_ids"]), "trained": [label != -100 for label in row["labels"]]}


def preferred(row: dict[str, Any], tokenizer: Any) -> list[Any]:
    """The texts as Axolotl's DPOTrainer tokenizes them, which is TRL's but for a second BOS: it appends EOS."""
    from axolotl.utils.data.utils import remove_double_bos_token

    def encode(text: str) -> list[int]:
        return list(remove_double_bos_token(dict(tokenizer(text)), tokenizer.bos_token_id)["input_ids"])

    names = ("chosen", "rejected") if "chosen" in row else ("completion",)
    found = []
    for name in names:
        prompt = encode(row["prompt"])
        end = "" if row[name].endswith(tokenizer.eos_token) else tokenizer.eos_token
        whole = encode(row["prompt"] + row[name] + end)
        found.append({"ids": whole, "trained": [index >= len(prompt) for index in range(len(whole))]})
    return [{**sequence, "label": row["label"]} for sequence in found] if "label" in row else found
