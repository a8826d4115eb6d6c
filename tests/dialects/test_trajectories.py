"""Events of agents: what is beside the text of a turn, such as images and tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import run_cli, write_rows

TOOLS = [{"type": "function", "function": {"name": "bash", "description": "Runs.", "parameters": {"type": "object"}}}]
IMAGE = {"type": "image"}
URLS = ["data:image/png;base64,AAAA", "https://e.org/b.png"]
ACTIONS = [
    {"id": 0, "source": "agent", "action": "system", "args": {"content": "Be brief.", "tools": TOOLS}},
    {"id": 1, "source": "user", "action": "message", "args": {"content": "What is it?", "image_urls": URLS}},
    {"id": 2, "source": "agent", "action": "message", "args": {"content": "A cat.", "image_urls": None}},
]
EVENTS = [
    {"kind": "SystemPromptEvent", "source": "agent", "system_prompt": {"type": "text", "text": "Be brief."},
     "tools": TOOLS},
    {"kind": "MessageEvent", "source": "user", "llm_message": {"role": "user", "content": [
        {"type": "text", "text": "What is it?"}, {"type": "image", "image_urls": URLS}]}},
    {"kind": "MessageEvent", "source": "agent", "llm_message": {"role": "assistant", "content": [
        {"type": "text", "text": "A cat."}]}},
]  # fmt: skip


def convert(events: list[dict[str, Any]], folder: Path, *flags: str) -> Any:
    (folder / "trajectory.json").write_text(json.dumps(events))
    return run_cli("convert", "openhands", "trajectory.json", *flags, cwd=folder)


@pytest.mark.parametrize("events", [ACTIONS, EVENTS], ids=["actions", "sdk"])
def test_openhands_has_the_tools_of_its_system_event_and_images(events: list[dict[str, Any]], tmp_path: Path) -> None:
    run = convert(events, tmp_path)
    assert json.loads(run.stdout) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}, {"type": "image"}],
            },
            {"role": "assistant", "content": "A cat."},
        ],
        "tools": TOOLS,
        "images": URLS,
    }, run.stderr.decode()


def test_openhands_images_of_a_result_and_tools_that_change(tmp_path: Path) -> None:
    look = [
        {"source": "agent", "action": "run_ipython", "args": {"code": "plot()", "thought": "Look."}},
        {"source": "agent", "observation": "run_ipython", "content": "done", "extras": {"image_urls": URLS[:1]}},
    ]
    run = convert([*ACTIONS[:1], *look, ACTIONS[2]], tmp_path)
    made = json.loads(run.stdout)
    assert made["messages"][2] == {"role": "tool", "content": [{"type": "text", "text": "done"}, IMAGE]}
    assert made["images"] == URLS[:1]
    other = {
        **ACTIONS[0],
        "args": {"content": "Be brief.", "tools": [{"type": "function", "function": {"name": "sh"}}]},
    }
    refused = convert([ACTIONS[0], other, *ACTIONS[1:]], tmp_path)
    assert refused.returncode == 4 and refused.stdout == b""
    assert b"error: trajectory.json row 0: the system event has other tools than the one before (message 1)\n" in (
        refused.stderr
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"shot": "data:image/png;base64,AAAA"}, "`messages[].extras.shot` looks like media"),
        ({"tools": TOOLS}, "`messages[].extras.tools` looks like tools"),
    ],
)
def test_media_and_tools_deep_in_turns_stop_the_run(extra: dict[str, Any], message: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi there."}, {"role": "assistant", "content": "A cat.", "extras": extra}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_cli("convert", "in.jsonl", "-t", "chatml", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.decode().startswith(
        f"error: in.jsonl: {message}, and would be left behind\nhint: --drop messages."
    )


def test_orders_to_cache_are_no_content(tmp_path: Path) -> None:
    cached = {"type": "text", "text": "Hi there.", "cache_control": {"type": "ephemeral"}}
    for content in ([cached], [{"type": "text", "text": "Hi "}, {**cached, "text": "there."}]):
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "Hello."}]
        write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
        run = run_cli("convert", "in.jsonl", cwd=tmp_path)
        assert json.loads(run.stdout)["messages"][0] == {"role": "user", "content": "Hi there."}
        assert b"left behind: messages[].content[].cache_control.type (text)\n" in run.stderr
