"""The traced engine against plain Jinja: equal texts, equal spans, equal errors, on every template and shape there is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import SHARED, TRL_TEMPLATES, needs_shared, needs_trl
from tests.render.engines import assert_same

NAMES = sorted(path.name for path in TRL_TEMPLATES.glob("*.jinja")) if TRL_TEMPLATES else []


def variants(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row three times, with other texts of the same shape the second time, and texts with tags in them the third."""
    return [
        row,
        {**row, "messages": changed(row["messages"], " Ünd\n")},
        {**row, "messages": changed(row["messages"], "</think> x")},
    ]


def changed(messages: list[dict[str, Any]], tail: str) -> list[dict[str, Any]]:
    return [
        {
            key: value + tail if type(value) is str and key in ("content", "reasoning_content") else value
            for key, value in turn.items()
        }
        for turn in messages
    ]


def oracle_rows() -> list[dict[str, Any]]:
    assert SHARED
    lines = (SHARED / "oracle" / "conversations.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    usable = [row for row in rows if encodable(row)]
    assert len(usable) >= 80
    return [variant for row in usable for variant in variants(row)]


def encodable(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
        return all(type(turn) is dict for turn in row["messages"])
    except UnicodeEncodeError:
        return False


@needs_shared
@needs_trl
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("generation_prompt", [False, True])
def test_every_conversation_of_the_oracle_renders_alike_on_both_engines(name: str, generation_prompt: bool) -> None:
    assert TRL_TEMPLATES
    rows = oracle_rows()
    assert len(rows) >= 240
    text = (TRL_TEMPLATES / name).read_text("utf-8")
    renderer = assert_same(text, rows, generation_prompt=generation_prompt)
    print(name, generation_prompt, renderer.stats)
    assert renderer.stats.rows == 2 * len(rows)
