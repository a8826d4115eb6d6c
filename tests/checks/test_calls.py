"""Calls are compared with the tools of their row and with the results that follow them."""

from __future__ import annotations

import json
import re
import shlex

import pytest

import chatfmt
from chatfmt.errors import CheckError

from ..conftest import run_cli, run_here, write_rows

PARAMETERS = {
    "type": "object", "required": ["city"],
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": ["string", "null"]}},
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "rain", "description": "Rain?", "parameters": PARAMETERS}}]
QUESTION, RESULT, ANSWER = (
    {"role": "user", "content": "Rain?"}, {"role": "tool", "content": "no"}, {"role": "assistant", "content": "No."},
)  # fmt: skip


def call(arguments, name="rain"):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def found(tmp_path, turns, tools=TOOLS):
    row = {"messages": turns, **({"tools": tools} if tools else {})}
    write_rows(tmp_path / "in.jsonl", [row])
    report = json.loads(run_cli("check", "in.jsonl", "--json", cwd=tmp_path).stdout)
    return [(problem["code"], problem["message"], problem["detail"]) for problem in report["problems"]]


@pytest.mark.parametrize(
    ("made", "problems"),
    [
        (call({"city": "Oslo", "days": 2, "unit": None}), []),
        (call('{"city": "Oslo", "days": 2.0}'), []),
        (call({}, "snow"), [("tool.unknown", "call 0 is to `snow`, which is not one of the tools")]),
        (call({"days": 1}), [("tool.misfit", "call 0 of `rain`: the argument `city` is missing")]),
        (call({"city": "Oslo", "zz": 1}), [("tool.misfit", "call 0 of `rain`: there is no argument `zz`")]),
        (call({"city": 5}), [("tool.misfit", "call 0 of `rain`: the argument `city` is not of type string")]),
        (call({"city": "Oslo", "days": True}),
         [("tool.misfit", "call 0 of `rain`: the argument `days` is not of type integer")]),
        (call('{"city": ["Oslo"]}'), [("tool.misfit", "call 0 of `rain`: the argument `city` is not of type string")]),
    ],
)  # fmt: skip
def test_a_call_is_compared_with_the_tools(made, problems, tmp_path):
    turns = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [made]}, RESULT, ANSWER]
    assert found(tmp_path, turns) == [(code, 1, detail) for code, detail in problems]
    assert found(tmp_path, turns, None) == []


def test_types_that_are_not_those_of_json_schema_are_not_compared(tmp_path):
    tool = {"name": "rain", "parameters": {"properties": {"city": {"type": "str"}}, "additionalProperties": True}}
    turns = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [call({"city": 5, "zz": 1})]}, RESULT, ANSWER]
    assert found(tmp_path, turns, [tool]) == []


def test_calls_without_results(tmp_path):
    two = {"role": "assistant", "content": "", "tool_calls": [call({"city": "Oslo"}), call({"city": "Rome"})]}
    assert found(tmp_path, [QUESTION, two]) == []
    assert found(tmp_path, [QUESTION, two, RESULT, RESULT, ANSWER]) == []
    problem = ("tool.unanswered", 1, "1 of 2 calls have no result")
    assert problem in found(tmp_path, [QUESTION, two, RESULT, ANSWER])
    assert problem not in found(tmp_path, [QUESTION, two, RESULT])


@pytest.mark.parametrize("view", [{"mask": True}, {"to": "segments"}])
def test_a_row_without_trained_text_is_an_error_if_a_mask_is_asked_for(tmp_path, view):
    trained = {"messages": [QUESTION, ANSWER]}
    untrained = {"messages": [QUESTION, {**ANSWER, "train": False}]}
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, (trained, untrained, trained, untrained))
    with pytest.raises(CheckError, match="no text of the row is trained") as caught:
        chatfmt.convert(chatfmt.Recipe(source=str(source), template="chatml", **view), out, executor="serial")
    assert (caught.value.at.row, caught.value.code) == (1, "row.untrained")
    recipe = chatfmt.Recipe(source=str(source), template="chatml", on_error="skip", max_bad="100%", **view)
    assert chatfmt.convert(recipe, out, executor="serial").reasons == {"row.untrained": 2}
    recipe = chatfmt.Recipe(source=str(source), template="chatml")
    assert chatfmt.convert(recipe, out, executor="serial", overwrite=True).rows == 4


