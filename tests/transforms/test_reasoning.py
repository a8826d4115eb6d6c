"""A turn with different reasoning in two fields: every engine prints the same one, and the conflict is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_here, succeed

from ..conftest import write_rows

FILE = "{% for m in messages %}<{{ m.role }}>{{ m.reasoning_content or '' }}|{{ m.content }}{% endfor %}"


def convert(folder: Path, *flags: str, **fields: str) -> tuple[str, dict[str, Any]]:
    """The rendered text of one answer with these fields, and the summary of the run."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **fields}]
    write_rows(folder / "in.jsonl", [{"messages": turns}])
    (folder / "own.jinja").write_text(FILE)
    run = succeed(run_here("convert", "in.jsonl", *flags, "--json", "--overwrite", "-o", "out.jsonl", cwd=folder))
    return json.loads((folder / "out.jsonl").read_text())["text"], json.loads(run.stdout)


@pytest.mark.parametrize("engine", ["jinja", "trace", "auto"])
@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": "AAA", "reasoning": "BBB"},
        {"reasoning": "BBB", "thinking": "AAA"},
        {"thinking": "BBB", "reasoning_content": "AAA"},
        {"reasoning": "BBB", "thinking": "CCC", "reasoning_content": "AAA"},
    ],
)
def test_the_same_field_is_printed_from_the_field_and_inline(engine, fields, tmp_path):
    flags = ("-t", "qwen3", "--engine", engine)
    text, summary = convert(tmp_path, *flags, **fields)
    assert "<think>\nAAA\n</think>\n\na" in text and summary["findings"] == {"msg.reasoning_conflict": 1}
    inline, summary = convert(tmp_path, *flags, "--transform", "reasoning=inline", **fields)
    assert inline == text and summary["changes"] == {"reasoning": 1, "reasoning.conflict": 1}


@pytest.mark.parametrize("isolation", ["off", "auto"])
@pytest.mark.parametrize("engine", ["jinja", "trace"])
def test_a_template_file_prints_the_same_field(engine, isolation, tmp_path):
    flags = ("-t", "own.jinja", "--engine", engine, "--template-isolation", isolation)
    text, summary = convert(tmp_path, *flags, thinking="AAA", reasoning="BBB")
    assert (text, summary["findings"]) == ("<user>|q<assistant>AAA|a", {"msg.reasoning_conflict": 1})
    text, summary = convert(tmp_path, *flags, "--transform", "reasoning=inline", thinking="AAA", reasoning="BBB")
    assert text == "<user>|q<assistant>|<think>\nAAA\n</think>\n\na"
    assert summary["changes"] == {"reasoning": 1, "reasoning.conflict": 1}


@pytest.mark.parametrize("flags", [(), ("--transform", "reasoning=inline")])
def test_equal_reasoning_is_no_conflict(flags, tmp_path):
    text, summary = convert(tmp_path, "-t", "qwen3", *flags, thinking="AAA", reasoning="AAA")
    assert "AAA" in text and summary["findings"] == {} and "reasoning.conflict" not in summary["changes"]


def test_check_names_the_turn_and_both_fields(tmp_path):
    convert(tmp_path, "-t", "qwen3", thinking="AAA", reasoning="BBB")
    run = run_here("check", "in.jsonl", "--json", cwd=tmp_path)
    (problem,) = json.loads(run.stdout)["problems"]
    assert (problem["code"], problem["row"], problem["message"]) == ("msg.reasoning_conflict", 0, 1)
    assert problem["detail"] == "`thinking` and `reasoning` differ, and templates print one of them"
    assert run_here("check", "in.jsonl", "--fail-on", "msg.reasoning_conflict", cwd=tmp_path).returncode == 1


def test_convert_shows_both_counts(tmp_path):
    convert(tmp_path, "-t", "qwen3", thinking="AAA", reasoning="BBB")
    command = ("convert", "in.jsonl", "-t", "qwen3", "--overwrite", "-o", "out.jsonl")
    assert b"msg.reasoning_conflict 1" in run_here(*command, cwd=tmp_path).stderr
    assert b"reasoning.conflict 1" in run_here(*command, "--transform", "reasoning=inline", cwd=tmp_path).stderr
