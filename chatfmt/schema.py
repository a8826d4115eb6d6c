"""The one shape between input and output: conversations as Arrow columns, exact to the last key.

JSON objects travel as Arrow structs without inference. A key whose values are all text is a `string` field, a key of a
record whose values are all lists of objects (turns) is a `list<struct>`, any other key is a JSON field that holds the
JSON text of each value. The type `large_string` marks JSON text (`arrow.json` says it better, but pyarrow's kernels
cannot take, filter or flatten it), so text is never `large_string` between `read` and `write`. A null in a field means
that the object lacks the key. Where that reading would lose something (an explicit null, another order of keys) the
field `#keys` lists the object's own keys as a JSON array.

A **messages column** is `list<struct<role, content, …>>` in this encoding: `role` and `content` are strings in the
usual case; `tool_calls`, content made of parts and anything else that is not text is JSON text, because Arrow would
invent `null` keys in nested structs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


class Message(TypedDict, total=False):
    """One turn, as chat templates read it: a plain dict, `role` always there, any other key kept as it came."""

    role: Role
    content: Any
    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str
    name: str


Conversation = list[Message]

Turn = dict[str, Any]
"""A message under construction: a plain dict whose keys are not checked yet."""

ROW = "#row"
"""The column of a source batch with the zero-based number of each record in its file (int64)."""
KEYS = "#keys"
"""The field with an object's own keys, as a JSON array, where the other fields alone would lose something."""

CONVERSATION_COLUMNS = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns of a CONVERSATIONS batch that hold a messages column."""
CONVERSATIONS = (
    "row", *CONVERSATION_COLUMNS, "tools", "documents", "template_kwargs", "label", "text", "segments",
    "completions", "labels",
)  # fmt: skip
"""Names that a CONVERSATIONS batch may hold, `row` always; every other column of it is a kept column.

`row` is int64, the source row. `tools` (a list of specs), `documents` and `template_kwargs` (an object) are JSON.
`label` is bool. `text` (string) is data that is rendered already; `segments` is JSON, a list of
`{"text", "label"}`; stepwise data has `prompt` and `completions` (`list<string>`) with `labels` (`list<bool>`).
"""


REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Message keys that hold an assistant's reasoning, in the order in which transformers reads them."""


def reasoning_field(message: Mapping[str, Any]) -> str | None:
    """The key whose reasoning templates print: the first of REASONING_FIELDS that is not null; None without any."""
    return next((name for name in REASONING_FIELDS if message.get(name) is not None), None)


def reasoning_conflict(message: Mapping[str, Any]) -> tuple[str, str] | None:
    """The key whose reasoning templates print and one whose other reasoning is lost; None where nothing is lost."""
    first = reasoning_field(message)
    if first is None:
        return None
    others = [(name, message[name]) for name in REASONING_FIELDS if message.get(name) not in (None, message[first])]
    return next(((first, name) for name, value in others if not isinstance(value, str) or value.strip()), None)
