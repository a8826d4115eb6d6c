"""Rows as plain data to CONVERSATIONS batches and back, and strategies of conversations, for the tests beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from chatfmt import json_columns, schema

Row = Mapping[str, Any]


def to_batch(rows: Sequence[Row], first: int = 0) -> pa.RecordBatch:
    """A CONVERSATIONS batch of rows, numbered from `first`: messages columns and JSON by name, the rest as read."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, pa.Array] = {"row": pa.array(range(first, first + len(rows)), pa.int64())}
    for name in names:
        values = [row.get(name) for row in rows]
        if name in schema.CONVERSATION_COLUMNS and not all(isinstance(value, str) for value in values):
            columns[name] = json_columns.encode_conversations(values)
        elif name in ("tools", "documents", "template_kwargs"):
            columns[name] = json_columns.json_array(values, [name in row for row in rows])
        else:
            columns[name] = json_columns.encode_objects([{name: value} for value in values])[name]
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def to_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch as plain data, without `row`; a null is an absent key."""
    names = [name for name in batch.schema.names if name != "row"]
    return (
        json_columns.decode_objects({name: batch.column(name) for name in names})
        if names
        else [{} for _ in range(len(batch))]
    )


TEXTS = st.sampled_from(["", " ", "a", "b\n", "é  z", "\n#### 72", "x = <<1+1=2>>2\n#### 1,000", "Q? ** s\n#### 3"])
THOUGHTS = st.sampled_from(["<think>\nr\n</think>\n\na", "<think>\n\n</think>\n\nb", "r\n</think>\n\nc"])
PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
        st.just({"type": "image", "url": "u"}),
        st.just({"type": "text", "text": "t", "cache_control": {}}),
    ),
    max_size=2,
)
CALLS = st.lists(
    st.builds(
        lambda name, arguments, id: {"type": "function", **id, "function": {"name": name, "arguments": arguments}},
        st.sampled_from(["f", "g"]),
        st.sampled_from(['{"a": 1}', "{a", "", {"a": 1}, {"b": None, "é": [1.5]}, '{"a":1,"a":2}']),
        st.sampled_from([{}, {"id": "1"}, {"id": "2"}]),
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """One turn, of any role, with any of the usual keys, in either order of role and content."""
    role = draw(st.sampled_from(["system", "developer", "user", "assistant", "tool", "robot"]))
    content = draw(st.one_of(TEXTS, TEXTS, THOUGHTS, PARTS, st.none()))
    turn = {"role": role, "content": content} if draw(st.booleans()) else {"content": content, "role": role}
    if role == "assistant" and draw(st.integers(0, 3)) == 0:
        turn["tool_calls"] = draw(CALLS)
    if role == "assistant" and draw(st.integers(0, 3)) == 0:
        turn["reasoning_content"] = draw(st.sampled_from(["why", "", "\n"]))
    if role == "tool" and draw(st.booleans()):
        turn["tool_call_id"] = draw(st.sampled_from(["1", "2"]))
    if draw(st.integers(0, 9)) == 0:
        turn["weight"] = draw(st.sampled_from([0, 1.5]))
    return turn


CONVERSATIONS = st.lists(messages(), max_size=6)
ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"messages": st.one_of(CONVERSATIONS, st.none())}),
        st.fixed_dictionaries({"prompt": CONVERSATIONS, "chosen": CONVERSATIONS, "rejected": CONVERSATIONS}),
        st.fixed_dictionaries({"chosen": CONVERSATIONS, "rejected": CONVERSATIONS}),
        st.fixed_dictionaries({"prompt": CONVERSATIONS, "completion": CONVERSATIONS}),
    ),
    min_size=1,
    max_size=5,
)
