"""Chats between people: `--me`, `--role '*=user'`, text in pieces, and keys of turns that are left out together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.errors import ChatfmtError

from ..conftest import run_cli, write_rows

CHAT = [
    {"from": "Mia", "text": "Hi"}, {"from": "AI", "text": ["See ", {"type": "link", "text": "a.b", "href": "c"}, "!"]},
    {"from": "Ann", "text": [{"type": "bold", "text": "Yes"}, "."], "id": 3, "weight": 0},
]  # fmt: skip


def convert(tmp_path: Path, **keys: Any) -> tuple[list[dict[str, Any]], chatfmt.Summary]:
    write_rows(tmp_path / "chat.jsonl", [{"messages": CHAT}])
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


@pytest.mark.parametrize(
    ("turns", "keys"),
    [
        ([["user", "q"], ["assistant", "a"]], {}),
        ([{"user": "q"}, {"assistant": "a"}], {}),
        ([{"author": {"name": 7}, "data": {"content": "q"}}, {"author": {"name": 8}, "data": {"content": "a"}}],
         {"map": {"messages.role": "author.name", "messages.content": "data.content"}, "me": "8"}),
        ([{"is_bot": False, "text": "q"}, {"is_bot": True, "text": "a"}],
         {"map": {"messages.role": "is_bot"}, "role": {"true": "assistant", "false": "user"}}),
    ],
)  # fmt: skip
def test_roles_beside_texts_as_keys_numbers_and_truth_values(turns: Any, keys: dict[str, Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "chat.jsonl", [{"messages": turns}])
    recipe = chatfmt.Recipe(source=str(tmp_path / "chat.jsonl"), drop=["messages.*"], **keys)
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl", executor="serial")
    made = json.loads((tmp_path / "out.jsonl").read_text())["messages"]
    assert made == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


HINTS = {
    '{"id": 1, "type": "message", "from": "Ann", "text": "hi", "text_entities": []}':
        "a recipe reads them: chatfmt convert telegram FILE --me NAME",
    '{"type": "summary", "sessionId": "s", "parentUuid": null}':
        "a recipe reads them: chatfmt convert claude-code FILE",
    '{"timestamp": "t", "type": "event_msg", "payload": {}}': "a recipe reads them: chatfmt convert codex FILE",
    '{"dialog": ["hi", "yo"], "act": [1, 2]}':
        "if the texts in `dialog` alternate: --map messages=dialog --roles user,assistant",
}  # fmt: skip


@pytest.mark.parametrize("row", HINTS)
def test_rows_of_a_known_format_name_its_recipe(row: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(row + "\n")
    with pytest.raises(ChatfmtError) as raised:
        chatfmt.convert(
            chatfmt.Recipe(source=str(tmp_path / "in.jsonl")), out=tmp_path / "out.jsonl", executor="serial"
        )
    assert raised.value.hint == HINTS[row]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_hints_for_an_export_of_all_chats_lead_to_its_records(tmp_path: Path) -> None:
    chat = {"name": "Trip", "messages": [{"type": "message", **turn} for turn in CHAT]}
    export = {"user": {"id": 1}, "chats": {"about": "", "list": [chat]}}
    (tmp_path / "all.json").write_text(json.dumps(export, indent=1))
    people = "; or --me NAME, for people who chat, to train on one of them"
    for given, hint in (
        (("all.json",), "`--field chats.list`"),
        (("telegram", "all.json"), "there is `user`, `chats`; records could be at `--field chats.list`"),
        (("telegram", "all.json", "--field", "chats.list", "--explode", "messages", "--group-by", "name"),
         f"map them with --role Mia=ROLE --role Ann=ROLE: system, user, assistant or tool{people}"),
    ):  # fmt: skip
        run = run_cli("convert", *given, "-q", cwd=tmp_path)
        assert (run.returncode > 0, run.stderr.decode().splitlines()[-1]) == (True, f"hint: {hint}")
    done = run_cli("convert", *given, "--me", "Ann", "-q", cwd=tmp_path)
    assert [turn["content"] for turn in json.loads(done.stdout)["messages"]] == ["Hi", "See a.b!", "Yes."]


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_a_system_that_answers_the_user_is_refused_until_its_role_is_said(role: str, tmp_path: Path) -> None:
    turns = [{"speaker": "USER", "utterance": "A hotel."}, {"speaker": "SYSTEM", "utterance": "Where?"}]
    source = write_rows(tmp_path / "in.jsonl", [{"turns": turns}])
    run = run_cli("convert", source, cwd=tmp_path)
    assert run.stderr.decode() == (
        f"error: {source} row 0: the system answers the user, and no assistant does (message 1, line 1)\n"
        "hint: --role system=assistant makes it the assistant\n"
    )
    made = json.loads(run_cli("convert", source, "--role", f"system={role}", "-q", cwd=tmp_path).stdout)
    assert made == {"messages": [{"role": "user", "content": "A hotel."}, {"role": role, "content": "Where?"}]}
