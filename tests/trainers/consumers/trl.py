"""TRL: the printed script, all but its last line; then the trainer's prepared rows through its own collator."""

from __future__ import annotations

from typing import Any

from . import Sequence, Task


def rows(task: Task) -> list[Any]:
    script = task["loader"]
    if "max_length" not in script:  # 1,024 tokens, which are of one byte here
        script = script.replace("SFTConfig(\n", "SFTConfig(max_length=None,\n")
    assert script.rstrip().endswith("trainer.train()")
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(script.rstrip().removesuffix("trainer.train()"), "script", "exec"), names)
    trainer = names["trainer"]
    dataset = [trainer.train_dataset[index] for index in range(len(trainer.train_dataset))]
    return READERS[task["trainer"]](trainer, dataset)


def sequence(ids: Any, real: Any, trained: Any = None) -> Sequence:
    """One row of a batch without its padding."""
    keep = [index for index, mark in enumerate(real.tolist()) if mark]
    flags = None if trained is None else [bool(trained.tolist()[index]) for index in keep]
    return {"ids": [ids.tolist()[index] for index in keep], "trained": flags}


def sft(trainer: Any, dataset: list[Any]) -> list[list[Sequence]]:
    batch = trainer.data_collator(dataset)
    marks = batch["labels"] != -100
    real = batch.get("attention_mask")
    real = batch["input_ids"] != trainer.processing_class.pad_token_id if real is None else real
    if (image := getattr(trainer.processing_class, "image_token_id", None)) is not None:
        again = (batch["input_ids"] == image) & (batch["input_ids"].roll(1) == image)
        real = real & ~again  # an image is one token in the template's text
    return [[sequence(*row)] for row in zip(batch["input_ids"], real, marks)]


def pairs(trainer: Any, dataset: list[Any]) -> list[list[Sequence]]:
    """A batch holds the chosen of all rows, then the rejected."""
    batch = trainer.data_collator(dataset)
    trained = batch.get("completion_mask", [None] * len(batch["input_ids"]))
    found = [sequence(*row) for row in zip(batch["input_ids"], batch["attention_mask"], trained)]
    return [[found[index], found[index + len(dataset)]] for index in range(len(dataset))]


def kto(trainer: Any, dataset: list[Any]) -> list[Any]:
    found = []
    for row in dataset:
        trained = [False] * len(row["prompt_ids"]) + [True] * len(row["completion_ids"])
        found.append([{"ids": row["prompt_ids"] + row["completion_ids"], "trained": trained, "label": row["label"]}])
    return found


def grpo(trainer: Any, dataset: list[Any]) -> list[list[Sequence]]:
    prompts = trainer._tokenize_prompts([row["prompt"] for row in dataset])[0]
    return [[{"ids": list(ids), "trained": None}] for ids in prompts]


READERS = {"trl-sft": sft, "trl-dpo": pairs, "trl-reward": pairs, "trl-kto": kto, "trl-grpo": grpo, "unsloth": sft}
