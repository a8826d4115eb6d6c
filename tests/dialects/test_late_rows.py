"""Parts that only rows after the sample have: they are read or raise an error, and are never lost silently."""

from __future__ import annotations

from typing import Any

import pytest

from chatfmt.dialects import DIALECTS, Columns, detect, used_columns
from chatfmt.errors import DialectError, Location

from .batches import conversations, to_batch

QA = {"question": "q", "answer": "a"}
TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SPEC = {"type": "function", "function": {"name": "f"}}
READ: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "system": (QA, {"system": "s"}, {"messages": [{"role": "system", "content": "s"}, *TALK]}),
    "system that was null": (
        {**QA, "system_prompt": None}, {"system_prompt": "s"},
        {"messages": [{"role": "system", "content": "s"}, *TALK]},
    ),
    "context": (QA, {"input": "c"}, {"messages": [{"role": "user", "content": "q\nc"}, TALK[1]]}),
    "history": (QA, {"history": [["x", "y"]]}, {"messages": [
        {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, *TALK]}),
    "tools": ({"messages": TALK}, {"tools": [{"name": "f"}]}, {"messages": TALK, "tools": [SPEC]}),
    "tools that were empty": (
        {"messages": TALK, "tools": "[]"}, {"tools": '[{"name": "f"}]'}, {"messages": TALK, "tools": [SPEC]}),
    "tools of OpenAI's preference fine-tuning": (
        {"input": {"messages": TALK[:1]}, "preferred_output": TALK[1:], "non_preferred_output": TALK[1:]},
        {"input": {"messages": TALK[:1], "tools": [{"name": "f"}]}},
        {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": TALK[1:], "tools": [SPEC]}),
    "template_kwargs": (
        {"messages": TALK}, {"chat_template_kwargs": {"x": 1}}, {"messages": TALK, "template_kwargs": {"x": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_late_part_is_read(name: str) -> None:
    first, more, expected = READ[name]
    found = detect([to_batch([first])], Columns())
    batch = to_batch([first, {**first, **more}], start=5000)
    made = conversations(DIALECTS[found.dialect].convert(batch, found.columns))
    assert made[1] == {"row": 5001, **expected}
    assert made[0]["row"] == 5000 and len(made) == 2
    assert set(more) <= set(used_columns(found))


WATCHED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an answer to prompts": ({"prompt": "p"}, {"completion": "c"}, "column `completion` is empty in the sample but not "
                             "here, and could be the completion"),
    "a second system": (QA, {"system_prompt": "s"}, "column `system_prompt` is empty in the sample but not here, and "
                        "could be the system"),
    "documents": ({"messages": TALK}, {"documents": [{"text": "d"}]}, "column `documents` is empty in the sample but "
                  "not here, and could be the documents"),
}  # fmt: skip


@pytest.mark.parametrize("name", WATCHED)
def test_a_watched_column_is_an_error(name: str) -> None:
    first, more, message = WATCHED[name]
    found = detect([to_batch([first])], Columns())
    rows = [first, {**first, **dict.fromkeys(more)}, {**first, **more}]
    with pytest.raises(DialectError) as caught:
        DIALECTS[found.dialect].convert(to_batch(rows, start=5000), found.columns)
    assert (caught.value.code, caught.value.at, caught.value.message) == ("col.late", Location(row=2), message)
    (name,) = more
    assert caught.value.hint == f"--drop {name} leaves it behind"
    assert DIALECTS[found.dialect].convert(to_batch(rows).drop_columns([name]), found.columns).num_rows == 3


def test_columns_of_other_names_are_not_read() -> None:
    first = {**QA, "tools": "hammer", "documents": "none"}
    found = detect([to_batch([first])], Columns())
    made = conversations(DIALECTS[found.dialect].convert(to_batch([{**first, "documents": "two"}]), found.columns))
    assert made == [{"row": 0, "messages": TALK}]
