"""MLX LM: the printed configuration through its own loader; a row is its tokens and the length of its prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from . import Task
from .stand_ins import stand_in

stand_in("mlx", "sentencepiece")


def rows(task: Task) -> list[Any]:
    import yaml
    from mlx_lm.tuner.datasets import load_dataset
    from transformers import AutoTokenizer

    config = {"test": False, **yaml.safe_load(task["loader"])}
    train = load_dataset(SimpleNamespace(**config), AutoTokenizer.from_pretrained(task["model"]))[0]
    found = [train.process(train[index]) for index in range(len(train))]
    return [[{"ids": list(ids), "trained": [at >= start for at in range(len(ids))]}] for ids, start in found]
