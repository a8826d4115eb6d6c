"""Features: what `datasets` reads of a Parquet output, and what chatfmt reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from .conftest import run_cli

CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": {"c": "x", "deep": [1, {"n": 2}]}}}
OTHER_CALL = {"type": "function", "function": {"name": "v", "arguments": {"p": True, "q": []}}}
TOOLS = [
    {"type": "function", "function": {"name": "w", "parameters": {"type": "object", "properties": {"c": {}}}}},
    {"type": "function", "function": {"name": "v", "description": "Views"}},
]


def turn(role: str, content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **keys}


CASES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"messages": [turn("user", "q"), turn("assistant", "a")]}] * 2,
    "answers that look like JSON": [
        {"messages": [turn("user", text), turn("assistant", text)]}
        for text in ("3", "true", "null", "[1, 2]", '{"a": 1}', "2024-05-01", "007", "plain")
    ],
    "tools and calls of unequal shapes": [
        {
            "messages": [
                turn("user", "w?"),
                turn("assistant", "", tool_calls=[CALL]),
                turn("tool", "3", tool_call_id="c1", name="w"),
                turn("assistant", "sun", tool_calls=[OTHER_CALL, CALL]),
            ],
            "tools": TOOLS,
        },
        {"messages": [turn("user", "q"), turn("assistant", "a")]},
    ],
    "reasoning on some rows": [
        {"messages": [turn("user", "q"), turn("assistant", "a", reasoning_content="7")]},
        {"messages": [turn("user", "q"), turn("assistant", "a")]},
    ],
    "variables": [
        {
            "messages": [turn("user", "q"), turn("assistant", "a")],
            "chat_template_kwargs": {"enable_thinking": thinking, **more},
        }
        for thinking, more in ((True, {}), (False, {"style": {"n": 3}}))
    ],
    "documents": [
        {
            "messages": [turn("user", "q"), turn("assistant", "a")],
            "documents": [{"title": "T", "text": "7"}, {"title": "U", "pages": 3}],
        }
    ],
}
FORMATS = ["parquet"]


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: all rows of a column have the keys of each."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_an_output_loads_and_converts_again_to_what_went_in(name: str, format: str, tmp_path: Path) -> None:
    rows = CASES[name]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = run_cli("convert", source, "--format", format, "-o", tmp_path / "out", "-q")
    assert run.returncode == 0, run.stderr.decode()
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert without_nulls(loaded.to_list()) == rows
    again = run_cli("convert", tmp_path / "out", "-q")
    assert again.returncode == 0, again.stderr.decode()
    assert [json.loads(line) for line in again.stdout.splitlines()] == rows