def test_the_summary_names_the_flag_for_arguments_that_are_encoded_twice(tmp_path):
    turns = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [call('{"city": "Oslo"}')]}, RESULT, ANSWER]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns, "tools": TOOLS}])
    arguments = ("convert", "in.jsonl", "-t", "qwen2.5", "--system", "s")
    run = run_here(*arguments, cwd=tmp_path).stderr.decode().splitlines()
    assert run[1:] == ["changed: system 1", "warnings: tool.encoded 1 (--transform arguments=object)"]
    mended = run_here(*arguments, *re.findall(r"\((.*)\)", run[2])[0].split(), cwd=tmp_path)
    assert b"warnings" not in mended.stderr and b'"arguments": {"city": "Oslo"}' in mended.stdout.replace(b"\\", b"")


def test_a_trainer_gets_no_integer_that_it_cannot_read(tmp_path):
    turns = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [call({"city": 10**20})]}, RESULT, ANSWER]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    plain = run_cli("convert", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path)
    assert (plain.returncode, plain.stderr.decode().splitlines()[-1]) == (0, "warnings: json.integer 1")
    refused = run_cli("convert", "in.jsonl", "--for", "trl-sft", "-o", "out", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.decode(), (tmp_path / "out").exists()) == (
        4,
        "error: in.jsonl row 0: `tool_calls` has an integer of more than 64 bits, 100000000000000000000 "
        "(message 1, line 1)\nhint: --transform arguments=text writes the arguments of calls as text\n",
        False,
    )
    text = ("--for", "trl-sft", "--transform", "arguments=text", "-o", "out")
    assert run_cli("convert", "in.jsonl", *text, cwd=tmp_path).returncode == 0
    rendered = run_cli("convert", "in.jsonl", "-t", "qwen3", cwd=tmp_path)
    assert (rendered.returncode, b"json.integer" in rendered.stderr) == (0, False)


def test_a_trainer_gets_no_such_integer_beside_the_messages(tmp_path):
    """In tools and in results there is nothing to type but what leaves the row out; the hint for a column works."""
    spec = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"maximum": 10**23}}}}
    results = [QUESTION, ANSWER, {"role": "tool", "content": {"n": 10**23}}, ANSWER]
    rows = {
        "kept": {"prompt": "q", "completion": "a", "a n": 10**23},
        "tools": {"messages": [QUESTION, ANSWER], "tools": [{"type": "function", "function": spec}], "meta": {"a": 1}},
        "content": {"messages": results},
    }
    for name, row in rows.items():
        write_rows(tmp_path / f"{name}.jsonl", [row])
    as_text = ("--map", 'a n={{ row["a n"] | tojson }}')
    hints = {"kept": f"{shlex.join(as_text)} writes it as text", "tools": SKIPPED, "content": SKIPPED}
    for name, hint in hints.items():
        shown = {"kept": "a n"}.get(name, name)
        at = "(message 2, line 1)" if name == "content" else "(line 1)"
        refused = run_cli("convert", f"{name}.jsonl", "--keep", "all", "--for", "trl-sft", "-o", "out", cwd=tmp_path)
        assert (refused.returncode, refused.stderr.decode()) == (
            4,
            f"error: {name}.jsonl row 0: `{shown}` has an integer of more than 64 bits, {10**23} {at}\nhint: {hint}\n",
        )
    kept = ("kept.jsonl", "--keep", "a n", "--for", "trl-sft")
    assert json.loads(run_cli("convert", *kept, *as_text, cwd=tmp_path).stdout)["a n"] == str(10**23)
    rendered = ("kept.jsonl", "--keep", "a n", "-t", "chatml")
    assert b"warnings: json.integer 1" in run_cli("convert", *rendered, cwd=tmp_path).stderr
    skipped = run_cli("convert", *rendered, *SKIPPED.split()[:4], cwd=tmp_path)
    assert skipped.stderr.startswith(b"error: the only row was rejected: 1 json.integer\n")
    rendered = ("--keep", "meta", "--for", "trl-sft", "-t", "qwen3", "-o", "out")
    shown = run_cli("convert", "tools.jsonl", *rendered, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, b"wrote 1 row to `out`, 1.1 kB\n")


SKIPPED = "--fail-on json.integer --on-error skip leaves such rows out"
