"""Roles, message keys and column names that every stage shares; `json_columns` has the encoding of the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")

SourceRow = Mapping[str, Any]
"""A row of the source as Python values."""
Turn = dict[str, Any]
"""A message as chat templates read it: a plain dict with `role`, and any other key as in the data."""
Conversation = list[Turn]
Turns = Sequence[Mapping[str, Any]]
"""The messages of a conversation that are only read."""

ROW = "#row"
"""The column of a source batch with the zero-based number of each record in its file (int64)."""
KEYS = "#keys"
"""The field with the keys of an object as a JSON array, where the other fields alone would lose something."""

FILE = b"#file"
"""The key of the schema metadata of sampled rows with the name of their file."""

KEPT = "#kept."
"""The prefix of kept columns in a CONVERSATIONS batch whose names are names of its own columns."""

CONVERSATION_COLUMNS = ("messages", "prompt", "completion", "chosen", "rejected")
"""The columns of a CONVERSATIONS batch that are messages columns."""
CONVERSATIONS = (
    "row", *CONVERSATION_COLUMNS, "tools", "documents", "template_kwargs", "label", "text", "segments",
    "completions", "labels",
)  # fmt: skip
"""The columns of a CONVERSATIONS batch, `row` in every one; any other column is carried through (`--keep`).

`row` is int64, the source row. `tools` (a list of specs), `documents` and `template_kwargs` (an object) are JSON.
`label` is bool. `text` (string) is rendered already; `segments` is JSON, a list of `{"text", "label"}`; stepwise data
has `prompt` and `completions` (`list<string>`) with `labels` (`list<bool>`).
"""


MEDIA = {"images": "image", "videos": "video", "audios": "audio"}
"""The columns of media, and the type of the content part that stands for one of them.

A CONVERSATIONS batch carries such a column beside the conversation: a list of media per row, in the order of their
parts. A medium is a path or URL (text), or `json_columns.MEDIUM`, which has the bytes.
"""

TRAIN_FLAGS = ("train", "weight", "loss", "loss_weight", "training", "trainable")
"""Message keys that select it for training: a boolean, or a number where 0 means no."""
TRAIN_DETAILS = ("train_detail", "training_detail")
"""Message keys that select parts of the content for training; see `render.masks.train_detail`."""
TRAIN_KEYS = frozenset({*TRAIN_FLAGS, *TRAIN_DETAILS})
IgnoredWeights = Literal["none", "fractions", "parts", "last", "all"]
"""The weights of answers that a trainer does not read: those that are neither 0 nor 1, these and parts of an answer,
all of the last answer, or all.
"""
_FLAG_TEXTS: Mapping[str, Any] = {"true": True, "false": False, "0": 0, "1": 1, "0.0": 0.0, "1.0": 1.0}

TRUTHS = ("ground_truth", "final_answer", "answer")
"""The columns that hold the ground truth of an answer whatever else a row has, the most telling first."""
KEPT_TRUTHS = (*TRUTHS, "solution", "label", "target")
"""The columns that hold one if they are kept."""

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Message keys that hold an assistant's reasoning, in the order in which transformers reads them."""


def train_flag(message: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the first key of TRAIN_FLAGS that is not null, and its value, a text such as "false" read; ("", None)."""
    for name in TRAIN_FLAGS:
        value = message.get(name)
        if value is not None:
            return name, _FLAG_TEXTS.get(value, value) if isinstance(value, str) else value
    return "", None


def is_text_part(part: Any) -> bool:
    """Return whether a content part is text and nothing else."""
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


def reasoning_field(message: Mapping[str, Any]) -> str | None:
    """Return the key whose reasoning templates print: the first of REASONING_FIELDS that is not null; None without."""
    return next((name for name in REASONING_FIELDS if message.get(name) is not None), None)


def reasoning_conflict(message: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the key whose reasoning templates print and one whose different text is lost; None if none is lost."""
    first = reasoning_field(message)
    if first is None:
        return None
    others = [(name, message[name]) for name in REASONING_FIELDS if message.get(name) not in (None, message[first])]
    return next(((first, name) for name, value in others if not isinstance(value, str) or value.strip()), None)
