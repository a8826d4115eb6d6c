"""Forms of other tools: what they hold is read back as it was, and what they cannot hold is an error of its row."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatfmt.cli import main

from ..conftest import write_rows

U, A, S = ({"role": role, "content": f"{role} says"} for role in ("user", "assistant", "system"))
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def calls(*arguments: Any, **more: Any) -> dict[str, Any]:
    found = [
        {"id": f"c{number}", "type": "function", "function": {"name": "add", "arguments": given}}
        for number, given in enumerate(arguments)
    ]
    return {"role": "assistant", **more, "tool_calls": found}


THOUGHT = {"messages": [U, calls({}, content="<think>hm</think>\n\n")]}
RESULT = {"role": "tool", "content": "3", "tool_call_id": "c0", "name": "add"}
PLAIN = [
    {"messages": [U, A]},
    {"messages": [S, U, A, {"role": "user", "content": ""}, {"role": "assistant", "content": ' {"a": 1}\n'}]},
]
USED = [{"messages": [S, U, calls({"x": 1}), RESULT, A], "tools": TOOLS}, PLAIN[0]]
Convert = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Convert:
    """A function that converts rows, or the last output if there are none: exit code, rows, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(rows: list[Any] | None, *flags: str) -> tuple[int, list[Any], str]:
        if rows is not None:
            write_rows(Path("in.jsonl"), rows)
        source = "in.jsonl" if rows is not None else "out.jsonl"
        code = main(["convert", source, *flags, "--executor", "serial", "-o", "new.jsonl", "--overwrite", "-q"])
        if code == 0:
            Path("new.jsonl").rename("out.jsonl")
        lines = Path("out.jsonl").read_text().splitlines() if code == 0 else []
        return code, list(map(json.loads, lines)), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("form", "rows", "written"),
    [
        ("alpaca", PLAIN, [
            {"instruction": "user says", "input": "", "output": "assistant says"},
            {"instruction": "", "input": "", "output": ' {"a": 1}\n', "system": "system says",
             "history": [["user says", "assistant says"]]},
        ]),
        ("sharegpt", [*USED, {"messages": [U, calls({"x": 1}, {"y": [2]}), RESULT, A]}], [
            {"conversations": [
                {"from": "system", "value": "system says"}, {"from": "human", "value": "user says"},
                {"from": "function_call", "value": '{"id":"c0","name":"add","arguments":{"x":1}}'},
                {"from": "observation", "value": "3", "tool_call_id": "c0", "name": "add"},
                {"from": "gpt", "value": "assistant says"}],
             "tools": json.dumps(TOOLS, separators=(",", ":"))},
            {"conversations": [{"from": "human", "value": "user says"}, {"from": "gpt", "value": "assistant says"}]},
            {"conversations": [
                {"from": "human", "value": "user says"},
                {"from": "function_call", "value": '[{"id":"c0","name":"add","arguments":{"x":1}},'
                                                   '{"id":"c1","name":"add","arguments":{"y":[2]}}]'},
                {"from": "observation", "value": "3", "tool_call_id": "c0", "name": "add"},
                {"from": "gpt", "value": "assistant says"}]},
        ]),
        ("openai", [{"messages": [S, U, calls('{"x": 1}', content=""), RESULT, A], "tools": TOOLS}, *PLAIN], None),
    ],
)  # fmt: skip
def test_a_form_is_read_back_as_it_was(convert: Convert, form: str, rows: list[Any], written: list[Any] | None) -> None:
    assert convert(rows, "--to", form)[:2] == (0, rows if written is None else written)
    assert convert(None) == (0, rows, "")


def test_sharegpt_has_reasoning_before_calls(convert: Convert) -> None:
    value = '<think>hm</think>\n\n{"id":"c0","name":"add","arguments":{}}'
    turns = [{"from": "human", "value": "user says"}, {"from": "function_call", "value": value}]
    assert convert([THOUGHT], "--to", "sharegpt")[:2] == (0, [{"conversations": turns}])
    assert convert(None)[:2] == (0, [THOUGHT])


def test_openai_gets_arguments_as_text_and_tools_as_functions(convert: Convert) -> None:
    row = {"messages": [U, calls({"x": 1}), RESULT, A], "tools": [TOOLS[0]["function"]]}
    code, found, _ = convert([row, PLAIN[0]], "--to", "openai")
    assert (code, found) == (0, [{"messages": [U, calls('{"x":1}'), RESULT, A], "tools": TOOLS}, PLAIN[0]])


TRAILING = "--transform trailing_user=drop"
MERGE = "--transform 'merge= ' joins turns of one role that follow each other"
ANY = "--to messages holds it, --on-error skip drops such rows"


