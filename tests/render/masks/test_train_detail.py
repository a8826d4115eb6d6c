"""`train_detail`: the parts of an answer that are trained, in every view that carries spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ...conftest import run_here, succeed, write_rows

TEMPLATES = {
    "chatml": "<|im_end|>", "qwen3": "<|im_end|>", "llama-3.1": "<|eot_id|>", "gemma-3": "<end_of_turn>",
    "mistral-v7": "</s>",
}  # fmt: skip
CONTENT = "Zürich 🚆, no: Genève. Yes"


def part(begin: int, end: int, train: bool) -> dict[str, Any]:
    return {"begin_offset": begin, "end_offset": end, "train": train}


def trained(folder: Path, turns: list[dict[str, Any]], *flags: str) -> list[str]:
    write_rows(folder / "in.jsonl", [{"messages": turns}])
    run = succeed(run_here("convert", "in.jsonl", *flags, "--mask", cwd=folder))
    row = json.loads(run.stdout)
    return [row["text"][start:end] for start, end in row["assistant_spans"]]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("key", ["train_detail", "training_detail"])
def test_parts_of_an_answer(template: str, key: str, tmp_path: Path) -> None:
    parts = [part(0, 5, True), part(6, 13, False), part(14, 20, True)]
    turns = [
        {"role": "user", "content": CONTENT},
        {"role": "assistant", "content": CONTENT, key: parts},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "That is all."},
    ]
    stop, (*found, last) = TEMPLATES[template], trained(tmp_path, turns, "-t", template)
    assert found == ["Zürich", "Genève.", stop]
    assert last.lstrip(" ") == f"That is all.{stop}"


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"train_detail": [part(0, 6, True)]}, ["aaa bbb<|im_end|>"]),
        ({"train_detail": [part(0, 6, False)]}, ["<|im_end|>"]),
        ({"train_detail": [part(0, 3, True), part(2, 4, True)]}, ["aaa b", "<|im_end|>"]),
        ({"train_detail": [part(0, 2, True)], "train": False}, []),
        ({"train_detail": []}, []),
        ({"train_detail": None}, ["aaa bbb<|im_end|>"]),
    ],
)
def test_what_a_detail_means(keys: dict[str, Any], found: list[str], tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "aaa bbb", **keys}]
    turns += [{"role": "user", "content": "q"}, {"role": "assistant", "content": "end"}]
    assert trained(tmp_path, turns, "-t", "chatml") == [*found, "end<|im_end|>"]


def test_other_views_and_calls(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "aaa bbb", "train_detail": [part(3, 6, True)]}
    write_rows(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "q"}, answer]}])
    run = run_here("convert", "in.jsonl", "-t", "chatml", "--to", "segments", cwd=tmp_path)
    segments = json.loads(run.stdout)["segments"]
    assert [segment["text"] for segment in segments if segment["label"]] == [" bbb<|im_end|>"]
    refused = run_here("convert", "in.jsonl", "-t", "chatml", cwd=tmp_path)
    assert refused.stderr.decode() == (
        "error: in.jsonl: `messages[].train_detail` looks like what to train on, and would be left behind\n"
        "hint: --mask trains those parts alone; --drop messages.train_detail leaves it behind\n"
    )
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = [{"role": "user", "content": "q"}, {**answer, "tool_calls": [call], "reasoning_content": "Hm."}]
    assert "".join(trained(tmp_path, turns, "-t", "qwen3")) == (
        ' bbb\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>'
    )


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ([part(0, 7, True)], "a part of `train_detail` is from 0 to 7, and the content has 7 characters"),
        ([part(2, 1, True)], "a part of `train_detail` is from 2 to 1, and the content has 7 characters"),
        ([{"begin_offset": 0, "end_offset": 1}],
         "a part of `train_detail` needs `begin_offset`, `end_offset` and `train`"),
        ({"begin_offset": 0}, "`train_detail` of a message is not a list of parts"),
    ],
)  # fmt: skip
def test_details_that_make_no_sense(detail: Any, message: str, tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "aaa bbb", "train_detail": detail}
    write_rows(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "q"}, answer]}])
    run = run_here("convert", "in.jsonl", "-t", "chatml", "--mask", cwd=tmp_path)
    assert run.returncode == 4 and message in run.stderr.decode()


@pytest.mark.parametrize(
    ("content", "begin", "end", "template", "found"),
    [
        ("  aaa bbb", 0, 4, "gemma-3", ["aaa", "<end_of_turn>"]),
        ("  aaa bbb", 6, 8, "gemma-3", ["bbb<end_of_turn>"]),
        ("  aaa bbb \n", 7, 10, "gemma-3", ["bb<end_of_turn>"]),
        ("  aaa bbb \n", 0, 3, "chatml", ["  aa", "<|im_end|>"]),
        ("<think>\naa\n</think>\n\nbbb", 8, 9, "chatml", ["aa", "<|im_end|>"]),
        ("<think>\naa\n</think>\n\nbbb", 22, 23, "qwen3", ["bb<|im_end|>"]),
        ("so <think>aa</think> bbb", 1, 11, "chatml", ["o <think>aa", "<|im_end|>"]),
    ],
)
def test_parts_of_content_with_blanks_around_it_or_with_reasoning(
    content: str, begin: int, end: int, template: str, found: list[str], tmp_path: Path
) -> None:
    answer = {"role": "assistant", "content": content, "train_detail": [part(begin, end, True)]}
    assert trained(tmp_path, [{"role": "user", "content": "q"}, answer], "-t", template) == found


@pytest.mark.parametrize(
    ("template", "content"),
    [
        ("deepseek-r1-distill", "<think>\naa\n</think>\n\nbbb"),
        ("{% for m in messages %}{{ m.content | replace('aaa', 'a') }}<|im_end|>{% endfor %}", "aaa bbb"),
    ],
)
def test_a_template_that_changes_the_content_is_refused(template: str, content: str, tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": content, "train_detail": [part(0, 4, True)]}
    write_rows(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "q"}, answer]}])
    flags = ("-t", template, "--mask", "--allow-loss", "all")
    run = run_here("convert", "in.jsonl", *flags, cwd=tmp_path)
    assert run.returncode == 4 and "the template changes the content" in run.stderr.decode()


@pytest.mark.parametrize("key", ["train_detail", "training_detail"])
def test_parts_of_a_turn_that_is_not_trained_are_refused(key: str, tmp_path: Path) -> None:
    question = {"role": "user", "content": "q", key: [part(0, 0, True)]}
    turns = [question, {"role": "assistant", "content": "a"}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    run = run_here("convert", "in.jsonl", "-t", "chatml", "--to", "segments", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        4,
        f"error: in.jsonl row 0: `{key}` names parts to train in a turn of the role `user`, which is not trained "
        f"(message 0, line 1)\nhint: leave out the key, as with --drop messages.{key}\n",
    )
    assert trained(tmp_path, turns, "-t", "chatml", "--drop", f"messages.{key}") == ["a<|im_end|>"]
    for silent in ({"train": False}, {key: [part(0, 0, False)]}):
        assert trained(tmp_path, [{**question, **silent}, turns[1]], "-t", "chatml") == ["a<|im_end|>"]
