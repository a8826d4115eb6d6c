"""ms-swift: the dataset of the printed command through its own loader and preprocessor, as conversations."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from . import Task
from .stand_ins import stand_in

stand_in(
    "modelscope",
    "json_repair",
    "aiohttp",
    "dacite",
    "oss2",
    "nltk",
    "rouge",
    "jieba",
    "attrdict",
    "binpacking",
    "einops",
)


def rows(task: Task) -> list[Any]:
    import modelscope.hub.utils.utils as utils

    utils.get_cache_dir = lambda: str(Path(task["folder"]).parent / "modelscope")
    os.environ["USE_HF"] = "1"
    from swift.dataset import load_dataset

    words = shlex.split(task["loader"].replace("\\\n", " "))
    dataset = load_dataset(words[words.index("--dataset") + 1], use_hf=True)[0]
    return [converted({key: value for key, value in row.items() if value is not None}) for row in dataset]


def converted(row: dict[str, Any]) -> dict[str, Any]:
    """A row as whole conversations."""
    messages = list(map(turn, row["messages"]))
    found = {key: row[key] for key in ("label", "tools", "chat_template_kwargs") if key in row}
    if "rejected_response" not in row:
        return {"messages": messages, **found}
    worse = {"role": "assistant", "content": row["rejected_response"]}
    return {"chosen": messages, "rejected": [*messages[:-1], worse], **found}


def turn(message: dict[str, Any]) -> dict[str, Any]:
    """A turn with its call as an object."""
    if message["role"] == "tool_call":
        return {"role": "assistant", "content": "", "calls": [message["content"]]}
    return {"role": message["role"], "content": message["content"]}
