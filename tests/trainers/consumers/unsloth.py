"""Unsloth: the printed script with its own preparation of rows and labels; its models need a GPU, so none is loaded."""

from __future__ import annotations

import sys
import types
from typing import Any

from . import Task
from .stand_ins import namespace


def rows(task: Task) -> list[Any]:
    namespace("unsloth_zoo")  # its __init__ looks for a GPU
    import trl
    from transformers import AutoTokenizer
    from unsloth_zoo.dataset_utils import sft_prepare_dataset, train_on_responses_only

    class Model:
        """Stands for FastLanguageModel: no model, and the tokenizer as it is."""

        @staticmethod
        def from_pretrained(name: str, **_: Any) -> tuple[None, Any]:
            return None, AutoTokenizer.from_pretrained(name)

        @staticmethod
        def get_peft_model(model: None) -> None:
            return model

    class Trainer:
        """Prepares the rows as Unsloth's SFTTrainer does."""

        def __init__(self, model: None, processing_class: Any, args: Any, train_dataset: Any) -> None:
            self.processing_class, self.args, self.data_collator = processing_class, args, None
            prepared = sft_prepare_dataset(self, train_dataset, processing_class, args, False, None, "train")
            self.train_dataset, self.eval_dataset = prepared, None

        def train(self) -> None:
            pass

    for name, values in {
        "unsloth": {"FastLanguageModel": Model},
        "unsloth.chat_templates": {"train_on_responses_only": train_on_responses_only},
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(values)
    trl.SFTTrainer = Trainer
    script = task["loader"].replace("SFTConfig(", "SFTConfig(use_cpu=True, ")
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(script, "script", "exec"), names)
    return [[labelled(row)] for row in names["trainer"].train_dataset]


def labelled(row: dict[str, Any]) -> dict[str, Any]:
    if "completion_mask" in row:
        return {"ids": row["input_ids"], "trained": list(map(bool, row["completion_mask"]))}
    return {"ids": row["input_ids"], "trained": [label != -100 for label in row["labels"]]}
