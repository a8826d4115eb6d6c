"""`--train-reasoning` and `--train-roles`, for templates with and without tags, in every view that carries a mask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chatfmt.render.template import builtin
from tests import conftest
from tests.conftest import ROOT, run_cli, succeed
from tests.render.templates import untagged

from ..conftest import read_rows, write_rows

TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "r"},
    {"role": "assistant", "content": "b", "reasoning_content": "why"},
]
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
END = "<|im_end|>"
EMPTY = "<think>\n\n</think>\n\n"
WHY = "<think>\nwhy\n</think>\n\n"
IMAGE = {"type": "image"}
THOUGHT = f"<think>\nwhy\n</think>\n\nb{END}"


def convert(folder, template, *flags):
    rows = [TURNS, TURNS[1:3]]
    write_rows(folder / "in.jsonl", [{"messages": turns} for turns in rows])
    text = run_cli("templates", "show", "qwen3").stdout.decode()
    (folder / "own.jinja").write_text(re.sub(r"\{%-? *(end)?generation *-?%\}", "", text))
    succeed(run_cli("convert", "in.jsonl", "-t", template, *flags, "-o", "out", "--format", "jsonl", cwd=folder))
    return read_rows(next((folder / "out/data").iterdir()))


@pytest.mark.parametrize(
    ("template", "flags", "first", "second"),
    [
        ("own.jinja", [], [f"a{END}", THOUGHT], [f"a{END}"]),
        ("own.jinja", ["--train-reasoning", "all"], [f"a{END}", THOUGHT], [f"<think>\n\n</think>\n\na{END}"]),
        ("qwen3", ["--train-reasoning", "all"], [f"a{END}", THOUGHT], [f"<think>\n\n</think>\n\na{END}"]),
        ("qwen3", ["--train-reasoning", "none"], [f"a{END}", f"b{END}"], [f"a{END}"]),
        ("qwen3", ["--train-roles", "user,assistant"],
         [f"q{END}", f"a{END}", f"r{END}", THOUGHT], [f"q{END}", f"a{END}"]),
        ("own.jinja", ["--train-roles", "user", "--mask-last"], [f"r{END}"], [f"q{END}"]),
    ],
)  # fmt: skip
def test_spans(template, flags, first, second, tmp_path):
    rows = convert(tmp_path, template, "--mask", *flags)
    assert [[row["text"][slice(*span)] for span in row["assistant_spans"]] for row in rows] == [first, second]


def test_segments_have_the_same_mask_and_the_manifest_says_so(tmp_path):
    rows = convert(tmp_path, "qwen3", "--to", "segments", "--train-roles", "system,user")
    trained = [[each["text"] for each in row["segments"] if each["label"]] for row in rows]
    assert trained == [[f"s{END}", f"q{END}", f"r{END}"], [f"q{END}"]]
    recipe = json.loads((tmp_path / "out/.chatfmt/manifest.json").read_text())["recipe"]
    assert (recipe["train_roles"], recipe["train_reasoning"]) == (["system", "user"], "generated")


@pytest.mark.parametrize(
    "flags", [["--mask-last"], ["--train-roles", "user"], ["--train-reasoning", "none"], ["--no-mask-stop-token"]]
)
def test_options_about_spans_are_refused_where_none_are_written(flags: list[str], tmp_path: Path) -> None:
    source = ROOT / "tests" / "data" / "reasoning.jsonl"
    for more, view, hint in (
        (["-t", "qwen3"], "text", "add --mask"),
        (["--for", "trl-sft"], "messages", "spans need a template and --mask, --to segments or --to tokens"),
    ):
        run = run_cli("convert", source, *more, *flags, "-o", "out.jsonl", cwd=tmp_path)
        told = f"`{flags[0]}` chooses the spans that are trained, and `--to {view}` writes none here"
        assert run.stderr.decode() == f"error: {source}: {told}\nhint: {hint}\n"
        assert (run.returncode, list(tmp_path.iterdir())) == (2, [])
    counted = run_cli("stats", source, "-t", "qwen3", *flags, "--json")
    plain = run_cli("stats", source, "-t", "qwen3", "--json")
    assert counted.returncode == 0 and counted.stdout != plain.stdout


CASES: list[tuple[str, list[tuple[str, Any]]]] = [
    ("exaone-4", [("user", "q"), ("assistant", "")]),
    ("mistral-v7", [("user", "q"), ("weighted", "a"), ("weighted", "b")]),
    ("qwen3", [("user", "q"), ("weighted", "a"), ("call", ""), ("tool", "r"), ("assistant", "")]),
    ("apertus", [("user", "q"), ("call", ""), ("tool", "r"), ("user", "s"), ("assistant", "t")]),
    ("falcon-3", [("user", "q"), ("call", "")]),
    ("chatml", [("user", "q"), ("assistant", EMPTY + "a")]),
    ("deepseek-r1-distill", [("user", "q"), ("assistant", "<think>\nb")]),
    ("qwen3-thinking-2507", [("user", "q\n"), ("assistant", "\n a"), ("user", "r"), ("assistant", "b")]),
    ("glm-4", [("user", "q"), ("assistant", WHY)]),
    ("llava-next", [("assistant", "a"), ("user", "q"), ("assistant", "b")]),
    ("llava", [("user", "q"), ("assistant", [IMAGE, {"type": "text", "text": "a"}])]),
    ("deepseek-v3.2", [("user", "q"), ("half", "a"), ("weighted", "b")]),
]
"""One conversation of each kind in which a file without tags once had other spans than the built-in template."""
MORE_CASES: list[tuple[str, list[tuple[str, Any]]]] = [
    ("mistral-v7", [("user", "q"), ("assistant", "a"), ("assistant", "b")]),
    ("gemma-4", [("user", "q"), ("call", ""), ("tool", "r"), ("user", "s"), ("assistant", "t")]),
    ("qwen3", [("user", "q"), ("assistant", EMPTY + "a"), ("user", "r"), ("assistant", EMPTY + "b")]),
    ("smollm3", [("user", "q"), ("assistant", EMPTY + "a")]),
    ("glm-5.2", [("user", "q"), ("assistant", EMPTY + "a")]),
    ("qwen3.8", [("user", "q"), ("assistant", EMPTY + "a"), ("user", "r"), ("assistant", EMPTY + "b")]),
    ("kimi-k2.5", [("user", "q"), ("assistant", EMPTY + "a")]),
    ("minimax-m2", [("user", "q"), ("assistant", "<think>\nb"), ("user", "r"), ("assistant", "c")]),
    ("qwen3.5", [("user", "q"), ("assistant", "<think>\nb"), ("user", "r"), ("assistant", "c")]),
    ("qwen3.5-small", [("user", "q"), ("assistant", "<think>\nb"), ("user", "r"), ("assistant", "c")]),
    ("qwen3.6", [("user", "q"), ("assistant", "<think>\nb"), ("user", "r"), ("assistant", "c")]),
    ("step-3.5", [("user", "q"), ("assistant", "<think>\nb"), ("user", "r"), ("assistant", "c")]),
    ("qwen3.5", [("user", "q"), ("assistant", WHY), ("user", "r"), ("assistant", "c")]),
    ("deepseek-v3.1", [("user", "q"), ("assistant", WHY)]),
    ("nemotron-nano-v2", [("user", "q"), ("call", "")]),
    ("nemotron-nano-v2", [("user", "q"), ("call", "a")]),
    ("nemotron-nano-v2", [("user", "q"), ("assistant", "<think>\na"), ("user", "r"), ("assistant", "b")]),
    ("mistral-v7", [("assistant", "a"), ("user", "q"), ("assistant", "b")]),
    ("glm-5.2", [("user", "q"), ("assistant", [{"type": "text", "text": "a"}, IMAGE])]),
    ("glm-4.7", [("user", "q"), ("call", ""), ("tool", [IMAGE, {"type": "text", "text": "r"}]), ("assistant", "a")]),
    ("gemma-4", [("user", "q"), ("call", ""), ("tool", [IMAGE, {"type": "text", "text": "r"}]), ("assistant", "a")]),
    ("gemma-4", [("user", "q"), ("untrained", "a"), ("tool", "r"), ("assistant", "b")]),
]


@pytest.mark.parametrize(("name", "turns"), [*CASES, *(MORE_CASES if conftest.FULL else [])])
def test_a_file_has_the_spans_of_the_built_in_template(name, turns, tmp_path):
    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "look", "arguments": {"place": "x"}}}
    weights = {"weighted": 1, "half": 0.5, "untrained": 0}
    messages = [
        {"role": "assistant", "content": text, "tool_calls": [call]} if role == "call"
        else {"role": "assistant", "content": text, "weight": weights[role]}
        | ({"tool_calls": [call]} if role == "untrained" else {}) if role in weights
        else {"role": role, "content": text} | ({"name": "look", "tool_call_id": "abcdefgh1"} if role == "tool" else {})
        for role, text in turns
    ]  # fmt: skip
    images = {"images": ["a.png"]} if any(IMAGE in content for _, content in turns if isinstance(content, list)) else {}
    write_rows(tmp_path / "in.jsonl", [{"messages": messages, "tools": [TOOL], **images}])
    known = builtin.find(name)
    tokens = [f"--var={key}={json.dumps(value)}" for key, value in known.special_tokens.items()]
    (tmp_path / "own.jinja").write_text(untagged(known.text))
    every = [[], ["--mask-last"], ["--train-roles", "user,assistant"]]
    for flags in every[len(turns) % 3 :][:1]:
        more = ["--mask", *flags, "--end", "eos", "--allow-loss", "all", "-q"]
        own = run_cli("convert", "in.jsonl", "-t", name, *more, cwd=tmp_path)
        file = run_cli("convert", "in.jsonl", "-t", "own.jinja", *tokens, *more, cwd=tmp_path)
        assert (own.returncode, file.returncode) == (0, 0), (own.stderr, file.stderr)
        assert file.stdout == own.stdout and json.loads(own.stdout)["assistant_spans"]
