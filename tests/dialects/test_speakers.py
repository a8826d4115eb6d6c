"""Chats between people: `--me`, `--role '*=user'`, text in pieces, and keys of turns that are left out together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.errors import ChatfmtError

CHAT = [
    {"from": "Mia", "text": "Hi"}, {"from": "AI", "text": ["See ", {"type": "link", "text": "a.b", "href": "c"}, "!"]},
    {"from": "Ann", "text": [{"type": "bold", "text": "Yes"}, "."], "id": 3, "weight": 0},
]  # fmt: skip


def convert(tmp_path: Path, **keys: Any) -> tuple[list[dict[str, Any]], chatfmt.Summary]:
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": CHAT}) + "\n")
    recipe = chatfmt.Recipe(source=str(tmp_path / "chat.jsonl"), **keys)
    summary = chatfmt.convert(recipe, out=tmp_path / "out.jsonl", executor="serial")
    return json.loads((tmp_path / "out.jsonl").read_text())["messages"], summary


@pytest.mark.parametrize(
    "keys",
    [
        {"me": "Ann"},
        {"role": {"Ann": "assistant", "*": "user"}},
        {"me": "AI", "role": {"AI": "user", "Ann": "assistant"}},
    ],
)  # fmt: skip
def test_one_speaker_is_the_assistant_and_all_others_are_users(keys: dict[str, Any], tmp_path: Path) -> None:
    turns, summary = convert(tmp_path, drop=["messages.*"], **keys)
    assert turns == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "See a.b!"},
        {"role": "assistant", "content": "Yes.", "weight": 0},
    ]
    assert summary.left_keys == ()


def test_what_a_piece_of_text_holds_besides_is_named(tmp_path: Path) -> None:
    _, summary = convert(tmp_path, map={"messages.role": "from"}, me="Ann")
    assert summary.left_keys == ("messages[].text[].href (text)",)


def test_a_speaker_without_a_turn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChatfmtError) as raised:
        convert(tmp_path, me="ann")
    assert str(raised.value) == f"{tmp_path}/chat.jsonl: no sampled turn is by `ann`"
    assert raised.value.hint == "the speakers are `Mia`, `AI`, `Ann`"
    assert not (tmp_path / "out.jsonl").exists()
