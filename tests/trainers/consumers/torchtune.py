"""torchtune: the component that the printed configuration names, with a tokenizer that only passes messages on."""

from __future__ import annotations

from typing import Any

from . import Task
from .stand_ins import stand_in

stand_in("torchao", "blobfile", "tiktoken", "sentencepiece", "kagglehub", "omegaconf")


class Tokenizer:
    """Stands for a model's tokenizer: keeps the messages beside the keys that torchtune demands."""

    def __call__(self, sample: dict[str, Any], inference: bool = False) -> dict[str, Any]:
        return {"tokens": [0], "mask": [False], "messages": sample["messages"]}

    def tokenize_messages(self, messages: Any, **options: Any) -> tuple[list[int], list[bool]]:
        self.seen = messages
        return [0], [False]


def rows(task: Task) -> list[Any]:
    import torchtune.datasets
    import yaml

    config = yaml.safe_load(task["loader"])["dataset"]
    component = getattr(torchtune.datasets, config.pop("_component_").rsplit(".", 1)[1])
    dataset = component(tokenizer=Tokenizer(), **config)
    if "preference" not in component.__name__:
        return [{"messages": list(map(plain, row["messages"]))} for row in dataset]
    found = [dataset._message_transform(row) for row in dataset._data]
    return [{name: list(map(plain, row[name])) for name in ("chosen", "rejected")} for row in found]


def plain(message: Any) -> dict[str, Any]:
    """A Message as a turn; only answers are trained."""
    assert message.masked == (message.role != "assistant")
    return {"role": message.role, "content": message.text_content}