@pytest.mark.parametrize(
    ("form", "row", "what", "hint"),
    [
        ("alpaca", {"messages": [U, calls({}), RESULT, A]}, "`tool_calls` of turns",
         "--to sharegpt holds calls and tools"),
        ("alpaca", {"messages": [U, A], "tools": TOOLS}, "`tools`", "--to sharegpt holds calls and tools"),
        ("alpaca", {"messages": [S, S, U, A]}, "the role `system` where the form has user", MERGE),
        ("alpaca", {"messages": [U, A, S, U, A]}, "the role `system` where the form has user",
         "--transform later_system=fold"),
        ("alpaca", {"messages": [U, U, A]}, "the role `user` where the form has assistant", MERGE),
        ("alpaca", {"messages": [U, A, U]}, "a conversation that does not end with an answer", TRAILING),
        ("alpaca", {"messages": [U, {**A, "reasoning_content": "hm"}]}, "`reasoning_content` of turns",
         "--transform reasoning=inline writes it into the text"),
        ("alpaca", {"messages": [U, {**A, "weight": 0}]}, "`weight` of turns", ANY),
        ("alpaca", {"messages": [{"role": "user", "content": [{"type": "image"}]}, A], "images": ["a.png"]},
         "content that is not text", "--media-tags writes placeholders for images, videos and audio"),
        ("sharegpt", {"messages": [A, U, A]}, "the role `assistant` where the form has user or tool", ANY),
        ("sharegpt", {"messages": [U, calls({}), RESULT, RESULT, A]}, "the role `tool` where the form has assistant",
         "--transform parallel_calls=split"),
        ("sharegpt", {"messages": [U, calls({}, content="wait")]}, "text beside calls", ANY),
        ("sharegpt", {"messages": [U, calls("{}")]}, "call arguments that are not an object",
         "--transform arguments=object"),
        ("sharegpt", {"messages": [U, A], "chat_template_kwargs": {"a": 1}}, "`chat_template_kwargs`",
         f"{ANY}, --drop chat_template_kwargs leaves it behind"),
        ("openai", {"messages": [U, {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": "{}"}}]}]}, "a call without an id",
         "--transform call_ids=fill"),
        ("openai", {"messages": [U, {**A, "mood": "glad"}]}, "`mood` of turns", ANY),
    ],
)  # fmt: skip
def test_what_a_form_cannot_hold_is_an_error_of_the_row(
    convert: Convert, form: str, row: dict[str, Any], what: str, hint: str
) -> None:
    code, _, said = convert([PLAIN[0], row], "--to", form)
    assert code != 0
    if hint.startswith(("--transform", "--media-tags")):
        flags = shlex.split(hint)[: 2 if hint.startswith("--transform") else 1]
        assert convert([PLAIN[0], row], "--to", form, *flags)[0] == (4 if RESULT in row["messages"][3:] else 0)
    error = f"error: in.jsonl row 1: the form {form} has no place for {what} (line 2)"
    assert said.splitlines()[:2] == [error, f"hint: {hint}"]


@pytest.mark.parametrize(
    ("form", "rows", "trainer", "dataset"),
    [
        ("alpaca", PLAIN, "llama-factory", {
            "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system",
                        "history": "history"}}),
        ("sharegpt", USED, "llama-factory",
         {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}}),
        ("alpaca", PLAIN[:1], "axolotl", {"type": "alpaca"}),
        ("sharegpt", PLAIN, "axolotl", {
            "type": "chat_template", "field_messages": "conversations", "roles_to_train": ["assistant"],
            "train_on_eos": "turn", "message_property_mappings": {"role": "from", "content": "value"}}),
    ],
)  # fmt: skip
def test_the_loader_describes_the_form(
    convert: Convert, capsys: pytest.CaptureFixture[str], form: str, rows: list[Any], trainer: str,
    dataset: dict[str, Any],
) -> None:  # fmt: skip
    convert(rows, "--to", form)
    assert main(["convert", "in.jsonl", "--for", trainer, "--to", form, "-o", "out", "-q", "--executor", "serial"]) == 0
    assert main(["loader", "out"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    described = config["dataset_dir"]["chatfmt"] if trainer == "llama-factory" else config["datasets"][0]
    assert {key: value for key, value in described.items() if key not in ("hf_hub_url", "path", "split")} == dataset


def test_axolotl_would_ignore_a_system_column(convert: Convert, capsys: pytest.CaptureFixture[str]) -> None:
    convert(PLAIN, "--to", "alpaca")
    assert main(["convert", "in.jsonl", "--for", "axolotl", "--to", "alpaca", "-o", "out", "-q"]) == 2
    problem = "it has the column `system`, which the trainer does not read"
    assert capsys.readouterr().err == f"error: the output would not fit axolotl: {problem}\nhint: leave out --to\n"
    assert main(["convert", "in.jsonl", "--to", "alpaca", "-o", "out", "-q", "--executor", "serial"]) == 0
    assert main(["loader", "out", "--for", "axolotl"]) == 2
    assert f"`out` does not fit axolotl: {problem}" in capsys.readouterr().err
