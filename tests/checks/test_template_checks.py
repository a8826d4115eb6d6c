"""What a template makes of the data, told by `check` and `convert`: arguments encoded twice, and hints that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import run_here, write_rows

TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]


def source(folder: Path, *arguments: Any) -> Path:
    with (folder / "in.jsonl").open("w") as file:
        for one in arguments:
            call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": one}}
            turns = [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "r"},
                {"role": "assistant", "content": "a"},
            ]
            file.write(json.dumps({"messages": turns, "tools": TOOLS}) + "\n")
    return folder / "in.jsonl"


def test_arguments_that_the_template_encodes_twice_are_found(tmp_path):
    data = source(tmp_path, {"a": 1}, '{"a": 1}')
    run = run_here("check", data, "-t", "llama-3.1", "--json")
    detail = "the template prints the arguments of call 0, which are JSON text, as a quoted string"
    problem = {"code": "tool.encoded", "kind": "warning", "file": str(data), "row": 1, "message": 1, "line": 2}
    assert (run.returncode, json.loads(run.stdout)) == (0, {
        "schema": 1, "rows": 2, "counts": {"tool.encoded": 1},
        "problems": [{**problem, "byte": None, "detail": detail}], "left_columns": [], "left_keys": [],
        "left_out": [],
    })  # fmt: skip
    run = run_here("check", data, "-t", "llama-3.1", "--fail-on", "tool.encoded")
    assert run.returncode == 1 and b"--transform arguments=object" in run.stdout


@pytest.mark.parametrize("template", ["llama-3.1", "own.jinja"])
def test_a_conversion_counts_them_and_the_advice_helps(template, tmp_path):
    data = source(tmp_path, '{"a": 1}', {"a": 1})
    shown = run_here("templates", "show", "llama-3.1").stdout
    (tmp_path / "own.jinja").write_bytes(shown)
    flags = ["-t", template, "--json", "-o", "out.jsonl", "--overwrite"]
    run = run_here("convert", data, *flags, cwd=tmp_path)
    assert json.loads(run.stdout)["findings"] == {"tool.encoded": 1}
    run = run_here("convert", data, *flags, "--transform", "arguments=object", cwd=tmp_path)
    assert json.loads(run.stdout)["findings"] == {}
    first, second = (tmp_path / "out.jsonl").read_text().splitlines()
    assert first == second


@pytest.mark.parametrize("flags", [[], ["-t", "qwen3"], ["-t", "llama-3.1", "--fit"]])
def test_arguments_that_come_out_well_are_no_problem(flags, tmp_path):
    run = run_here("check", source(tmp_path, '{"a": 1}'), *flags)
    assert (run.returncode, run.stdout) == (0, b"1 row, no problems\n")


PROBE = "`chatfmt templates probe no.jinja` shows what the template accepts"


@pytest.mark.parametrize(
    ("template", "problem", "hint"),
    [
        ("chatml", "template `chatml` loses a tool call of role `assistant` (message 1, line 1)",
         "`chatfmt templates list --supports calls` shows the templates that support calls; "
         "leaving turns without text empty, `--allow-loss tool_calls` accepts the loss"),
        ("no.jinja", "never (line 1)", PROBE),
    ],
)  # fmt: skip
def test_fit_is_not_advised_where_it_does_not_help(template, problem, hint, tmp_path):
    (tmp_path / "no.jinja").write_text("{{ raise_exception('never') }}")
    data = source(tmp_path, {"a": 1})
    for flags in ([], ["--fit"]):
        run = run_here("convert", data, "-t", template, *flags, cwd=tmp_path)
        assert run.stderr.decode().splitlines() == [f"error: {data} row 0: {problem}", f"hint: {hint}"]


STRUCTURED = (
    "the content is not plain text: write it as text in the source; `--allow-loss {}` accepts the loss of all of it"
)


@pytest.mark.parametrize("content", [[{"type": "text", "text": "a", "citations": [{"u": "x"}]}], {"n": 1}])
def test_a_hint_says_that_all_of_a_text_would_be_lost(content, tmp_path):
    role = "assistant" if isinstance(content, list) else "tool"
    remedy = "" if isinstance(content, list) else "`--fit results=text` adapts the data where it can; "
    turns = [
        {"role": "user", "content": "q"},
        {"role": role, "content": content},
        {"role": "assistant", "content": "x"},
    ]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_here("convert", "in.jsonl", "-t", "qwen3", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (6, [
        f"error: in.jsonl row 0: template `qwen3` loses the text of role `{role}` (message 1, line 1)",
        f"hint: {remedy}{STRUCTURED.format(role)}",
    ])  # fmt: skip


def test_a_template_that_expects_content_leads_to_those_that_print_calls(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_here("convert", "in.jsonl", "-t", "chatml", "--allow-loss", "tools", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (4, [
        "error: in.jsonl row 0: 'dict object' has no attribute 'content' (line 1)",
        "hint: a message has no content: `chatfmt templates list --supports calls` shows those that print tool calls",
    ])  # fmt: skip
    assert run_here("convert", "in.jsonl", "-t", "qwen3", cwd=tmp_path).returncode == 0


def test_a_template_that_adds_text_to_parts_leads_to_those_that_read_them(tmp_path):
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "user", "content": [{"type": "image", "image": "a.png"}]},
    ]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_here("convert", "in.jsonl", "-t", "chatml", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (4, [
        'error: in.jsonl row 0: can only concatenate list (not "str") to list (line 1)',
        "hint: content may be a list of parts: --transform parts=flatten joins text parts, "
        "`chatfmt templates list --supports images` shows the templates that read others",
    ])  # fmt: skip
    assert run_here("convert", "in.jsonl", "-t", "qwen2.5-vl", cwd=tmp_path).returncode == 0


def test_a_plan_advises_no_fit_to_who_gave_it(tmp_path):
    data = source(tmp_path, {"a": 1})
    for flags, found in (([], True), (["--fit"], False)):
        shown = run_here("convert", data, "-t", "gemma", *flags, "--allow-loss", "all", "--dry-run").stdout.decode()
        assert ("may need --fit" in shown) is found
