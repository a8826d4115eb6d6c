"""`--for openai` writes what OpenAI's fine-tuning API accepts: its published rules, as there is no code to run.

Source: the guides to supervised fine-tuning and direct preference optimization, and the schemas
`FineTuneChatRequestInput` and `FineTunePreferenceRequestInput` of the API reference (2026-07).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import from_lines, run_here, succeed, write_rows
from . import cases

ROLES = {"system", "developer", "user", "assistant", "tool"}
KEYS = {
    **dict.fromkeys(("system", "developer", "user"), {"role", "content", "name"}),
    "assistant": {"role", "content", "name", "tool_calls", "weight", "refusal"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
"""The keys of a message of each role; examples of the guides also have the name of a tool beside its result."""


def check_messages(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    """Assert the rules for messages: roles, keys, content, calls with ids and arguments as text, and their results."""
    called: set[str] = set()
    names = {tool["function"]["name"] for tool in tools}
    for message in messages:
        assert message["role"] in ROLES and set(message) <= KEYS[message["role"]], message
        assert message.get("weight", 1) in (0, 1) and type(message.get("weight", 1)) is int
        content = message.get("content")
        assert isinstance(content, str) or (message.get("tool_calls") and content is None), message
        for call in message.get("tool_calls", ()):
            assert set(call) == {"id", "type", "function"} and call["type"] == "function"
            assert set(call["function"]) == {"name", "arguments"} and call["function"]["name"] in names
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            called.add(call["id"])
        if message["role"] == "tool":
            assert message["tool_call_id"] in called


def check_row(row: dict[str, Any]) -> None:
    """Assert the rules for a row of supervised fine-tuning, or of preference optimization."""
    source = row.get("input", row)
    tools = source.get("tools") or []
    for tool in tools:
        assert set(tool) == {"type", "function"} and tool["type"] == "function"
        assert tool["function"]["parameters"]["type"] == "object"
    if source is row:
        assert set(row) <= {"messages", "tools"} and row["messages"][-1]["role"] == "assistant"
        check_messages(row["messages"], tools)
        return
    assert set(row) == {"input", "preferred_output", "non_preferred_output"} and source["messages"]
    for name in ("preferred_output", "non_preferred_output"):
        assert [message["role"] for message in row[name]] == ["assistant"]
        check_messages([*source["messages"], *row[name]], tools)


@pytest.mark.parametrize(
    "rows",
    [cases.CHAT, cases.SYSTEM, cases.TURNS, cases.TOOLS, cases.CALLS, cases.REASONING, cases.PARTS, cases.WEIGHTS,
     cases.PAIRS, cases.PREFERENCE],
    ids=["chat", "system", "turns", "tools", "calls", "reasoning", "parts", "weights", "pairs", "preference"],
)  # fmt: skip
def test_every_row_keeps_to_the_published_rules(rows: cases.Rows, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", rows)
    run = succeed(run_here("convert", "in.jsonl", "--for", "openai", "-q", cwd=tmp_path))
    written = from_lines(run.stdout)
    assert len(written) == len(rows)
    for row in written:
        check_row(row)
