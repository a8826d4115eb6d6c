"""ms-swift: the dataset of the printed command through its own loader and preprocessor, as conversations."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
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
    messages = joined(map(turn, row["messages"]))
    found = {key: row[key] for key in ("label", "tools", "chat_template_kwargs") if key in row}
    found |= {"images": len(row["images"])} if row.get("images") else {}
    if "rejected_response" not in row:
        return {"messages": messages, **found}
    worse = {"role": "assistant", "content": row["rejected_response"]}
    return {"chosen": messages, "rejected": [*messages[:-1], worse], **found}


def joined(turns: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns with the parts of one answer joined, as its templates join them: a text and calls."""
    found: list[dict[str, Any]] = []
    for one in turns:
        if found and one["role"] == found[-1]["role"] == "assistant":
            found[-1]["content"] += one["content"]
            found[-1].setdefault("calls", []).extend(one.get("calls", []))
        else:
            found.append(one)
    return found


def turn(message: dict[str, Any]) -> dict[str, Any]:
    """A turn with its call as an object."""
    if message["role"] == "tool_call":
        return {"role": "assistant", "content": "", "calls": [message["content"]]}
    trained = {"trained": message["loss"]} if message.get("loss") is not None else {}
    return {"role": message["role"], "content": message["content"], **trained}
